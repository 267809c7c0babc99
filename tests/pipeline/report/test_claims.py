"""Verdicts follow from the numbers: every one of the four can come out, for the stated reasons."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.params.schema import Params
from pipeline.report import claims, evidence
from pipeline.report.claims import EQUIVALENT, IDENTICAL, INFERIOR, OTHERS
from pipeline.report.evidence import Evidence
from pipeline.report.page import render
from pipeline.report.verdicts import (
    INCONCLUSIVE,
    NOT_SUPPORTED,
    NOT_TESTED,
    SUPPORTED,
    Finding,
    equivalent,
)
from tests.own_packages import packages
from tests.pipeline.figures.test_figures import make_histories, make_params, make_seeds
from tests.pipeline.project_copy import REPOSITORY

VERIFICATION = json.loads((REPOSITORY / evidence.VERIFICATION).read_text())
BP = [0.970, 0.980, 0.990]
FIGURES = {
    "test_loss": 0.1,
    "train_accuracy_final": 0.9,
    "train_accuracy_peak": 0.9,
    "validation_accuracy_final": 0.9,
    "result": "0" * 64,
}


def make_evidence(
    params: Params,
    accuracies: Mapping[str, Sequence[float]],
    verification: Mapping[str, Any] | None = None,
) -> Evidence:
    """Every model has the same accuracies on every data set and architecture, by seed."""
    seeds = make_seeds(params).assign(**FIGURES)
    for model, values in accuracies.items():
        chosen = seeds.model == model
        seeds.loc[chosen, "test_accuracy"] = list(values) * (chosen.sum() // len(values))
    histories = make_histories(params)
    models = {key: {"data": "1" * 64, "result": "0" * 64} for key in histories}
    return Evidence(params, seeds, histories, models, verification, [], {})


def findings(judged: Evidence, name: str) -> list[Finding]:
    return next(claim for claim in claims.judge(judged) if claim.name == name).findings


def shifted(shift: float, spread: float) -> list[float]:
    """BP's accuracies, shifted; the differences spread over the seeds."""
    return [value + shift + spread * step for value, step in zip(BP, (-1, 0, 1), strict=True)]


@pytest.mark.parametrize(
    ("shift", "spread", "verdict"),
    [
        (0.0, 0.001, SUPPORTED),
        (-0.005, 0.001, SUPPORTED),
        (0.0, 0.02, INCONCLUSIVE),
        (-0.01, 0.001, INCONCLUSIVE),
        (-0.02, 0.001, NOT_SUPPORTED),
        (0.02, 0.001, NOT_SUPPORTED),
    ],
)
def test_near_identical(shift: float, spread: float, verdict: str) -> None:
    params = make_params(rules=("bp", "gait"))
    accuracies = {"reference": BP, "bp": BP, "gait": shifted(shift, spread)}
    found = findings(make_evidence(params, accuracies), EQUIVALENT)
    assert [each.case["against"] for each in found] == ["reference", "bp"]
    for each in found:
        assert each.verdict == verdict
        assert each.numbers["seeds"] == 3
        assert each.numbers["mean"] == pytest.approx(shift)
        assert each.differences[2] == pytest.approx(shift + spread)


def test_each_comparison_has_its_own_verdict() -> None:
    params = make_params(rules=("bp", "gait"))
    accuracies = {"reference": shifted(0.03, 0.003), "bp": BP, "gait": shifted(0.0, 0.001)}
    found = findings(make_evidence(params, accuracies), EQUIVALENT)
    assert [each.verdict for each in found] == [NOT_SUPPORTED, SUPPORTED]


@pytest.mark.parametrize(
    ("shift", "spread", "verdict"),
    [
        (-0.3, 0.02, SUPPORTED),
        (-0.012, 0.005, INCONCLUSIVE),
        (-0.3, 0.5, INCONCLUSIVE),
        (0.0, 0.001, NOT_SUPPORTED),
        (0.2, 0.02, NOT_SUPPORTED),
    ],
)
def test_target_propagation(shift: float, spread: float, verdict: str) -> None:
    params = make_params(rules=("tp",))
    accuracies = {"reference": BP, "tp": shifted(shift, spread)}
    tp, itp = findings(make_evidence(params, accuracies), INFERIOR)
    assert (tp.case["model"], tp.verdict) == ("tp", verdict)
    assert (itp.verdict, itp.reason) == (NOT_TESTED, "this profile trains no ITP")


def test_one_seed_tests_nothing() -> None:
    judged = make_evidence(make_params(seeds=(0,)), {"reference": [0.98], "gait": [0.98]})
    for name in (EQUIVALENT, INFERIOR):
        for each in findings(judged, name):
            assert each.verdict == NOT_TESTED
            assert "one seed has no spread" in each.reason
            assert each.numbers["seeds"] == 1


def test_equal_differences_test_nothing() -> None:
    judged = make_evidence(
        make_params(rules=("gait",)), {"reference": BP, "gait": shifted(0.0, 0.0)}
    )
    against_reference, against_bp = findings(judged, EQUIVALENT)
    assert "the same for all seeds" in against_reference.reason
    assert against_bp.reason == "this profile trains no BP"


@pytest.mark.parametrize(("model", "against"), [("gait", "bp"), ("bp", "gait")])
def test_of_two_that_are_not_trained_the_first_is_named(model: str, against: str) -> None:
    """Whatever the seed of Python's hashes."""
    judged = make_evidence(make_params(rules=("tp",)), {"reference": BP})
    case = {"dataset": "digits", "architecture": "square", "model": model, "against": against}
    named = {"gait": "GAIT-prop", "bp": "BP"}[model]
    assert equivalent(judged, case).reason == f"this profile trains no {named}"


