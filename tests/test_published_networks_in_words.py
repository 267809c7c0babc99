"""What came of examples/published_networks.py, as the pages of results say it."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from statistics import mean, stdev
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from pipeline.results.equivalence import paired_test
from tests.documents import (
    difference,
    interval,
    published,
    published_difference,
    published_models,
    published_script,
    without,
)

REPOSITORY = Path(__file__).parents[1]
PAGES = ("results_published", "results_towers")
PAGE = "\n".join((REPOSITORY / f"docs/{each}.md").read_text() for each in PAGES)
RESULTS = "results/published"
WITH_REFERENCE = ("mnist", "mnist_tower", "mnist_tower_cpu", "fashion", "fashion_tower")
WITH_REFERENCE += ("fashion_tower_100", "fashion_tower_gaussian", "mnist_tower_gaussian")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return published_script()


@pytest.mark.parametrize("name", [*WITH_REFERENCE, "mnist_tp", "fashion_tp"])
def test_the_page_shows_the_results(script: ModuleType, name: str) -> None:
    shown = re.search(rf"<!-- table: {name} -->\n\n(.*?)\n\n<!-- /table -->", PAGE, re.DOTALL)
    assert shown
    assert shown[1] == script.table(document(name))


@pytest.mark.parametrize("name", WITH_REFERENCE)
def test_the_table_is_what_plain_arithmetic_says(script: ModuleType, name: str) -> None:
    models = published_models(name)
    lines = script.table(document(name)).split("\n")
    rows = {row.split(" | ")[0].strip("| "): row for row in lines}
    for model, facts in models.items():
        values = np.array(facts["test_accuracy"]) * 100
        assert f"| {values.mean():.2f} ± {values.std(ddof=1):.2f} |" in rows[model]
        if model != "BP reference":
            apart = values - np.array(models["BP reference"]["test_accuracy"]) * 100
            assert f"| {apart.mean():+.2f} ± {apart.std(ddof=1):.2f} |" in rows[model]


def document(name: str) -> Any:
    return json.loads(published(f"{RESULTS}/{name}.json"))


def apart(images: str, quantity: str, ours: str, theirs: str) -> list[float]:
    """A figure of the test set less another model's, of each seed."""
    models = published_models(images)
    pairs = zip(models[ours][quantity], models[theirs][quantity], strict=True)
    return [mine - other for mine, other in pairs]


def watched(images: str, name: str, epoch: int, part: str = "validation") -> list[float]:
    """Accuracy of each seed after an epoch, in percent."""
    return [
        100 * each for each in published_models(images)[name]["history"][epoch][f"{part}_accuracy"]
    ]


def of_layer(images: str, model: str, quantity: str, layer: int) -> list[float]:
    return [layers[layer] for layers in published_models(images)[model][quantity]]


def told(values: list[float], form: str) -> str:
    """Mean and sample standard deviation."""
    return f"{mean(values):{form}} ± {stdev(values):{form.strip('+')}}".replace("-", "−")


