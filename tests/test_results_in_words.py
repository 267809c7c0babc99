"""Every figure that README.md and the pages of results state in words is a published result."""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
import re
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest

from pipeline.results.equivalence import Equivalence, paired_test
from tests.documents import (
    by_seed,
    difference,
    interval,
    of_test,
    points,
    published,
    published_difference,
    published_models,
    summary,
    without,
)

REPOSITORY = Path(__file__).parents[1]
PAGES = ("README.md", "docs/findings.md", "docs/results.md", "docs/results_rules.md")
PAGES += ("docs/results_orthogonality.md", "docs/results_100_epochs.md")
DOCUMENTS = {name: (REPOSITORY / name).read_text() for name in PAGES}
# Settings, levels and versions: what was chosen, not what came out.
CHOSEN = {"0.1", "0.01", "0.003", "0.05", "0.9", "0.99", "3.11", "3.12", "3.13", "2.13.0"}
CHOSEN |= {"0.03", "0.001", "0.0003", "0.0001", "30 times", "90 %", "95 %"}
SETS = {"mnist_256": "MNIST", "mnist_256_long": "MNIST, 100 epochs"}
SETS |= {"fashion_256": "Fashion-MNIST", "fashion_256_long": "Fashion-MNIST, 100 epochs"}
SETS |= {"mnist1d": "MNIST-1D", "digits": "digits"}
COLUMNS = ("gait_orthogonal", "gait_strong", "gait", "tp")
# The digits' other ways to keep weights orthogonal are another profile's, with the same BP.
ELSEWHERE = {("digits", "gait_orthogonal"): ("trade_off", "gait_orthogonal")}
ELSEWHERE |= {("digits", "gait_strong"): ("trade_off", "gait_10")}
# TP at the learning rate that was chosen over the whole training.
ELSEWHERE |= {
    (profile, "tp"): (profile, "tp_slower")
    for profile in ("mnist_256", "mnist_256_long", "fashion_256")
}
ELSEWHERE |= {("fashion_256_long", "tp"): ("fashion_256_long_targets", "tp_slower")}
PUBLISHED = {
    "mnist": "MNIST, the paper's network",
    "mnist_tower": "MNIST, the paper's tower",
    "mnist_tower_gaussian": "MNIST, the paper's tower, GAIT-prop from Gaussian weights",
    "fashion": "Fashion-MNIST, the paper's network",
    "fashion_tower": "Fashion-MNIST, the paper's tower",
    "fashion_tower_100": "Fashion-MNIST, the paper's tower, 100 epochs",
    "fashion_tower_gaussian": "Fashion-MNIST, the paper's tower, GAIT-prop from Gaussian weights",
}
# As examples/published_networks.py calls them.
IN_PUBLISHED = {"gait_orthogonal": "GAIT-prop, orthogonal", "gait_strong": "GAIT-prop, strong"}
IN_PUBLISHED |= {"gait": "GAIT-prop", "tp": "TP"}
FROM_GAUSSIAN = {"gait": "GAIT-prop, Gaussian"}


