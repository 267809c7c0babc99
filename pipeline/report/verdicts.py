"""What single comparisons say: a verdict each, from the numbers alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import EntryPoint
from typing import Any

from gaitprop import plugins
from pipeline.figures.panels import case_title
from pipeline.params.labels import model_name, regularizer_of, rule_name
from pipeline.params.schema import REFERENCE, Params
from pipeline.report.evidence import Evidence
from pipeline.results import seeds_table
from pipeline.results.equivalence import (
    MARGIN,
    deviation_interval,
    paired_test,
    power,
    seeds_needed,
    untestable,
)
from pipeline.results.summary_tables import confidence_interval, paired_differences

SUPPORTED, NOT_SUPPORTED = "supported", "not supported"
INCONCLUSIVE, NOT_TESTED = "inconclusive", "not tested here"


@dataclass(frozen=True)
class Finding:
    """What one comparison says of a claim; differences are fractions of 1."""

    about: str  # what was compared, for readers
    # The same for programs: dataset, architecture, model, against; empty for the theorem.
    case: Mapping[str, str]
    verdict: str  # one of the four
    reason: str = ""  # why it was not tested
    numbers: Mapping[str, Any] = field(default_factory=dict)  # what the verdict follows from
    differences: Mapping[int, float] = field(default_factory=dict)  # to the other model, by seed


def identical(verification: Mapping[str, Any] | None) -> Finding:
    """GAIT-prop's updates in the stable form against autograd's, as `gait verify` measured them."""
    about = "GAIT-prop in the stable form against autograd"
    if verification is None:
        return Finding(about, {}, NOT_TESTED, "there is no results/verify/verify.json")
    rows = [row for row in verification["comparisons"] if row["rule"] == "gait"]
    by_precision = {
        name: [row for row in rows if row["precision"] == name] for name in ("float64", "float32")
    }
    if not all(by_precision.values()):
        return Finding(about, {}, NOT_TESTED, "it compares no GAIT-prop in some precision")
    numbers = {
        "largest": {
            name: max(size(row["stable"]) for row in chosen)
            for name, chosen in by_precision.items()
        },
        "share_of_tolerance": {
            name: max(size(row["stable"]) / row["tolerance"] for row in chosen)
            for name, chosen in by_precision.items()
        },
        "hidden_layers": max(row["hidden_layers"] for row in rows),
        "networks": len(by_precision["float64"]),
        "left_out": sum(row["left_out"] for row in rows),
        "samples": sum(row["samples"] for row in rows),
        "seeds": len(verification["settings"]["seeds"]),
    }
    return Finding(about, {}, theorem_verdict(rows), "", numbers)


def equivalent(evidence: Evidence, case: dict[str, str]) -> Finding:
    """Whether two models are equally good to within the margin, by two one-sided tests."""
    finding, values = _compared(evidence, case)
    if finding.reason:
        return finding
    found = paired_test(values)
    verdict = SUPPORTED if found.shown else NOT_SUPPORTED if found.refuted else INCONCLUSIVE
    # A few seeds say little of the spread: what follows from it has an interval of its own.
    small, large = deviation_interval(found.seeds, found.deviation)
    numbers = {
        **finding.numbers,
        **asdict(found),
        "power": power(found.seeds, found.deviation, found.mean),
        "power_low": power(found.seeds, large, found.mean),
        "power_high": power(found.seeds, small, found.mean),
        "seeds_needed": seeds_needed(found.deviation, found.mean),
        "seeds_needed_high": seeds_needed(large, found.mean),
    }
    return replace(finding, verdict=verdict, numbers=numbers)


def inferior(evidence: Evidence, case: dict[str, str]) -> Finding:
    """Whether a model is worse than another by more than the margin, by the interval."""
    finding, _ = _compared(evidence, case)
    if finding.reason:
        return finding
    numbers = finding.numbers
    below, above = numbers["difference_high"] < -MARGIN, numbers["difference_low"] > -MARGIN
    verdict = SUPPORTED if below else NOT_SUPPORTED if above else INCONCLUSIVE
    return replace(finding, verdict=verdict)


def without_entry(rule: str, entry: EntryPoint) -> Finding:
    """A rule that a package offers, and that this profile cannot train."""
    reason = f"{plugins.told(entry)} is installed, but params.yaml has no entry for it under rules"
    return Finding(f"{rule_name(rule)} against BP", {}, NOT_TESTED, reason)


def _compared(evidence: Evidence, case: dict[str, str]) -> tuple[Finding, list[float]]:
    """The differences of a pair of models; a reason where they say nothing."""
    params = evidence.params
    finding = Finding(_about(params, **case), case, NOT_TESTED)
    if why := _incomparable(params, case["model"], case["against"]):
        return replace(finding, reason=why), []
    seeds = seeds_table.of_case(evidence.seeds, case["dataset"], case["architecture"])
    differences = paired_differences(seeds, case["model"], case["against"])
    values = [float(value) for value in differences]
    mean, low, high = confidence_interval(values)
    finding = replace(
        finding,
        reason=untestable(values) or "",
        numbers={
            "seeds": len(values),
            "mean": mean,
            "difference_low": low,
            "difference_high": high,
        },
        differences=dict(zip(map(int, differences.index), values, strict=True)),
    )
    return finding, values


def _incomparable(params: Params, model: str, other: str) -> str | None:
    for each in (model, other):
        if each not in (REFERENCE, *params.run.rules):
            return f"this profile trains no {model_name(params, each)}"
    if other == REFERENCE:
        return None
    ours, theirs = (regularizer_of(params, each, "λ = ") for each in (model, other))
    if ours != theirs:
        return f"their regularizers differ: {ours} and {theirs.removeprefix('λ = ')}"
    return None


def _about(params: Params, dataset: str, architecture: str, model: str, against: str) -> str:
    several = len(params.run.datasets) * len(params.run.architectures) > 1
    case = f"{case_title(dataset, architecture)}: " if several else ""
    other = f"BP with {regularizer_of(params, REFERENCE, 'λ = ')}"
    if against != REFERENCE:
        other = f"{model_name(params, against)} with the same regularizer"
    return f"{case}{model_name(params, model)} against {other}"


def theorem_verdict(rows: Iterable[Mapping[str, Any]]) -> str:
    """Whether every difference of the stable form is below its network's tolerance."""
    good = all(size(row["stable"]) < row["tolerance"] for row in rows)
    return SUPPORTED if good else NOT_SUPPORTED


def size(difference: float | None) -> float:
    """`gait verify` writes null for what is not finite."""
    return math.inf if difference is None else difference