def test_the_verdicts_are_the_tests() -> None:
    for images in ("mnist", "mnist_tower"):
        for other in ("BP reference", "BP"):
            assert published_difference(images, "GAIT-prop", other).shown
    assert published_difference("mnist_tower_cpu", "GAIT-prop").shown
    assert max(apart("mnist", "test_accuracy", "GAIT-prop", "BP")) < 0
    for other in ("BP reference", "BP"):
        assert not published_difference("fashion", "GAIT-prop", other).shown
        assert max(apart("fashion", "test_accuracy", "GAIT-prop", other)) < 0
    assert published_difference("fashion", "BP", "BP reference").shown
    for pair in (("GAIT-prop", "BP reference"), ("GAIT-prop", "BP"), ("BP", "BP reference")):
        assert published_difference("fashion_tower", *pair).shown
    assert max(apart("fashion_tower", "test_accuracy", "GAIT-prop", "BP reference")) < 0
    assert published_difference("fashion_tower", "GAIT-prop", "BP").high > 0
    constrained = ("GAIT-prop, orthogonal", "BP, orthogonal")
    assert published_difference("fashion_tower", *constrained).shown
    for name in constrained:
        assert published_difference("fashion_tower", name).refuted
        for quantity, layer in itertools.product(("bp_cosine", "bp_relative_norm"), range(4)):
            figures = of_layer("fashion_tower", name, quantity, layer)
            assert all(abs(each - 1) < 0.00005 for each in figures)
    strong = ("GAIT-prop, strong", "BP, strong")
    assert published_difference("fashion_tower", *strong).shown
    assert all(published_difference("fashion_tower", each).refuted for each in strong)
    gaussian = ("GAIT-prop, Gaussian", "BP, Gaussian", "BP reference, Gaussian")
    tests = [published_difference("fashion_tower_gaussian", each) for each in gaussian]
    assert tests[0].refuted and tests[2].shown
    between = published_difference("fashion_tower_gaussian", *gaussian[:2])
    assert not between.shown and not between.refuted
    # Behind by less than the margin, as the page says.
    assert published_difference("mnist_tower", "GAIT-prop").high < 0
    losses = [
        mean(published_models("mnist")[n]["test_loss"]) for n in ("GAIT-prop", "BP reference")
    ]
    assert 1.9 < losses[0] / losses[1] < 2.2


def of_the_square_network() -> list[str]:
    models = published_models("mnist")
    found = [
        interval(published_difference("mnist", "GAIT-prop", other))
        for other in ("BP reference", "BP")
    ]
    found.append(f"the {100 - 100 * mean(models['BP reference']['test_accuracy']):.2f} %")
    found.append(f"a cosine of {told(of_layer('mnist', 'GAIT-prop', 'bp_cosine', 0), '.3f')}")
    lengths = [of_layer("mnist", "GAIT-prop", "bp_relative_norm", layer) for layer in range(4)]
    found.append(f"{told(lengths[0], '.2f')} of its length")
    second, third, fourth = (f"{mean(each):.2f}" for each in lengths[1:])
    found.append(f"{second}, {third} and {fourth} of it")
    found += [
        told(apart("mnist", "test_loss", each, "BP reference"), "+.4f")
        for each in ("GAIT-prop", "BP")
    ]
    for epoch in (1, 10):
        found += [f"{told(watched('mnist', each, epoch), '.2f')} %" for each in models]
    for epoch in (1, 10):
        for pair in (("BP", "BP reference"), ("GAIT-prop", "BP")):
            found.append(interval(paired_test(watched_apart("mnist", *pair, epoch))))
    return [*found, f"{models['GAIT-prop']['seconds'] / models['BP']['seconds']:.1f} times"]


def of_the_tower() -> list[str]:
    others = ("BP reference", "BP")
    found = [interval(published_difference("mnist_tower", "GAIT-prop", each)) for each in others]
    return [*found, *cosines_in_the_tower("mnist_tower")]


def of_the_tower_again() -> list[str]:
    differences = []
    for model in ("BP reference", "GAIT-prop"):
        again, before = (
            published_models(name)[model] for name in ("mnist_tower_cpu", "mnist_tower")
        )
        # The same weights to begin with.
        begun = (each["history"][0]["validation_accuracy"] for each in (again, before))
        np.testing.assert_allclose(*begun, rtol=0, atol=1e-6)
        pairs = zip(again["test_accuracy"], before["test_accuracy"], strict=True)
        differences.append([mine - other for mine, other in pairs])
    largest = max(map(abs, itertools.chain(*differences)))
    return [
        interval(published_difference("mnist_tower_cpu", "GAIT-prop")),
        *(interval(paired_test(each)) for each in differences),
        f"{1e4 * largest:.0f} of 10,000 images",
        told(of_layer("mnist_tower_cpu", "GAIT-prop", "bp_cosine", 0), ".3f"),
    ]


