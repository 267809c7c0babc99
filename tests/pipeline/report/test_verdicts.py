"""The numbers and verdicts of the claims, computed again by plain lines of their own."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy
import pandas
import pytest

from pipeline.params.schema import Params
from pipeline.report import claims
from pipeline.report.evidence import Evidence
from pipeline.report.verdicts import identical
from tests.pipeline.figures.test_figures import make_params
from tests.pipeline.plain_figures import rows
from tests.pipeline.project_copy import REPOSITORY

RESULTS = REPOSITORY / "results" / "digits"
VERIFICATION = REPOSITORY / "results" / "verify" / "verify.json"
# Student's t as printed tables have it: the 95th percentile by degrees of freedom, the 97.5th of 4.
T95 = {2: 2.919986, 3: 2.353363, 4: 2.131847, 5: 2.015048, 6: 1.943180}
T975 = 2.776445


def share_above(t: float) -> float:
    """Of Student's distribution with four degrees of freedom, which has a closed form."""
    part = t**2 / (1 + t**2 / 4)
    return 0.5 - 3 / 8 * math.copysign(math.sqrt(part), t) * (1 - part / 12)


def expected(ours: dict[int, float], theirs: dict[int, float]) -> dict[str, float]:
    """Of five seeds each."""
    differences = [ours[seed] - theirs[seed] for seed in sorted(ours)]
    mean = sum(differences) / 5
    deviation = math.sqrt(sum((each - mean) ** 2 for each in differences) / 4)
    error = deviation / math.sqrt(5)
    return {
        "mean": mean,
        "deviation": deviation,
        "low": mean - T95[4] * error,
        "high": mean + T95[4] * error,
        "difference_low": mean - T975 * error,
        "difference_high": mean + T975 * error,
        "p_value": share_above((0.01 - abs(mean)) / error),
        "margin": 0.01,
        "seeds": 5,
    }


# Of chi² with four degrees of freedom, as printed tables have them: its 5th and 95th percentile.
CHI5, CHI95 = 0.710723, 9.487729


def passed(seeds: int, deviation: float, mean: float) -> float:
    """How often models so far apart are within ±0.01 by their 90 % interval, among 40,000."""
    drawn = numpy.random.default_rng(3).normal(mean, deviation, (40_000, seeds))
    centre = drawn.sum(1) / seeds
    spread = (((drawn - centre[:, None]) ** 2).sum(1) / (seeds - 1)) ** 0.5
    return float((abs(centre) + T95[seeds - 1] * spread / seeds**0.5 < 0.01).mean())


def check(document: dict[str, Any], table: list[dict[str, str]]) -> list[str]:
    """Every number and verdict of claims.json against the seeds; the verdicts."""
    accuracies: dict[str, dict[int, float]] = {}
    for row in table:
        accuracies.setdefault(row["model"], {})[int(row["seed"])] = float(row["test_accuracy"])
    _, equivalence, inferiority = document["claims"]
    verdicts = []
    for finding in [*equivalence["findings"], *inferiority["findings"]]:
        model, against = (finding["case"][name] for name in ("model", "against"))
        numbers = expected(accuracies[model], accuracies[against])
        found = finding["numbers"]
        others = {"power", "power_low", "power_high", "seeds_needed", "seeds_needed_high"}
        for name in set(found) - others:
            assert found[name] == pytest.approx(numbers[name], rel=2e-5, abs=1e-12), name
        for seed, difference in finding["differences"].items():
            own = accuracies[model][int(seed)] - accuracies[against][int(seed)]
            assert difference == pytest.approx(own, rel=1e-5, abs=1e-12)
        if finding in inferiority["findings"]:
            below, above = found["difference_high"] < -0.01, found["difference_low"] > -0.01
        else:
            below = found["low"] > -0.01 and found["high"] < 0.01
            above = found["low"] > 0.01 or found["high"] < -0.01
            mean, spread = numbers["mean"], numbers["deviation"]
            large, small = (spread * math.sqrt(4 / each) for each in (CHI5, CHI95))
            for name, each in (("power", spread), ("power_low", large), ("power_high", small)):
                assert found[name] == pytest.approx(passed(5, each, mean), abs=0.01), name
            for name, each in (("seeds_needed", spread), ("seeds_needed_high", large)):
                needed = found[name] or math.inf
                for seeds in (3, 4, 5, 6):
                    share = passed(seeds, each, mean)
                    assert share > 0.79 if seeds >= needed else share < 0.81
        assert finding["verdict"] == (
            "supported" if below else "not supported" if above else "inconclusive"
        )
        verdicts.append(finding["verdict"])
    return verdicts


