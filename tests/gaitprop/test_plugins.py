"""Rules of other packages: found, loaded when asked for, and refused by name."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gaitprop import ArgumentError, InvertibleNetwork, layer_gradients, plugins
from gaitprop.diagnostics import alignment_with_bp
from gaitprop.rules import RULES, find_rule, other_rules, rule_names
from gaitprop.rules.feedback import FeedbackRule
from gaitprop.rules.layer import LayerView
from gaitprop.training import TrainingData, TrainingSettings, make_optimizer, train
from tests.own_packages import Package, packages

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_rule"


@pytest.fixture
def package(tmp_path: Path) -> Iterator[Package]:
    with packages(tmp_path, "gaitprop.rules") as install:
        yield install


def refused(rule: str) -> str:
    with pytest.raises(ArgumentError) as caught:
        find_rule(rule)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_rule_is_imported_when_it_is_asked_for(package: Package) -> None:
    package("twice", "def twice(layer, error, scale): return 2 * error\n", twice="twice")
    assert rule_names() == [*RULES, "twice"]
    assert find_rule("bp") is not None
    assert "own_twice" not in sys.modules
    network = InvertibleNetwork([4, 4, 4], seeds=(3, 5))
    images, labels = torch.rand(6, 4), torch.arange(6) % 4
    gradients = layer_gradients(network, images, labels, 4, rule="twice")
    assert "own_twice" in sys.modules
    y0, y1, y2 = network.forward(images)
    error = y2 - torch.nn.functional.one_hot(labels, 4).to(y2.dtype)
    local = network.activation.times_derivative(2 * error, y1)
    assert torch.allclose(gradients[0].weight, local.mT @ y0 / 6)


def test_what_a_package_prints_is_not_on_standard_output(
    package: Package, capsys: pytest.CaptureFixture[str]
) -> None:
    package("loud", "print('hello')\ndef loud(layer, error, scale): return error\n", loud="loud")
    find_rule("loud")
    assert capsys.readouterr() == ("", "hello\n")


def test_a_rule_is_told_layer_and_seeds(package: Package) -> None:
    seen: list[LayerView] = []
    package("see", "def see(layer, error, scale):\n    seen(layer)\n    return error\n", see="see")
    find_rule("see")
    sys.modules["own_see"].__dict__["seen"] = seen.append
    network = InvertibleNetwork([5, 4, 3, 3], seeds=(3, 5))
    layer_gradients(network, torch.rand(2, 5), torch.zeros(2, dtype=torch.long), 3, rule="see")
    assert [(view.number, view.seeds) for view in seen] == [(3, (3, 5)), (2, (3, 5))]
    assert all(view.weight is network.weights[view.number - 1] for view in seen)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import missing_module", "cannot be loaded: ModuleNotFoundError: No module named"),
        ("1 / 0", "cannot be loaded: ZeroDivisionError: division by zero"),
        ("def f(", "cannot be loaded: SyntaxError"),
        ("", "cannot be loaded: AttributeError"),
        ("rule = 3", "is 3; allowed: a function"),
    ],
)
def test_a_broken_package_is_named(package: Package, source: str, said: str) -> None:
    package("broken", source, mine="rule")
    assert rule_names()[-1] == "mine"
    message = refused("mine")
    assert message.startswith("'mine' (gaitprop.rules) of the package broken 1.0 ")
    assert said in message
    if source == "1 / 0":
        assert message.endswith("own_broken.py, line 1)")


@pytest.mark.parametrize("name", ["gait", "reference", "Mine", "my-rule", "../up", "x" * 41])
def test_names_that_no_rule_may_have(package: Package, name: str) -> None:
    package("bold", "def f(layer, error, scale): return error\n", **{name: "f"})
    message = refused("other")
    assert repr(name) in message and "bold 1.0" in message and "allowed: " in message


def test_two_packages_with_one_name(package: Package) -> None:
    for distribution in ("first", "second"):
        package(distribution, "def f(layer, error, scale): return error\n", mine="f")
    message = refused("mine")
    assert "first 1.0" in message and "second 1.0" in message


@pytest.mark.parametrize("returned", ["error[..., :1]", "error.double()", "None"])
def test_an_error_of_another_shape_is_refused(package: Package, returned: str) -> None:
    package("odd", f"def odd(layer, error, scale): return {returned}\n", odd="odd")
    network = InvertibleNetwork([4, 4, 4])
    with pytest.raises(ArgumentError, match=r"odd 1.0 returned .*allowed: torch.float32 of shape"):
        layer_gradients(network, torch.rand(2, 4), torch.tensor([0, 1]), 4, rule="odd")


def test_the_source_is_the_packages_own(package: Package, tmp_path: Path) -> None:
    for folder in ("whole/inner", "shared/part/inner"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "rule.py").write_text("def f(*view): return view[1]\n")
    for folder in ("whole", "whole/inner", "shared/part"):
        (tmp_path / folder / "__init__.py").touch()
    package("single", "def f(*view): return view[1]\n", single="f")
    package("many", "")
    points = "a = whole.inner.rule:f\nb = shared.part.inner.rule:f\nc = nowhere.rule:f"
    metadata = tmp_path / "many-1.0.dist-info" / "entry_points.txt"
    metadata.write_text(f"[gaitprop.rules]\n{points}\n")
    plugins.offered.cache_clear()
    found = other_rules()
    assert plugins.source(found["single"]) == tmp_path / "own_single.py"
    assert plugins.source(found["a"]) == tmp_path / "whole"
    assert plugins.source(found["b"]) == tmp_path / "shared" / "part"
    with pytest.raises(ArgumentError, match=r"many 1.0 cannot be loaded.*nowhere"):
        plugins.source(found["c"])


@pytest.fixture
def example(package: Package) -> None:
    source = (EXAMPLE / "weight_mirror.py").read_text()
    package("mirror", source, weight_mirror="weight_mirror")


def trained(seeds: tuple[int, ...], epochs: int) -> InvertibleNetwork:
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.rand(96, 16, generator=generator), torch.arange(96) % 3
    data = TrainingData(images[:64], labels[:64], images[64:], labels[64:], 3)
    settings = TrainingSettings("weight_mirror", 1e-3, 0.0, epochs=epochs, batch_size=16)
    settings = replace(settings, feedback_learning_rate=1e-2)
    network = InvertibleNetwork([16, 16, 16, 16], seeds=seeds)
    list(train(network, make_optimizer(network, settings), data, settings))
    return network


@pytest.mark.usefixtures("example")
def test_feedback_of_a_package_is_the_seeds_own() -> None:
    both, one = trained((0, 1), 2), trained((1,), 2)
    assert torch.equal(both.weights[0][1:], one.weights[0])
    assert torch.equal(both.kept()[0][1:], one.kept()[0])


@pytest.mark.usefixtures("example")
def test_mirrors_are_random_to_begin_with_and_learn_the_weights() -> None:
    labels = torch.arange(20).remainder(10).expand(2, -1)
    inputs = torch.rand(20, 16, generator=torch.Generator().manual_seed(0))

    def cosine(network: InvertibleNetwork) -> torch.Tensor:
        return alignment_with_bp(network, inputs, labels, 10, "weight_mirror", 0.0).cosine

    begun = cosine(InvertibleNetwork([16] * 4, seeds=(0, 1)))
    assert begun[:, -1].sub(1).abs().max() < 1e-6
    assert begun[:, :-1].abs().max() < 0.7
    assert cosine(trained((0, 1), 40)).min() > 0.9


@pytest.mark.usefixtures("example")
def test_what_a_package_passes_down_is_checked() -> None:
    rule = find_rule("weight_mirror")
    module = sys.modules["own_mirror"]
    assert isinstance(rule, FeedbackRule) and rule.draws is module.__dict__["draws"]
    narrow = replace(rule, passes=lambda *view: view[1][..., :1])
    module.__dict__["weight_mirror"] = narrow
    network = InvertibleNetwork([4, 4, 4])
    with pytest.raises(ArgumentError, match=r"mirror 1.0 returned .*allowed: torch.float32 of"):
        layer_gradients(network, torch.rand(2, 4), torch.tensor([0, 1]), 4, rule="weight_mirror")