def cosines_in_the_tower(name: str, model: str = "GAIT-prop") -> list[str]:
    cosines = [told(of_layer(name, model, "bp_cosine", k), ".3f") for k in range(4)]
    assert cosines.pop() == "1.000 ± 0.000"
    return cosines


def lengths_in_the_tower(model: str) -> str:
    """Of the first three layers on Fashion-MNIST, in BP's."""
    lengths = [mean(of_layer("fashion_tower", model, "bp_relative_norm", k)) for k in range(3)]
    return "{:.2f}, {:.2f} and {:.2f}".format(*lengths)


def watched_apart(
    images: str, ours: str, theirs: str, epoch: int, part: str = "validation"
) -> list[float]:
    """Differences of shares of the validation images, or of another part's, of each seed."""
    pairs = zip(*(watched(images, each, epoch, part) for each in (ours, theirs)), strict=True)
    return [(mine - other) / 100 for mine, other in pairs]


def of_fashion() -> list[str]:
    others = ("BP reference", "BP")
    later = [
        watched_apart("fashion", "GAIT-prop", other, epoch)
        for other in others
        for epoch in (10, 20)
    ]
    # What the text says of how they change.
    changes = [
        paired_test([b - a for a, b in zip(*two, strict=True)]) for two in (later[:2], later[2:])
    ]
    assert changes[0].low > 0 > changes[1].low
    return [
        *(interval(published_difference("fashion", "GAIT-prop", other)) for other in others),
        interval(published_difference("fashion", "BP", "BP reference")),
        *(interval(paired_test(each)) for each in later),
        *(
            f"{told(watched('fashion', each, 20, 'training'), '.2f')} %"
            for each in ("GAIT-prop", "BP", "BP reference")
        ),
        *(f"{told(watched('fashion', 'GAIT-prop', epoch), '.2f')} %" for epoch in (10, 20)),
        *(difference("fashion_256", f"gait{which}") for which in ("", "_strong", "_orthogonal")),
    ]


def of_fashions_tower() -> list[str]:
    pairs = (("GAIT-prop", "BP reference"), ("GAIT-prop", "BP"), ("BP", "BP reference"))
    later = [watched_apart("fashion_tower", "GAIT-prop", "BP", epoch) for epoch in (10, 20)]
    in_training = watched_apart("fashion_tower", "GAIT-prop", "BP", 20, "training")
    losses = apart("fashion_tower", "test_loss", "GAIT-prop", "BP")
    assert max(in_training) < 0 < min(losses)
    loss = paired_test([each / 100 for each in losses])
    constrained = ("GAIT-prop, orthogonal", "BP, orthogonal")
    strong = ("GAIT-prop, strong", "BP, strong")
    assert max(watched_apart("fashion_tower", *strong, 20, "training")) < 0
    losing = [
        apart("fashion_tower", "test_accuracy", *pair) for pair in (("GAIT-prop", "BP"), strong)
    ]
    assert max(losing[1]) < 0
    more = paired_test([weak - other for weak, other in zip(*losing, strict=True)])
    images = [-1e4 * each for each in apart("fashion_tower", "test_accuracy", *constrained)]
    assert (round(min(images)), round(max(images))) == (3, 8)
    return [
        *(interval(published_difference("fashion_tower", *pair)) for pair in pairs),
        *(interval(paired_test(each)) for each in later),
        interval(paired_test(in_training)),
        f"{100 * loss.mean:.4f} ({100 * loss.low:.4f} to {100 * loss.high:.4f})",
        *cosines_in_the_tower("fashion_tower"),
        *cosines_in_the_tower("fashion_tower", "GAIT-prop, strong")[:2],
        f"({lengths_in_the_tower('GAIT-prop, strong')} of BP's",
        f"{lengths_in_the_tower('GAIT-prop')})",
        *(interval(published_difference("fashion_tower", each)) for each in strong[::-1]),
        interval(published_difference("fashion_tower", *strong)),
        f"{100 * more.mean:.2f} ({100 * more.low:.2f} to {100 * more.high:.2f})",
        interval(published_difference("fashion_tower", *constrained)),
        interval(paired_test(watched_apart("fashion_tower", *constrained, 20))),
        *(interval(published_difference("fashion_tower", each)) for each in constrained[::-1]),
    ]


