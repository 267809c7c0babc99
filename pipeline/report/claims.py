"""The paper's claims, each with a criterion that was stated first and a verdict that follows.

A claim is judged in findings: one for each data set, architecture and pair of models that says
something about it. Nothing here knows what the verdicts should be.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import pandas

from pipeline.config import REFERENCE, Params
from pipeline.data import IMAGE_SETS
from pipeline.equivalence import (
    ALPHA,
    MARGIN,
    POWER,
    paired_test,
    power,
    seeds_needed,
    untestable,
)
from pipeline.labels import model_name
from pipeline.report.evidence import VERIFY, Evidence
from pipeline.summary import CONFIDENCE, confidence_interval

SUPPORTED, NOT_SUPPORTED = "supported", "not supported"
INCONCLUSIVE, NOT_TESTED = "inconclusive", "not tested here"

IDENTICAL, EQUIVALENT, INFERIOR = (
    "updates_are_identical",
    "training_is_near_identical",
    "target_propagation_is_not",
)


@dataclass(frozen=True)
class Finding:
    """What one comparison says of a claim.

    Attributes:
        about: what was compared, for readers.
        case: the same for programs: dataset, architecture, model, against; empty for the theorem.
        verdict: one of the four.
        reason: why it was not tested; "" if it was.
        numbers: what the verdict follows from; differences as fractions of 1.
        differences: to the other model, by seed, as fractions of 1.
    """

    about: str
    case: Mapping[str, str]
    verdict: str
    reason: str = ""
    numbers: Mapping[str, Any] = field(default_factory=dict)
    differences: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Claim:
    """A claim of the paper.

    Attributes:
        name: for programs.
        statement: what the paper claims.
        criterion: when it counts as supported, and when as not.
        command: that makes what it is judged by.
        findings: one at least.
    """

    name: str
    statement: str
    criterion: str
    command: str
    findings: list[Finding]


def judge(evidence: Evidence) -> list[Claim]:
    """Every claim, judged from the evidence alone."""
    points = f"{100 * MARGIN:g} percentage point"
    narrow, wide = (
        f"{100 * share:g} % confidence interval" for share in (1 - 2 * ALPHA, CONFIDENCE)
    )
    return [
        Claim(
            IDENTICAL,
            "Where the weight matrices are orthogonal, GAIT-prop's updates are backpropagation's.",
            "Supported if the largest relative difference to autograd, over all layers, depths and"
            " networks, stays below the tolerance of each precision (float64 and float32), on"
            " the samples of which no unit is pushed across the activation's kink. Not supported"
            " if it exceeds one.",
            VERIFY,
            [_identical(evidence.verification)],
        ),
        Claim(
            EQUIVALENT,
            "With the soft orthogonality regularizer, GAIT-prop trains near-identically to"
            " backpropagation.",
            f"Near-identically: mean test accuracies less than {points} apart. Supported if two"
            f" one-sided t tests, paired over the seeds, both reject a difference of {points} or"
            f" more at the level {ALPHA:g}: the {narrow} is then within ±{points}. Not supported if"
            " that interval is wholly outside. Inconclusive otherwise.",
            "gait repro",
            [
                _equivalent(evidence, case)
                for case in _cases(evidence, ("gait",), (REFERENCE, "bp"))
            ],
        ),
        Claim(
            INFERIOR,
            "Plain target propagation (TP), and its incremental form without GAIT-prop's factor"
            " (ITP), do not.",
            f"Supported if the {wide} (Student's t, paired over the seeds) of the difference in"
            f" test accuracy lies wholly below −{points}. Not supported if it lies wholly above."
            " Inconclusive otherwise.",
            "gait repro",
            [_inferior(evidence, case) for case in _cases(evidence, ("tp", "itp"), (REFERENCE,))],
        ),
    ]


def as_document(params: Params, claims: list[Claim]) -> dict[str, Any]:
    """For programs; numbers that do not exist are null."""
    return {
        "claims": [_plain(asdict(claim)) for claim in claims],
        "profile": params.profile,
        "settings": {
            "alpha": ALPHA,
            "confidence": CONFIDENCE,
            "margin": MARGIN,
            "power": POWER,
        },
    }


def _cases(
    evidence: Evidence, models: tuple[str, ...], others: tuple[str, ...]
) -> list[dict[str, str]]:
    run = evidence.params.run
    names = ("dataset", "architecture", "model", "against")
    cases = itertools.product(run.datasets, run.architectures, models, others)
    return [dict(zip(names, case, strict=True)) for case in cases]


def _identical(verification: Mapping[str, Any] | None) -> Finding:
    about = "GAIT-prop in the stable form against autograd"
    if verification is None:
        return Finding(about, {}, NOT_TESTED, "there is no results/verify/verify.json")
    tolerances = verification["settings"]["tolerances"]
    rows = [row for row in verification["comparisons"] if row["rule"] == "gait"]
    worst = {
        name: max((size(row["stable"]) for row in rows if row["precision"] == name), default=None)
        for name in tolerances
    }
    if not all(worst.values()):
        return Finding(about, {}, NOT_TESTED, "it compares no GAIT-prop in some precision")
    numbers = {
        "largest": worst,
        "hidden_layers": max(row["hidden_layers"] for row in rows),
        "networks": len(rows) // len(tolerances),
        "left_out": sum(row["left_out"] for row in rows),
        "samples": sum(row["samples"] for row in rows),
        "seeds": len(verification["settings"]["seeds"]),
        "tolerances": tolerances,
    }
    return Finding(about, {}, theorem_verdict(rows, tolerances), "", numbers)


def _equivalent(evidence: Evidence, case: dict[str, str]) -> Finding:
    finding, values = _compared(evidence, case)
    if finding.reason:
        return finding
    found = paired_test(values)
    verdict = SUPPORTED if found.shown else NOT_SUPPORTED if found.refuted else INCONCLUSIVE
    numbers = {
        **finding.numbers,
        **asdict(found),
        "power": power(found.seeds, found.deviation),
        "seeds_needed": seeds_needed(found.deviation),
    }
    return replace(finding, verdict=verdict, numbers=numbers)


def _inferior(evidence: Evidence, case: dict[str, str]) -> Finding:
    finding, _ = _compared(evidence, case)
    if finding.reason:
        return finding
    numbers = finding.numbers
    below, above = numbers["difference_high"] < -MARGIN, numbers["difference_low"] > -MARGIN
    verdict = SUPPORTED if below else NOT_SUPPORTED if above else INCONCLUSIVE
    return replace(finding, verdict=verdict)


def _compared(evidence: Evidence, case: dict[str, str]) -> tuple[Finding, list[float]]:
    """The differences of a pair of models; a reason where they say nothing."""
    params = evidence.params
    finding = Finding(_about(params, **case), case, NOT_TESTED)
    if why := _incomparable(params, case["model"], case["against"]):
        return replace(finding, reason=why), []
    differences = _differences(evidence.seeds, **case)
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
    for each in {model, other} - {REFERENCE}:
        if each not in params.run.rules:
            return f"this profile trains no {model_name(params, each)}"
    if other == REFERENCE:
        return None
    ours, theirs = (params.settings_of(each).orthogonality for each in (model, other))
    if ours != theirs:
        return f"their regularizers differ: λ = {ours:g} and {theirs:g}"
    return None


def _about(params: Params, dataset: str, architecture: str, model: str, against: str) -> str:
    several = len(params.run.datasets) * len(params.run.architectures) > 1
    case = f"{IMAGE_SETS[dataset].title}, {architecture}: " if several else ""
    regularizer = (
        f"λ = {params.reference.orthogonality:g}"
        if against == REFERENCE
        else "the same regularizer"
    )
    return f"{case}{model_name(params, model)} against BP with {regularizer}"


def _differences(
    seeds: pandas.DataFrame, dataset: str, architecture: str, model: str, against: str
) -> pandas.Series:
    case = seeds[(seeds.dataset == dataset) & (seeds.architecture == architecture)]
    ours, theirs = (
        case[case.model == name].set_index("seed").test_accuracy for name in (model, against)
    )
    return ours - theirs


def theorem_verdict(rows: Iterable[Mapping[str, Any]], tolerances: Mapping[str, float]) -> str:
    """Whether every difference of the stable form is below its precision's tolerance."""
    good = all(size(row["stable"]) < tolerances[row["precision"]] for row in rows)
    return SUPPORTED if good else NOT_SUPPORTED


def size(difference: float | None) -> float:
    """`gait verify` writes null for what is not finite."""
    return math.inf if difference is None else difference


def _plain(value: Any) -> Any:
    """JSON's own kinds alone; six digits, since the last bits of a mean are the machine's."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
