"""Rules of other packages: found, loaded when asked for, and refused by name."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from gaitprop import ArgumentError, InvertibleNetwork, layer_gradients, plugins
from gaitprop.diagnostics import alignment_with_bp
from gaitprop.rules import find_rule, other_rules, rule_names
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
    assert rule_names() == ["bp", "gait", "itp", "tp", "twice"]
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
    source = (EXAMPLE / "feedback_alignment.py").read_text()
    package("alignment", source, feedback_alignment="feedback_alignment")


@pytest.mark.usefixtures("example")
def test_feedback_is_the_seeds_own_and_the_same_after_an_interruption() -> None:
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.rand(96, 8, generator=generator), torch.arange(96) % 3
    data = TrainingData(images[:64], labels[:64], images[64:], labels[64:], 3)

    def weights(seeds: tuple[int, ...], stops: bool) -> torch.Tensor:
        settings = TrainingSettings("feedback_alignment", 1e-2, 0.0, epochs=2, batch_size=16)
        network = InvertibleNetwork([8, 8, 8, 8], seeds=seeds)
        optimizer = make_optimizer(network, settings)
        for record in train(network, optimizer, data, settings):
            if stops and record.epoch == 1:
                # As in another process: nothing is remembered.
                sys.modules["own_alignment"].matrices.cache_clear()
                break
        if stops:
            list(train(network, optimizer, data, settings, first_epoch=1))
        return network.weights[0]

    whole = weights((0, 1), stops=False)
    assert torch.equal(whole, weights((0, 1), stops=True))
    assert torch.equal(whole[1:], weights((1,), stops=False))


@pytest.mark.usefixtures("example")
def test_feedback_is_random_to_begin_with() -> None:
    network = InvertibleNetwork([64] * 4, seeds=range(5))
    labels = torch.arange(20).remainder(10).expand(5, -1)
    inputs = torch.rand(20, 64, generator=torch.Generator().manual_seed(0))
    found = alignment_with_bp(network, inputs, labels, 10, "feedback_alignment", 0.0)
    assert found.cosine[:, -1].sub(1).abs().max() < 1e-6
    assert found.cosine[:, :-1].abs().max() < 0.5
    assert found.cosine[:, :-1].mean().abs() < 0.1