def in_history(name: str, model: str, quantity: str, epoch: int, layer: int) -> list[float]:
    """What the history has of a layer after an epoch, of each seed."""
    return [seed[layer] for seed in published_models(name)[model]["history"][epoch][quantity]]


def of_fashions_tower_after_100_epochs() -> list[str]:
    name, pair = "fashion_tower_100", ("GAIT-prop", "BP reference")
    for epoch in range(21):
        assert watched(name, "BP reference", epoch) == watched(
            "fashion_tower", "BP reference", epoch
        )
    again, before = (watched(which, "GAIT-prop", 20) for which in (name, "fashion_tower"))
    repeated = [(mine - other) / 100 for mine, other in zip(again, before, strict=True)]
    assert published_difference(name, *pair).shown
    assert max(apart(name, "test_accuracy", *pair)) < 0
    lengths = of_layer(name, "GAIT-prop", "bp_relative_norm", 0)
    cosines = [in_history(name, "GAIT-prop", "bp_cosine", epoch, 0) for epoch in (20, 60, 100)]
    return [
        interval(paired_test(repeated)),
        interval(published_difference(name, *pair)),
        *(interval(paired_test(watched_apart(name, *pair, epoch))) for epoch in (20, 60, 100)),
        *(f"{told(watched(name, each, 100, 'training'), '.2f')} %" for each in pair),
        *(told(each, ".3f") for each in cosines),
        f"{mean(lengths):.2f} of it",
    ]


def of_the_start(images: str, model: str, orthogonal: str) -> list[float]:
    """What a model's seeds differ by from the same from orthogonal weights."""
    from_gaussian = published_models(f"{images}_tower_gaussian")[f"{model}, Gaussian"]
    other = published_models(orthogonal)[model]["test_accuracy"]
    return [a - b for a, b in zip(from_gaussian["test_accuracy"], other, strict=True)]


def ends(values: list[float], form: str) -> str:
    return f"{min(values):{form}} to {max(values):{form}}"


def from_gaussian_weights() -> list[str]:
    name = "fashion_tower_gaussian"
    gait, bp, alone, strong = (
        f"{each}, Gaussian" for each in ("GAIT-prop", "BP", "BP reference", "GAIT-prop, strong")
    )
    later = [watched_apart(name, gait, bp, epoch) for epoch in (10, 20)]
    assert paired_test([b - a for a, b in zip(*later, strict=True)]).low > 0
    assert max(apart(name, "test_accuracy", gait, bp)) < 0
    in_training = watched_apart(name, gait, bp, 20, "training")
    assert max(in_training) < 0
    before = published_models("fashion_tower")["BP reference"]["test_accuracy"]
    assert published_models(name)["BP reference"]["test_accuracy"] == before
    started = [of_the_start("fashion", each, "fashion_tower") for each in ("GAIT-prop", "BP")]
    more = [a - b for a, b in zip(*started, strict=True)]
    assert max(more) < 0
    return [
        interval(published_difference(name, gait)),
        interval(published_difference(name, alone)),
        interval(published_difference(name, bp)),
        interval(published_difference(name, gait, bp)),
        interval(paired_test(in_training)),
        *(interval(paired_test(each)) for each in (*started, more)),
        f"{ends(watched(name, gait, 2), '.1f')} %",
        f"{told(watched(name, bp, 2), '.1f')} %",
        *(f"{told(watched(name, each, 5), '.1f')} %" for each in (gait, bp)),
        *(interval(paired_test(each)) for each in later),
        *(told(in_history(name, gait, "bp_cosine", epoch, 0), ".3f") for epoch in (0, 20)),
        ends(in_history(name, gait, "bp_relative_norm", 0, 0), ",.0f"),
        ends(in_history(name, gait, "bp_relative_norm", 20, 0), ".1f"),
        *(
            told(in_history(name, gait, "orthogonality_defect", epoch, 0), ".2f")
            for epoch in (0, 5, 20)
        ),
        *(
            told(in_history(name, strong, "orthogonality_defect", epoch, 0), ".2f")
            for epoch in (5, 20)
        ),
        told(in_history(name, strong, "bp_cosine", 20, 0), ".3f"),
        interval(published_difference(name, strong)),
        interval(paired_test(of_the_start("fashion", "GAIT-prop, strong", "fashion_tower"))),
        *(f"{told(watched(name, strong, epoch), '.1f')} %" for epoch in (2, 5)),
    ]


