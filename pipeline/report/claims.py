"""The paper's claims, each with a criterion that was stated first and verdicts that follow.

A claim is judged in findings: one for each data set, architecture and pair of models that says
something about it. Nothing here knows what the verdicts should be.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from gaitprop.rules import other_rules
from pipeline.params.labels import regularizer_of
from pipeline.params.schema import REFERENCE, Params
from pipeline.report.evidence import VERIFY, Evidence
from pipeline.report.verdicts import Finding, equivalent, identical, inferior, without_entry
from pipeline.results.equivalence import ALPHA, MARGIN, POWER
from pipeline.results.summary_tables import CONFIDENCE

IDENTICAL, EQUIVALENT, INFERIOR, OTHERS = (
    "updates_are_identical",
    "training_is_near_identical",
    "target_propagation_is_not",
    "other_rules_train_as_well",
)
# What the paper itself speaks of.
_PAPER = ("bp", "gait", "itp", "tp")


@dataclass(frozen=True)
class Claim:
    """A claim of the paper."""

    name: str  # for programs
    statement: str
    criterion: str  # when it counts as supported, and when as not
    command: str  # that makes what it is judged by
    findings: list[Finding]  # one at least


def judge(evidence: Evidence) -> list[Claim]:
    """Every claim, judged from the evidence alone."""
    params = evidence.params
    points = f"{100 * MARGIN:g} percentage point"
    narrow, wide = (
        f"{100 * share:g} % confidence interval" for share in (1 - 2 * ALPHA, CONFIDENCE)
    )
    near = (
        f"Near-identically: mean test accuracies less than {points} apart. Supported if two"
        f" one-sided t tests, paired over the seeds, both reject a difference of {points} or"
        f" more at the level {ALPHA:g}: the {narrow} is then within ±{points}. Not supported if"
        " that interval is wholly outside. Inconclusive otherwise."
    )
    found = [
        Claim(
            IDENTICAL,
            "Where the weight matrices are orthogonal, GAIT-prop's updates are backpropagation's.",
            "Supported if the largest relative difference to autograd, over all layers, depths and"
            " networks, stays below what rounding may make of it in each network and precision"
            " (float64 and float32), on the samples of which no unit is pushed across the"
            " activation's kink. Not supported if one exceeds that.",
            VERIFY,
            [identical(evidence.verification)],
        ),
        Claim(
            EQUIVALENT,
            "GAIT-prop trains near-identically to backpropagation. (The paper says so of the soft"
            " regularizer; each GAIT-prop model of the profile is tested, whatever it has.)",
            near,
            "gait repro",
            [equivalent(evidence, case) for case in _near_bp(params)],
        ),
        Claim(
            INFERIOR,
            "Plain target propagation (TP), and its incremental form without GAIT-prop's factor"
            " (ITP), do not.",
            f"Supported if the {wide} (Student's t, paired over the seeds) of the difference in"
            f" test accuracy lies wholly below −{points}. Not supported if it lies wholly above."
            " Inconclusive otherwise.",
            "gait repro",
            [
                inferior(evidence, case)
                for case in _cases(params, _of_rules(params, "tp", "itp"), (REFERENCE,))
            ],
        ),
    ]
    others = [each for each in params.run.rules if params.rule_of(each) not in _PAPER]
    findings = [equivalent(evidence, case) for case in _cases(params, others, (REFERENCE,))]
    # Those that packages offer here, and that params.yaml says nothing of.
    findings += [
        without_entry(rule, entry)
        for rule, entry in other_rules().items()
        if rule not in params.rules
    ]
    if findings:
        statement = (
            "Other rules train near-identically to backpropagation, too. (No claim of the paper's:"
            " each rule that this profile trains is tested, whoever offers it.)"
        )
        found.append(Claim(OTHERS, statement, near, "gait repro", findings))
    return found


def as_document(params: Params, claims: list[Claim]) -> dict[str, Any]:
    """For programs; numbers that do not exist are null."""
    return {
        "claims": [_plain(asdict(claim)) for claim in claims],
        "profile": params.profile,
        "settings": {"alpha": ALPHA, "confidence": CONFIDENCE, "margin": MARGIN, "power": POWER},
    }


def _of_rules(params: Params, *rules: str) -> list[str]:
    """The models of each rule, or its name where the profile has none: it is said to lack it."""
    found = []
    for rule in rules:
        found += [each for each in params.run.rules if params.rule_of(each) == rule] or [rule]
    return found


def _near_bp(params: Params) -> list[dict[str, str]]:
    """GAIT-prop against BP without a regularizer, and against BP with its own.

    Of several such models of BP those at its learning rate are meant, if there are any.
    """
    found = []
    for model in _of_rules(params, "gait"):
        twins = ["bp"]
        if model != "gait":
            own, rate = _held(params, model), params.settings_of(model).learning_rate
            near = [each for each in params.run.rules if _held(params, each) == own]
            twins = [each for each in near if params.rule_of(each) == "bp"]
            same = [each for each in twins if params.settings_of(each).learning_rate == rate]
            twins = same or twins
        found += _cases(params, [model], (REFERENCE, *twins))
    return found


def _held(params: Params, model: str) -> tuple[str, float | None]:
    """What holds the weights near orthogonal, and what makes up for it in the loss."""
    return regularizer_of(params, model), params.settings_of(model).output_gain


def _cases(params: Params, models: Sequence[str], others: Sequence[str]) -> list[dict[str, str]]:
    names = ("dataset", "architecture", "model", "against")
    cases = itertools.product(params.run.datasets, params.run.architectures, models, others)
    return [dict(zip(names, case, strict=True)) for case in cases]


def _plain(value: Any) -> Any:
    """JSON's own kinds alone; six digits, since the last bits of a mean are the machine's."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