def judged(params: Params, seeds: pandas.DataFrame) -> dict[str, Any]:
    found = claims.judge(Evidence(params, seeds, {}, {}, None, [], {}))
    document: dict[str, Any] = json.loads(json.dumps(claims.as_document(params, found)))
    return document


SHIFTS = {  # of BP with regularizer, GAIT-prop, TP and ITP to BP without
    "as the paper has it": ((0.001, 0.002, -0.3, -0.05), ["supported"] * 4),
    "the other way": (
        (-0.03, 0.025, 0.02, 0.001),
        ["not supported", "not supported", "not supported", "not supported"],
    ),
    "at the margin": ((-0.001, -0.007, -0.013, -0.0102), ["inconclusive"] * 4),
}


@pytest.mark.parametrize("name", SHIFTS)
def test_what_is_judged(name: str) -> None:
    """Rows in no order: what is paired is paired by seed."""
    (bp, gait, tp, itp), verdicts = SHIFTS[name]
    params = make_params(rules=("bp", "gait", "tp", "itp"), seeds=(0, 1, 2, 3, 4))
    draw = numpy.random.default_rng(5)
    base = draw.normal(0.9, 0.05, 5)
    table = [
        {"dataset": "digits", "architecture": "square", "model": model, "seed": seed}
        | {"test_accuracy": float(base[seed] + shift + draw.normal(0, 0.004))}
        for model, shift in zip(
            ("reference", "bp", "gait", "tp", "itp"), (0, bp, gait, tp, itp), strict=True
        )
        for seed in range(5)
    ]
    seeds = pandas.DataFrame(table).sample(frac=1, random_state=1)
    document = judged(params, seeds)
    texts = [{key: str(value) for key, value in row.items()} for row in table]
    assert check(document, texts) == verdicts


def test_what_is_published() -> None:
    document = json.loads((RESULTS / "claims.json").read_text())
    assert check(document, rows(RESULTS / "seeds.csv"))


def test_the_theorems_numbers() -> None:
    """The largest of GAIT-prop's differences, wherever it stands."""
    verification = json.loads(VERIFICATION.read_text())
    chosen = [row for row in verification["comparisons"] if row["rule"] == "gait"]
    for precision in ("float64", "float32"):
        of_precision = [row for row in chosen if row["precision"] == precision]
        # Of a tower's wide layers: more than all others, and half of what is allowed there.
        (tower,) = (row for row in of_precision if row["shape"] == "tower")
        tower.update(stable=0.5 * tower["tolerance"], left_out=5)
        of_precision[0]["stable"] = 0.75 * of_precision[0]["tolerance"]
        assert tower["stable"] > of_precision[0]["stable"]
    finding = identical(verification)
    assert finding.verdict == "supported"
    towers = {row["precision"]: row for row in chosen if row["shape"] == "tower"}
    assert finding.numbers == {
        "largest": {name: towers[name]["stable"] for name in ("float64", "float32")},
        "share_of_tolerance": {"float64": 0.75, "float32": 0.75},
        "hidden_layers": 64,
        "left_out": sum(row["left_out"] for row in chosen),
        "networks": len({(row["network"], row["activation"]) for row in chosen}),
        "samples": sum(row["samples"] for row in chosen),
        "seeds": 3,
    }
    chosen[7]["stable"] = chosen[7]["tolerance"]
    assert identical(verification).verdict == "not supported"