def test_other_regularizers_are_not_compared() -> None:
    params = make_params(rules=("bp", "gait"))
    rules = {**params.rules, "bp": params.rules["bp"].model_copy(update={"orthogonality": 1.0})}
    params = params.model_copy(update={"rules": rules})
    found = findings(make_evidence(params, {}), EQUIVALENT)[1]
    assert (found.verdict, found.reason) == (
        NOT_TESTED,
        "their regularizers differ: λ = 0.25 and 1",
    )


def test_of_several_models_of_bp_the_one_at_its_learning_rate_is_compared() -> None:
    """Others would differ in two things; each comparison has a name of its own."""
    names = ("bp_slow", "bp_fast", "gait_slow", "gait_fast", "gait_else")
    params = make_params(rules=("bp", "gait"))
    rates = {"slow": 0.01, "fast": 0.03, "else": 0.1}
    rules = {
        name: params.rules["gait"].model_copy(
            update={"rule": name.split("_")[0], "learning_rate": rates[name.split("_")[1]]}
        )
        for name in names
    }
    run = params.run.model_copy(update={"rules": list(names)})
    params = params.model_copy(update={"rules": rules, "run": run})
    seeds = make_seeds(params).assign(**FIGURES)
    found = findings(Evidence(params, seeds, {}, {}, None, [], {}), EQUIVALENT)
    pairs = [(each.case["model"], each.case["against"]) for each in found]
    assert [pair for pair in pairs if pair[1] != "reference"] == [
        ("gait_slow", "bp_slow"),
        ("gait_fast", "bp_fast"),
        ("gait_else", "bp_slow"),
        ("gait_else", "bp_fast"),
    ]
    assert len({each.about for each in found}) == len(found) == 7


def test_every_case_is_judged() -> None:
    params = make_params(datasets=("mnist", "fashion"), architectures=("square", "wide"))
    found = findings(make_evidence(params, {}), EQUIVALENT)
    assert len({tuple(each.case.values()) for each in found}) == 8
    assert found[0].about.startswith("MNIST, square: GAIT-prop against BP")


def test_the_theorem() -> None:
    found = findings(make_evidence(make_params(), {}, VERIFICATION), IDENTICAL)[0]
    assert found.verdict == SUPPORTED
    assert found.numbers["largest"]["float64"] < 1e-13
    assert max(found.numbers["share_of_tolerance"].values()) < 1
    assert found.numbers["hidden_layers"] == 64


@pytest.mark.parametrize("value", [1e-2, None])
def test_a_theorem_that_fails(value: float | None) -> None:
    document = copy.deepcopy(VERIFICATION)
    row = next(r for r in document["comparisons"] if r["rule"] == "gait")
    row["stable"] = value
    found = findings(make_evidence(make_params(), {}, document), IDENTICAL)[0]
    assert found.verdict == NOT_SUPPORTED
    # What is not finite is null, as JSON wants it.
    judged = claims.judge(make_evidence(make_params(), {}, document))
    json.dumps(claims.as_document(make_params(), judged), allow_nan=False)


def test_other_rules_do_not_decide_the_theorem() -> None:
    document = copy.deepcopy(VERIFICATION)
    for row in document["comparisons"]:
        if row["rule"] != "gait":
            row["stable"] = 1.0
    assert findings(make_evidence(make_params(), {}, document), IDENTICAL)[0].verdict == SUPPORTED


def test_no_verification() -> None:
    found = findings(make_evidence(make_params(), {}), IDENTICAL)[0]
    assert (found.verdict, found.reason) == (NOT_TESTED, "there is no results/verify/verify.json")


def test_for_programs() -> None:
    params = make_params(seeds=(0,))
    document = claims.as_document(params, claims.judge(make_evidence(params, {})))
    text = json.dumps(document, allow_nan=False)
    read = json.loads(text)
    assert read["settings"]["margin"] == 0.01
    assert {claim["name"] for claim in read["claims"]} == {IDENTICAL, EQUIVALENT, INFERIOR}
    for claim in read["claims"]:
        assert claim["criterion"] and claim["command"]
        assert {finding["verdict"] for finding in claim["findings"]} == {NOT_TESTED}


def test_every_other_rule_is_tested(tmp_path: Path) -> None:
    params = make_params(rules=("bp", "gait", "kolen_pollack", "sign_symmetry"))
    accuracies = {
        "reference": BP,
        "kolen_pollack": shifted(0.0, 0.001),
        "sign_symmetry": shifted(-0.05, 0.001),
    }
    judged = make_evidence(params, accuracies)
    found = findings(judged, OTHERS)
    assert [(each.case["model"], each.verdict) for each in found] == [
        ("kolen_pollack", SUPPORTED),
        ("sign_symmetry", NOT_SUPPORTED),
    ]
    # A rule that is installed and in no profile is told of, and is not tested.
    with packages(tmp_path, "gaitprop.rules") as install:
        install("mine", "def f(layer, error, scale): return error\n", mine="f")
        *_, last = findings(judged, OTHERS)
        page = render(judged, claims.judge(judged))
    assert (last.about, last.verdict) == ("mine against BP", NOT_TESTED)
    assert last.reason == (
        "'mine' (gaitprop.rules) of the package mine 1.0 is installed, but params.yaml has no"
        " entry for it under rules"
    )
    shown = page[page.index('<h2 id="other_rules_train_as_well">') :]
    assert "Kolen–Pollack against BP" in shown and last.reason[7:] in shown


def test_a_profile_of_the_papers_rules_has_the_papers_claims_alone() -> None:
    judged = claims.judge(make_evidence(make_params(), {"reference": BP}))
    assert OTHERS not in [claim.name for claim in judged]
