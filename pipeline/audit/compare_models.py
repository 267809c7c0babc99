"""Compared models side by side: settings that differ, figures, and differences to the first one."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from scipy import stats

from pipeline.audit.compare_sources import KNOWN_TO_SOME, METRICS, Compared, ComparedModel
from pipeline.project.errors import GaitError
from pipeline.results.equivalence import untestable
from pipeline.results.summary_tables import CONFIDENCE, confidence_interval

# Where a comparison is of single models, whatever each is called.
ONLY = "the models"
_LOSS = "training.loss"


def compare(subjects: Sequence[Compared]) -> list[dict[str, Any]]:
    """One comparison for each model that several subjects have, or one of all if each has one.

    GaitError if they have no model in common.

    Each has ``model``, ``settings`` (a row for each that differs: name, then a value a subject)
    and ``rows``, a subject each: ``name``, ``metrics`` with n, mean, deviation, and the
    ``difference`` to the first subject that has the model (mean, low, high, n, paired), ``curve``.
    """
    if all(len(each.models) == 1 for each in subjects):
        return [_of_one(ONLY, [(s.name, next(iter(s.models.values()))) for s in subjects])]
    # By data set, architecture and model; else, say of two data sets, by the last two or one.
    for parts in (3, 2, 1):
        shared: dict[str, list[tuple[str, ComparedModel]]] = {}
        for subject in subjects:
            short = {"/".join(key.split("/")[-parts:]): key for key in subject.models}
            for name, key in short.items() if len(short) == len(subject.models) else ():
                shared.setdefault(name, []).append((subject.name, subject.models[key]))
        if found := [_of_one(name, each) for name, each in shared.items() if len(each) > 1]:
            return found
    names = "; ".join(f"{each.name}: {', '.join(each.models)}" for each in subjects)
    raise GaitError(f"there is no model that two of them have ({names})")


def left_out(subjects: Sequence[Compared], comparisons: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence for each subject that has models which are compared with no other one's."""
    shared = [(str(each["model"]), [row["name"] for row in each["rows"]]) for each in comparisons]
    if [name for name, _ in shared] == [ONLY]:
        return []
    alone = {
        subject.name: [
            key
            for key in subject.models
            if not any(
                subject.name in compared and f"/{key}".endswith(f"/{name}")
                for name, compared in shared
            )
        ]
        for subject in subjects
    }
    return [f"not compared of {name}: {', '.join(keys)}" for name, keys in alone.items() if keys]


def interval(first: Mapping[int, float], second: Mapping[int, float]) -> dict[str, Any] | None:
    """``second`` minus ``first``: paired over the seeds that both have, else by Welch's interval.

    Returns:
        mean, low, high (95 %; None where there is no spread), n (pairs, or values of the second),
        paired; None if one of them has no value.
    """
    if not first or not second:
        return None
    if common := sorted(first.keys() & second.keys()):
        mean, low, high = confidence_interval([second[seed] - first[seed] for seed in common])
    else:
        a, b = list(first.values()), list(second.values())
        mean = math.fsum(b) / len(b) - math.fsum(a) / len(a)
        low = high = math.nan
        if min(len(a), len(b)) > 1 and not (untestable(a) and untestable(b)):
            whole = stats.ttest_ind(b, a, equal_var=False).confidence_interval(CONFIDENCE)
            low, high = float(whole.low), float(whole.high)
    ends = {"low": None, "high": None} if math.isnan(low) else {"low": low, "high": high}
    return {"mean": mean, **ends, "n": len(common or second), "paired": bool(common)}


def _of_one(key: str, models: Sequence[tuple[str, ComparedModel]]) -> dict[str, Any]:
    _, base = models[0]
    names = dict.fromkeys(name for _, each in models for name in each.settings)
    loss = base.settings.get(_LOSS)

    def base_of(metric: str, each: ComparedModel) -> Mapping[int, float]:
        # What different losses say is not on one scale.
        other = metric.endswith("loss") and each.settings.get(_LOSS) != loss
        return {} if other else base.seeds.get(metric, {})

    settings = [[name, *(each.settings.get(name) for _, each in models)] for name in names]
    return {
        "model": key,
        "settings": [row for row in settings if _differs(row)],
        "rows": [
            {
                "name": name,
                "metrics": {
                    metric: _figures(each.seeds.get(metric, {}), base_of(metric, each), at > 0)
                    for metric in METRICS
                    if any(metric in other.seeds for _, other in models)
                },
                "curve": {str(epoch): value for epoch, value in each.curve.items()},
            }
            for at, (name, each) in enumerate(models)
        ],
    }


def _differs(row: Sequence[Any]) -> bool:
    name, *values = row
    known = [each for each in values if each is not None or name not in KNOWN_TO_SOME]
    return any(each != known[0] for each in known)


def _figures(values: Mapping[int, float], base: Mapping[int, float], later: bool) -> dict[str, Any]:
    each = list(values.values())
    return {
        "n": len(each),
        "mean": math.fsum(each) / len(each) if each else None,
        "deviation": statistics.stdev(each) if len(each) > 1 else None,
        "difference": interval(base, values) if later else None,
    }