def words(document: str) -> str:
    """The text without tables, code, pictures, links' targets and papers' numbers, in one line."""
    text = re.sub(
        r"```.*?```|^\|.*?$|<!--.*?-->", "", DOCUMENTS[document], flags=re.DOTALL | re.MULTILINE
    )
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)|\]\([^)]*\)|`[^`]*`|arXiv \d+\.\d+", "", text)
    return " ".join(text.split())


def accuracy(profile: str, model: str) -> str:
    """Of the test set, in percent."""
    row = summary(profile)[model]
    mean, spread = (100 * float(row[f"test_accuracy_{each}"]) for each in ("mean", "std"))
    return f"{mean:.2f} ± {spread:.2f}"


def finding(profile: str, model: str, against: str) -> dict[str, Any]:
    claims = json.loads(published(f"results/{profile}/claims.json"))["claims"]
    (found,) = (
        each
        for claim in claims
        for each in claim["findings"]
        if (each["case"].get("model"), each["case"].get("against")) == (model, against)
    )
    assert isinstance(found, dict)
    return found


def trial(sweep: str, wanted: dict[str, str]) -> dict[str, str]:
    table = csv.DictReader(io.StringIO(published(f"results/{sweep}/trials.csv")))
    (row,) = (each for each in table if wanted.items() <= each.items())
    return row


def tried(sweep: str, wanted: dict[str, str]) -> str:
    """The validation accuracy of a sweep's trial, in percent."""
    row = trial(sweep, wanted)
    mean, spread = (100 * float(row[f"validation_accuracy_{each}"]) for each in ("mean", "std"))
    return f"{mean:.2f} ± {spread:.2f} %"


OF_DIGITS = "digits/sweep/learning_rate_and_orthogonality"
# Where GAIT-prop is best at the largest learning rate.
FASTEST = {"rule.learning_rate": "0.03", "rule.orthogonality": "1000.0"}
OF_ITP = "mnist_256/sweep/learning_rate_of_incremental_targets"
OF_ITP_LONG = "mnist_256_long_targets/sweep/learning_rate_of_incremental_targets"


def tried_once(sweep: str, wanted: dict[str, str]) -> str:
    """The same of a trial of one seed."""
    return f"{100 * float(trial(sweep, wanted)['validation_accuracy_mean']):.2f} %"


def bp_strong(rate: str) -> str:
    """BP with λ = 10 on MNIST-1D."""
    wanted = {"rule": "bp", "rule.orthogonality": "10.0", "rule.learning_rate": rate}
    return tried("mnist1d/sweep/learning_rate_and_orthogonality", wanted)


def constrained_on_fashion() -> str:
    """GAIT-prop and BP with orthogonal weights after 100 epochs, which two profiles trained."""
    return difference(
        "fashion_256_long", "gait_orthogonal", "bp_orthogonal", beside="fashion_256_long_targets"
    )


def in_fashions_tower(ours: str, theirs: str = "BP reference") -> str:
    """Difference of two models of the paper's tower on Fashion-MNIST."""
    name = "fashion_tower_gaussian" if "Gaussian" in ours else "fashion_tower"
    return interval(published_difference(name, ours, theirs))


def slower(ours: str, theirs: str) -> str:
    """Of the digits' models at the learning rate that is best with orthogonal weights."""
    return difference("trade_off_cross_entropy", f"{ours}_slower", f"{theirs}_slower")


def validated(profile: str) -> str:
    """Difference of MNIST-1D's models with orthogonal weights on the validation images."""
    models = ("gait_orthogonal", "bp_orthogonal")
    return difference(profile, *models, "validation_accuracy_final")


def of_forty(ours: str, theirs: str = "reference") -> str:
    """Difference of two models of MNIST-1D with the seeds of a profile of their own."""
    return difference("mnist1d_orthogonal", ours, theirs)


def of_fifty(metric: str) -> str:
    """Difference of MNIST-1D's models with orthogonal weights over the seeds of both profiles."""
    found = []
    for profile in ("mnist1d", "mnist1d_orthogonal"):
        ours, theirs = (by_seed(profile, f"{rule}_orthogonal", metric) for rule in ("gait", "bp"))
        found += [value - theirs[seed] for seed, value in ours.items()]
    return interval(paired_test(found))


def apart(measure: Callable[[Sequence[float]], float]) -> str:
    """How far one seed's trainings by GAIT-prop and BP end from each other, of 40, in points."""
    ours, theirs = (by_seed("mnist1d_orthogonal", f"{rule}_orthogonal") for rule in ("gait", "bp"))
    return f"{100 * measure([value - theirs[seed] for seed, value in ours.items()]):.1f} points"


def rounded_otherwise(rule: str) -> float:
    """How far MNIST-1D's seeds were from what they are now, before a factor was rounded as it is.

    Standard deviation of those that have changed, in points. A clone need not have that commit.
    """
    former = "1f32ec6:results/mnist1d/seeds.csv"
    known = subprocess.run(["git", "show", former], cwd=REPOSITORY, capture_output=True, text=True)
    if known.returncode:
        pytest.skip(f"there is no {former} in this clone's history")
    now = by_seed("mnist1d", f"{rule}_orthogonal")
    rows = csv.DictReader(io.StringIO(known.stdout))
    then = {row["seed"]: row for row in rows if row["model"] == f"{rule}_orthogonal"}
    moved = [100 * (now[seed] - float(row["test_accuracy"])) for seed, row in then.items()]
    return stdev(each for each in moved if each)


def apart_by_chance() -> str:
    """The same of two seeds' trainings: its standard deviation, were the two independent."""
    models = summary("mnist1d_orthogonal")
    spreads = (float(models[f"{rule}_orthogonal"]["test_accuracy_std"]) for rule in ("gait", "bp"))
    return f"{100 * math.hypot(*spreads):.1f} points"


def behind(profile: str, model: str) -> str:
    """Mean difference to BP's reference without its sign, in percentage points."""
    return f"{-100 * float(summary(profile)[model]['difference_to_bp_mean']):.1f} points"


def first_layer(profile: str, name: str, quantity: str) -> float:
    """What the report says of its update and BP's, after training; the mean of the seeds."""
    said = rf'aria-label="{name}: {quantity}, [^"]* layer 1: ([-\d.]+),'
    (found,) = re.findall(said, published(f"results/{profile}/report.html"))
    return float(found)


def cosine(profile: str, name: str) -> str:
    """Of the lowest layer's update with BP's."""
    return f"cosine of {first_layer(profile, name, 'cosine'):.2f}"


def length(profile: str, name: str, decimals: int = 0) -> str:
    """Of the lowest layer's update, in lengths of BP's."""
    return f"{first_layer(profile, name, 'relative length'):.{decimals}f} times"


def charts(profile: str) -> dict[str, list[dict[str, str]]]:
    """What the report's charts have of each layer and epoch: the mean and a deviation around it."""
    page = published(f"results/{profile}/report.html")
    (text,) = re.findall(r'id="specifications">(.*?)</script>', page, re.DOTALL)
    return {
        name: [*csv.DictReader(io.StringIO(values))]
        for name, chart in json.loads(text).items()
        for values in chart["datasets"].values()
        if values.startswith("layer,")
    }


def lowest(
    quantity: str, model: str = "gait_strong", dataset: str = "mnist"
) -> dict[int, dict[str, str]]:
    """Of the lowest layer in 100 epochs, by epoch."""
    rows = charts(f"{dataset}_256_long")[f"{quantity}-{dataset}-projection-{model}"]
    return {int(row["epoch"]): row for row in rows if row["layer"] == "1"}


def over_epochs(quantity: str, model: str = "gait_strong") -> dict[int, float]:
    return {epoch: float(row["value"]) for epoch, row in lowest(quantity, model).items()}


def spread_cosine(dataset: str, epoch: int = 100, decimals: int = 2) -> str:
    """Of GAIT-prop's lowest layer with BP's, at λ = 10."""
    row = {name: float(value) for name, value in lowest("cosine", dataset=dataset)[epoch].items()}
    spread = (row["high"] - row["low"]) / 2
    return f"cosine of {row['value']:.{decimals}f} ± {spread:.{decimals}f}"


def spread_length() -> str:
    """Of GAIT-prop's lowest layer in BP's, after 100 epochs of MNIST at λ = 10."""
    middle, low, high = (float(lowest("norm")[100][each]) for each in ("value", "low", "high"))
    return f"{middle:.1f} times its length ({low:.1f} to {high:.1f}"


def on_the_digits(quantity: str, epoch: int) -> float:
    """Of GAIT-prop's lowest layer, in the comparison of all rules."""
    rows = charts("board")[f"{quantity}-digits-square-gait"]
    (row,) = (each for each in rows if (each["layer"], each["epoch"]) == ("1", str(epoch)))
    return float(row["value"])


def watched_on_the_digits(model: str, epoch: int) -> str:
    """Accuracy on the validation images after an epoch, in the same comparison."""
    curves = csv.DictReader(io.StringIO(published("results/board/curves.csv")))
    wanted = (f"digits/square/{model}", str(epoch))
    (row,) = (each for each in curves if (each["model"], each["epoch"]) == wanted)
    return f"{100 * float(row['validation_accuracy']):.1f} %"


def best_without_the_penalty(rule: str) -> str:
    """Of a rule's trials on MNIST, eleven of them, the best validation accuracy."""
    tables = (
        published(f"results/board_mnist/sweep/{sweep}/trials.csv")
        for sweep in ("equal_budget", "equal_budget_decay")
    )
    found = [
        float(row["validation_accuracy_mean"])
        for table in tables
        for row in csv.DictReader(io.StringIO(table))
        if (row["rule"], row["rule.orthogonality"]) == (rule, "0.0")
    ]
    assert len(found) == 11
    return f"{100 * max(found):.1f} %"


def price_of_the_rule(profile: str, penalties: Sequence[str]) -> str:
    """The least and the largest difference of GAIT-prop to BP with the same λ."""
    means = [of_test(profile, f"gait_{each}", f"bp_{each}").mean for each in penalties]
    return f"{points(min(means))} to {points(max(means))}"


def marked(stated: str) -> str:
    """With the sign of a verdict that a correction would change."""
    return stated.replace(" (", "† (")


def of_seeds(profile: str, model: str) -> list[float]:
    """Test accuracies in percent, the worst first."""
    table = csv.DictReader(io.StringIO(published(f"results/{profile}/seeds.csv")))
    return sorted(100 * float(row["test_accuracy"]) for row in table if row["model"] == model)


def worst_seed(profile: str, model: str) -> str:
    return f"{of_seeds(profile, model)[0]:.0f} %"


def other_seeds(profile: str, model: str) -> str:
    return f"{mean(of_seeds(profile, model)[1:]):.0f} %"


def learned() -> dict[tuple[str, int], float]:
    """Validation accuracy on MNIST by model and epoch of 100."""
    curves = csv.DictReader(io.StringIO(published("results/mnist_256_long/curves.csv")))
    return {
        (row["model"].rpartition("/")[2], int(row["epoch"])): float(row["validation_accuracy"])
        for row in curves
    }


def verdict(test: Equivalence) -> str:
    """The sign of a verdict, and what it is of."""
    return f"{'=' if test.shown else '≠' if test.refuted else '?'} {interval(test)}"


def published_tests(name: str) -> dict[str, Equivalence]:
    """Of the columns' models that examples/published_networks.py trained, against BP."""
    trained = published_models(name)
    return {
        column: published_difference(name, model)
        for column, model in (FROM_GAUSSIAN if name.endswith("_gaussian") else IN_PUBLISHED).items()
        if model in trained
    }


def verdict_rows() -> list[str]:
    rows = []
    for profile, title in SETS.items():
        places = [ELSEWHERE.get((profile, model), (profile, model)) for model in COLUMNS]
        cells = [
            verdict(of_test(*place)) if place[1] in summary(place[0]) else "–" for place in places
        ]
        rows.append([title, accuracy(profile, "reference"), *cells])
    for name, title in PUBLISHED.items():
        found = [100 * each for each in published_models(name)["BP reference"]["test_accuracy"]]
        told = f"{mean(found):.2f} ± {stdev(found):.2f}"
        tests = published_tests(name)
        cells = [verdict(tests[model]) if model in tests else "–" for model in COLUMNS]
        rows.append([title, told, *cells])
    return [f"| {' | '.join(row)} |" for row in rows]


FACTS = {
    "README.md": [
        lambda: difference("mnist_256", "gait_orthogonal", "bp_orthogonal"),
        lambda: difference("fashion_256", "gait_orthogonal", "bp_orthogonal"),
        lambda: difference("trade_off", "gait_orthogonal", "bp_orthogonal"),
        lambda: of_forty("gait_orthogonal", "bp_orthogonal"),
        lambda: difference("mnist_256_long", "gait_orthogonal", "bp_orthogonal"),
        lambda: constrained_on_fashion(),
        lambda: in_fashions_tower("GAIT-prop, orthogonal", "BP, orthogonal"),
        lambda: in_fashions_tower("BP, Gaussian"),
        lambda: spread_cosine("mnist"),
        lambda: spread_length(),
        lambda: spread_cosine("fashion"),
        lambda: behind("mnist_256", "tp_slower"),
        lambda: behind("mnist_256_long", "tp_slower"),
        lambda: of_forty("gait_orthogonal"),
        lambda: difference("board", "gait_learned_from_transpose_fixed"),
        lambda: difference("board_mnist", "gait_learned_from_transpose_fixed"),
        lambda: difference("board_mnist", "gait"),
    ],
    "docs/findings.md": [
        lambda: difference("mnist_256", "gait_orthogonal", "bp_orthogonal"),
        lambda: difference("fashion_256", "gait_orthogonal", "bp_orthogonal"),
        lambda: difference("trade_off", "gait_orthogonal", "bp_orthogonal"),
        lambda: difference("mnist_256_long", "gait_orthogonal", "bp_orthogonal"),
        lambda: constrained_on_fashion(),
        lambda: in_fashions_tower("GAIT-prop, orthogonal", "BP, orthogonal"),
        lambda: marked(difference("mnist1d", "gait_orthogonal_slower", "bp_orthogonal_slower")),
        lambda: of_forty("gait_orthogonal", "bp_orthogonal"),
        lambda: apart(lambda found: max(map(abs, found))),
        lambda: difference("mnist_256", "gait_strong", "bp_strong"),
        lambda: difference("fashion_256", "gait_strong", "bp_strong"),
        lambda: interval(published_difference("mnist_tower_gaussian", "GAIT-prop, Gaussian")),
        lambda: in_fashions_tower("GAIT-prop, Gaussian"),
        lambda: in_fashions_tower("BP, Gaussian"),
        lambda: in_fashions_tower("GAIT-prop, Gaussian", "BP, Gaussian"),
        lambda: worst_seed("mnist_256", "gait"),
        lambda: marked(difference("fashion_256", "gait", "bp")),
        lambda: difference("mnist1d", "gait", "bp"),
        lambda: in_fashions_tower("BP, strong"),
        lambda: in_fashions_tower("GAIT-prop, strong"),
        lambda: in_fashions_tower("GAIT-prop, strong", "BP, strong"),
        lambda: difference("mnist1d", "bp_strong"),
        lambda: difference("mnist1d", "gait_strong", "bp_strong"),
        lambda: spread_cosine("mnist"),
        lambda: spread_length(),
        lambda: spread_cosine("mnist", epoch=20, decimals=3),
        lambda: spread_cosine("fashion"),
        lambda: length("fashion_256_long", "GAIT-prop, λ = 10", decimals=1),
        lambda: behind("mnist_256", "tp_slower"),
        lambda: behind("mnist_256_long", "tp_slower"),
        lambda: behind("fashion_256_long_targets", "tp_slower"),
        lambda: behind("mnist_256_long_targets", "itp_slower"),
        lambda: behind("fashion_256_long_targets", "itp_slower"),
        lambda: of_forty("bp_orthogonal"),
        lambda: of_forty("gait_orthogonal"),
        lambda: difference("mnist1d", "bp_orthogonal_slower"),
        lambda: difference("mnist1d", "gait_orthogonal_slower"),
        lambda: difference("mnist_256_long", "gait_orthogonal"),
        lambda: difference("mnist_256_long", "bp_orthogonal"),
        lambda: difference("fashion_256_long", "gait_orthogonal"),
        lambda: difference("fashion_256_long_targets", "bp_orthogonal"),
        lambda: difference("trade_off", "gait_orthogonal"),
        lambda: difference("trade_off", "bp_orthogonal"),
        lambda: in_fashions_tower("GAIT-prop, orthogonal"),
        lambda: in_fashions_tower("BP, orthogonal"),
        lambda: difference("trade_off", "gait_orthogonal_gain"),
        lambda: difference("trade_off", "bp_orthogonal_gain"),
        lambda: difference("board", "gait_learned_from_transpose_fixed"),
        lambda: marked(difference("board_mnist", "gait_learned_from_transpose_fixed")),
        lambda: difference("board_mnist", "gait"),
        lambda: marked(difference("board", "gait_learned_inverse")),
        lambda: difference("board_mnist", "gait_learned_inverse"),
    ],
    "docs/results.md": [
        lambda: tried_once(OF_ITP, {"rule.learning_rate": "0.0001"}),
        lambda: tried_once(OF_ITP, {"rule.learning_rate": "0.0003"}),
        lambda: difference("mnist_256", "gait_strong"),
        lambda: difference("mnist_256", "gait_strong", "bp_strong"),
        lambda: difference("mnist_256", "gait_full"),
        lambda: difference("mnist_256", "gait_orthogonal"),
        lambda: difference("mnist_256", "gait_orthogonal", "bp_orthogonal"),
        lambda: difference("mnist_256", "gait"),
        lambda: worst_seed("mnist_256", "gait"),
        lambda: behind("mnist_256", "itp"),
        lambda: behind("mnist_256", "tp"),
        lambda: behind("mnist_256", "tp_slower"),
        lambda: behind("mnist_256_long", "tp_slower"),
        lambda: difference("fashion_256", "gait_orthogonal"),
        lambda: difference("fashion_256", "gait_strong"),
        lambda: difference("fashion_256", "gait_strong", "bp_strong"),
        lambda: difference("fashion_256", "gait_orthogonal", "bp_orthogonal"),
        lambda: difference("fashion_256", "gait"),
        lambda: difference("fashion_256", "gait", "bp"),
        lambda: behind("fashion_256", "itp"),
        lambda: behind("fashion_256", "tp"),
        lambda: behind("fashion_256", "tp_slower"),
        lambda: difference("digits", "gait"),
        lambda: difference("digits", "gait", "bp"),
        lambda: behind("digits", "itp"),
        lambda: behind("digits", "tp"),
        lambda: length("digits", "ITP, λ = 10"),
        lambda: length("digits", "TP, λ = 10"),
        lambda: tried(OF_DIGITS, {"rule": "gait", **FASTEST}),
    ],
    "docs/results_100_epochs.md": [
        lambda: difference("mnist_256_long", "gait_strong"),
        lambda: difference("mnist_256_long", "gait_strong", "bp_strong"),
        lambda: difference("mnist_256_long", "gait_orthogonal"),
        lambda: difference("mnist_256_long", "bp_orthogonal"),
        lambda: difference("mnist_256_long", "gait_orthogonal", "bp_orthogonal"),
        lambda: behind("mnist_256_long", "tp"),
        lambda: f"{100 * learned()['tp', 5]:.0f} %",
        lambda: f"{100 * learned()['tp', 20]:.0f} %",
        lambda: f"{round(over_epochs('norm', 'tp')[20], -5):,.0f} times",
        lambda: behind("mnist_256_long", "tp_slower"),
        lambda: behind("mnist_256_long_targets", "itp_slower"),
        lambda: difference("mnist_256_long_targets", "itp_slower"),
        lambda: tried_once(OF_ITP_LONG, {"rule.learning_rate": "0.0001"}),
        lambda: difference("fashion_256_long", "gait_strong"),
        lambda: difference("fashion_256_long", "gait_orthogonal"),
        lambda: difference("fashion_256_long", "bp_strong"),
        lambda: difference("fashion_256_long", "gait_strong", "bp_strong"),
        lambda: cosine("fashion_256_long", "GAIT-prop, λ = 10"),
        lambda: difference("fashion_256_long_targets", "bp_orthogonal"),
        lambda: constrained_on_fashion(),
        lambda: behind("fashion_256_long_targets", "itp_slower"),
        lambda: difference("fashion_256_long_targets", "itp_slower"),
        lambda: behind("fashion_256_long_targets", "tp_slower"),
        lambda: difference("fashion_256_long_targets", "tp_slower"),
    ],
    "docs/results_orthogonality.md": [
        lambda: difference("trade_off", "bp_orthogonal"),
        lambda: difference("trade_off", "gait_orthogonal"),
        lambda: difference("trade_off_cross_entropy", "bp_orthogonal", "bp_001"),
        lambda: difference("trade_off_cross_entropy", "gait_orthogonal", "bp_001"),
        lambda: difference("trade_off_cross_entropy", "bp_orthogonal_slower", "bp_001"),
        lambda: difference("trade_off_cross_entropy", "gait_orthogonal_slower", "bp_001"),
        lambda: difference("trade_off", "gait_orthogonal", "bp_orthogonal"),
        lambda: difference("trade_off_cross_entropy", "gait_orthogonal", "bp_orthogonal"),
        lambda: slower("gait_orthogonal", "bp_orthogonal"),
        lambda: behind("trade_off", "gait_100"),
        lambda: behind("trade_off", "gait_full_100"),
        lambda: difference("trade_off", "gait_1", "bp_1"),
        lambda: price_of_the_rule("trade_off", ("001", "01", "10", "100")),
        lambda: difference("trade_off_cross_entropy", "gait_10", "bp_10"),
        lambda: difference("trade_off_cross_entropy", "gait_100", "bp_100"),
        lambda: price_of_the_rule("trade_off_cross_entropy", ("001", "01", "1")),
        lambda: difference("trade_off_cross_entropy", "gait_orthogonal_gain"),
        lambda: difference("trade_off_cross_entropy", "gait_orthogonal_gain", "bp_001"),
        lambda: difference("trade_off_cross_entropy", "bp_orthogonal_gain", "bp_001"),
        lambda: difference("trade_off", "gait_orthogonal_gain"),
        lambda: difference("trade_off", "gait_orthogonal_gain", "gait_orthogonal"),
        lambda: difference("trade_off", "bp_orthogonal_gain", "bp_orthogonal"),
        lambda: of_forty("bp_orthogonal"),
        lambda: of_forty("gait_orthogonal"),
        lambda: difference("mnist1d", "bp_orthogonal_slower"),
        lambda: difference("mnist1d", "gait_orthogonal_slower"),
        lambda: difference("mnist_256_long", "bp_orthogonal"),
        lambda: difference("mnist_256_long", "gait_orthogonal"),
        lambda: in_fashions_tower("BP, orthogonal"),
        lambda: in_fashions_tower("GAIT-prop, orthogonal"),
        lambda: difference("mnist1d", "bp"),
    ],
    "docs/results_rules.md": [
        lambda: difference("board", "gait"),
        lambda: difference("board", "gait_learned_from_transpose"),
        lambda: difference("board", "gait_learned_from_transpose_fixed"),
        lambda: cosine("board", "GAIT-prop, V from Wᵀ, fixed, λ = 1"),
        lambda: cosine("board", "GAIT-prop, V from Wᵀ, λ = 1"),
        lambda: difference("board", "gait_learned_inverse"),
        lambda: difference("board", "damped"),
        lambda: difference("board", "sign_symmetry"),
        lambda: cosine("board", "GAIT-prop, λ = 0.01"),
        lambda: watched_on_the_digits("gait", 5),
        lambda: watched_on_the_digits("reference", 5),
        lambda: watched_on_the_digits("reference", 60),
        lambda: f"cosine of {on_the_digits('cosine', 5):.2f}",
        lambda: f"{on_the_digits('norm', 5):.2f} of BP's length",
        lambda: watched_on_the_digits("gait", 20),
        lambda: f"cosine of {on_the_digits('cosine', 20):.2f}",
        lambda: behind("board", "feedback_alignment"),
        lambda: behind("board", "direct_feedback_alignment"),
        lambda: behind("board", "difference_target_propagation"),
        lambda: behind("board", "itp"),
        lambda: behind("board", "tp"),
        lambda: difference("board_mnist", "gait_learned_from_transpose"),
        lambda: difference("board_mnist", "gait_learned_from_transpose_fixed"),
        lambda: difference("board_mnist", "gait"),
        lambda: behind("board_mnist", "gait_learned_inverse"),
        lambda: difference("board_mnist", "sign_symmetry"),
        lambda: difference("board_mnist", "damped"),
        lambda: behind("board_mnist", "difference_target_propagation"),
        lambda: behind("board_mnist", "direct_feedback_alignment"),
        lambda: behind("board_mnist", "feedback_alignment"),
        lambda: behind("board_mnist", "itp"),
        lambda: behind("board_mnist", "tp"),
        lambda: worst_seed("board_mnist", "kolen_pollack"),
        lambda: other_seeds("board_mnist", "kolen_pollack"),
        lambda: length("board_mnist", "Kolen–Pollack, λ = 10"),
        lambda: best_without_the_penalty("kolen_pollack"),
        lambda: bp_strong("0.03"),
        lambda: bp_strong("0.01"),
        lambda: difference("mnist1d", "bp"),
        lambda: difference("mnist1d", "bp_strong"),
        lambda: difference("mnist1d", "gait", "bp"),
        lambda: difference("mnist1d", "gait_strong", "bp_strong"),
        lambda: difference("mnist1d", "bp_orthogonal_slower"),
        lambda: difference("mnist1d", "gait_orthogonal_slower"),
        lambda: difference("mnist1d", "bp_orthogonal"),
        lambda: difference("mnist1d", "gait_orthogonal"),
        lambda: difference("mnist1d", "gait_orthogonal_slower", "bp_orthogonal_slower"),
        lambda: difference("mnist1d", "gait_orthogonal", "bp_orthogonal"),
        lambda: validated("mnist1d"),
        lambda: of_forty("gait_orthogonal", "bp_orthogonal"),
        lambda: validated("mnist1d_orthogonal"),
        lambda: of_fifty("test_accuracy"),
        lambda: of_fifty("validation_accuracy_final"),
        lambda: of_forty("bp_orthogonal"),
        lambda: of_forty("gait_orthogonal"),
        lambda: apart(stdev),
        lambda: apart_by_chance(),
        # See test_what_rounding_alone_does: a clone need not have the commit that these are from.
        lambda: "1.9 points",
        lambda: "1.2 points",
    ],
}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_figure_in_words_is_a_result(document: str) -> None:
    """In the page's order, so that no two can have changed places."""
    text = without(words(document), [fact() for fact in FACTS[document]])
    left = set(re.findall(r"\d+\.\d[\d.]*\d|\d+\.\d|\d[\d,]* (?:%|times|points)", text))
    assert left - CHOSEN == set()


def test_what_rounding_alone_does() -> None:
    assert [f"{rounded_otherwise(rule):.1f}" for rule in ("bp", "gait")] == ["1.9", "1.2"]


PROFILES = (
    *SETS,
    "mnist1d_orthogonal",
    "board",
    "board_mnist",
    "trade_off",
    "trade_off_cross_entropy",
)


# Of each profile of the trade-off four: its tests, and the pairs.
OF_THE_TRADE_OFF = {
    ("trade_off", "gait_001", "reference"): 20,
    ("trade_off", "gait_01", "reference"): 20,
    ("trade_off", "gait_01", "bp_01"): 20,
    ("trade_off", "gait_100", "bp_100"): 20,
    ("trade_off_cross_entropy", "gait_01", "bp_01"): 22,
    ("trade_off_cross_entropy", "gait_1", "bp_1"): 22,
    ("trade_off_cross_entropy", "gait_orthogonal", "bp_orthogonal"): 22,
    ("trade_off_cross_entropy", "gait_orthogonal_gain", "bp_orthogonal_gain"): 22,
}


def spoiled(tests: dict[tuple[str, str], float]) -> set[tuple[str, str]]:
    """Of what is shown by tests' p, what is not by Holm's method (1979)."""
    ordered = sorted(tests, key=lambda each: tests[each])
    passed = itertools.takewhile(
        lambda k: tests[ordered[k]] < 0.05 / (len(ordered) - k), range(len(ordered))
    )
    return {each for each in ordered[len([*passed]) :] if tests[each] < 0.05}


def refuting(tests: dict[tuple[str, str], float]) -> dict[tuple[str, str], float]:
    """The p of the opposite: that the difference is beyond the margin."""
    return {each: 1 - p_value for each, p_value in tests.items()}


def test_what_a_correction_for_the_number_of_tests_would_change() -> None:
    found, refuted = {}, {}
    for profile in PROFILES:
        for claim in json.loads(published(f"results/{profile}/claims.json"))["claims"]:
            tests = {
                (each["case"]["model"], each["case"]["against"]): each["numbers"]["p_value"]
                for each in claim["findings"]
                if "p_value" in each["numbers"]
            }
            found |= {(profile, *each): len(tests) for each in spoiled(tests)}
            refuted |= {(profile, *each): len(tests) for each in spoiled(refuting(tests))}
    assert found == {
        ("board", "sign_symmetry", "reference"): 9,
        ("board", "gait_learned_inverse", "reference"): 9,
        ("board_mnist", "gait_learned_from_transpose", "reference"): 9,
        ("board_mnist", "gait_learned_from_transpose_fixed", "reference"): 9,
        ("mnist1d", "gait_orthogonal_slower", "bp_orthogonal_slower"): 8,
        ("mnist1d", "gait_orthogonal", "bp_orthogonal"): 8,
        **OF_THE_TRADE_OFF,
    }
    assert refuted == {
        ("board", "feedback_alignment", "reference"): 9,
        ("fashion_256", "gait", "reference"): 6,
        ("fashion_256", "gait", "bp"): 6,
        ("trade_off", "gait_full_01", "reference"): 20,
        ("trade_off", "gait_full_1", "reference"): 20,
        ("trade_off_cross_entropy", "gait_full_001", "reference"): 22,
    }


def test_what_a_correction_over_the_first_table_would_change() -> None:
    places = [
        ELSEWHERE.get((profile, model), (profile, model))
        for profile, model in itertools.product(SETS, COLUMNS)
        if model != "tp"
    ]
    tests = {
        place: of_test(*place).p_value for place in places if place[1] in summary(place[0])
    } | {
        (name, model): test.p_value
        for name in PUBLISHED
        for model, test in published_tests(name).items()
        if model != "tp"
    }
    assert len(tests) == 25
    assert spoiled(tests) == {
        ("digits", "gait"),
        ("fashion_256_long", "gait_orthogonal"),
        ("fashion_tower", "gait"),
        ("fashion_tower_100", "gait"),
        ("mnist_tower_gaussian", "gait"),
    }
    assert spoiled(refuting(tests)) == {
        ("fashion_256", "gait"),
        ("fashion_tower", "gait_strong"),
        ("fashion_tower_gaussian", "gait"),
    }


def test_the_table_by_epochs() -> None:
    accuracies, cosines, lengths = learned(), over_epochs("cosine"), over_epochs("norm")
    shown = re.search(
        r"<!-- table: epochs -->(.*?)<!-- /table", DOCUMENTS["docs/results_100_epochs.md"], re.S
    )
    assert shown
    rows = [line for line in shown[1].splitlines() if line.startswith("|")][2:]
    assert len(rows) == 4
    for row, epoch in zip(rows, (5, 20, 50, 100), strict=True):
        by = [f"{100 * accuracies[model, epoch]:.2f}" for model in ("reference", "gait_strong")]
        update = [f"{cosines[epoch]:.2f}", f"{lengths[epoch]:.2g}"]
        assert row == f"| {' | '.join([str(epoch), *by, *update])} |"


@pytest.mark.parametrize("profile", [*(each for each in SETS if each != "digits"), "trade_off"])
def test_with_orthogonal_weights_the_update_is_bps_all_through(profile: str) -> None:
    """To four digits, in every layer, whatever the learning rate."""
    found = {
        name: rows
        for name, rows in charts(profile).items()
        if re.search("^(cosine|norm)-.*-gait_orthogonal", name)
    }
    assert {name.partition("-")[0] for name in found} == {"cosine", "norm"}
    for rows in found.values():
        assert {row["layer"] for row in rows} == {"1", "2", "3", "4", "5"}
        assert max(int(row["epoch"]) for row in rows) == {"long": 100, "256": 15}.get(
            profile.rpartition("_")[2], 60
        )
        assert {row["value"] for row in rows} == {"1"}


def test_the_first_table_has_the_verdicts() -> None:
    shown = re.search(r"<!-- table: verdicts -->(.*?)<!-- /table -->", DOCUMENTS["README.md"], re.S)
    assert shown
    rows = [line for line in shown[1].splitlines() if line.startswith("|")]
    assert rows[2:] == verdict_rows()


def test_the_digits_have_one_bp() -> None:
    assert accuracy("digits", "reference") == accuracy("trade_off", "reference")
    assert difference("digits", "gait") == difference("trade_off", "gait_01")


@pytest.mark.parametrize("profile", SETS)
def test_its_signs_are_the_verdicts_of_the_claims(profile: str) -> None:
    signs = {"supported": "=", "inconclusive": "?", "not supported": "≠"}
    for model in set(COLUMNS) & set(summary(profile)):
        found = finding(profile, model, "reference")["verdict"]
        # Of TP it is claimed that it falls behind.
        sign = {"supported": "≠"}[found] if model == "tp" else signs[found]
        assert verdict(of_test(profile, model))[0] == sign