def from_gaussian_weights_on_mnist() -> list[str]:
    name, gait = "mnist_tower_gaussian", "GAIT-prop, Gaussian"
    assert published_difference(name, gait).shown
    assert max(apart(name, "test_accuracy", gait, "BP reference")) < 0
    before = published_models("mnist_tower_cpu")["BP reference"]["test_accuracy"]
    assert published_models(name)["BP reference"]["test_accuracy"] == before
    return [
        interval(published_difference(name, gait)),
        interval(paired_test(of_the_start("mnist", "GAIT-prop", "mnist_tower_cpu"))),
        f"{ends(watched(name, gait, 2), '.1f')} %",
        told(of_layer(name, gait, "bp_cosine", 0), ".3f"),
    ]


def of_target_propagation(images: str) -> list[str]:
    found = [f"{told(watched(f'{images}_tp', 'TP', 10), '.2f')} %"]
    for name in ("BP reference", "GAIT-prop"):
        pairs = zip(watched(images, name, 10), watched(f"{images}_tp", "TP", 10), strict=True)
        found.append(f"{told([ours - theirs for ours, theirs in pairs], '.2f')} points")
    if images == "mnist":
        cosines, lengths = (
            of_layer("mnist_tp", "TP", quantity, 0)
            for quantity in ("bp_cosine", "bp_relative_norm")
        )
        found.append(f"a cosine of {told(cosines, '.3f')}")
        found.append(f"{mean(lengths):,.0f} ± {stdev(lengths):.0f} times")
    return found


def stated() -> list[str]:
    """Every figure of the pages' text, in its order."""
    behind = [
        f"{-100 * published_difference(*model).mean:.2f}{unit}"
        for model, unit in (
            (("fashion_tower", "GAIT-prop"), " points"),
            (("fashion_tower_100", "GAIT-prop"), ""),
            (("fashion_tower_gaussian", "GAIT-prop, Gaussian"), " points"),
            (("fashion", "GAIT-prop"), " points"),
        )
    ]
    cost = "{:.1f} and {:.1f} points by BP, {:.1f} and {:.1f} by GAIT-prop".format(
        *(
            -100 * published_difference("fashion_tower", f"{rule}, {kind}").mean
            for rule in ("BP", "GAIT-prop")
            for kind in ("strong", "orthogonal")
        )
    )
    return [
        *behind,
        cost,
        *of_the_square_network(),
        *of_fashion(),
        *of_target_propagation("mnist"),
        *of_target_propagation("fashion"),
        *of_the_tower(),
        *of_the_tower_again(),
        *of_fashions_tower(),
        *of_fashions_tower_after_100_epochs(),
        *from_gaussian_weights(),
        *from_gaussian_weights_on_mnist(),
    ]


def test_every_figure_in_words_is_a_result() -> None:
    text = re.sub(r"^\|.*?$|```.*?```|\]\([^)]*\)", "", PAGE, flags=re.DOTALL | re.MULTILINE)
    text = " ".join(text.split())
    text = without(text, stated())
    assert "(in the layers above, " in text and text.count("±") == 1
    chosen = {"0.0001", "0.99", "0.1", "0.001", "2.11.0", "2.13.0", "0.00001"}
    assert set(re.findall(r"\d+\.\d[\d.]*\d|\d+\.\d", text)) - chosen == set()
