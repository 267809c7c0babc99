"""The modules as modules: what they hold, show, save and refuse."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from gaitprop import ArgumentError
from gaitprop.nn import (
    InvertibleConv2d,
    InvertibleLinear,
    convert,
    invertible_conv2d,
    invertible_linear,
    orthogonal_,
    orthogonality_penalty,
)
from gaitprop.nn.rule import learns
from gaitprop.regularizer import orthogonality_defect
from gaitprop.rules import RULES
from gaitprop.rules.layer import LayerView
from tests.gaitprop.nn.models import gradients, small_batch, small_model


def own_rule(layer: Any, error: torch.Tensor, scale: float) -> torch.Tensor:
    return layer.local_error


def test_what_they_start_with() -> None:
    torch.manual_seed(0)
    dense, convolution = InvertibleLinear(9, 5), InvertibleConv2d(2, kernel_size=3)
    assert dense.weight.shape == (5, 5)
    assert convolution.weight.shape == (18, 18)
    for layer in (dense, convolution):
        assert list(dict(layer.named_parameters())) == ["weight", "bias"]
        assert orthogonality_defect(layer.weight) < 1e-6
        assert layer.weight.is_contiguous()
        assert not layer.bias.any()
    torch.manual_seed(0)
    assert torch.equal(InvertibleLinear(9, 5).weight, dense.weight)
    assert InvertibleLinear(3, 3, bias=False).bias is None
    shapes = InvertibleLinear(3, 3, device="meta")
    assert shapes.weight.is_meta
    assert shapes(torch.ones(2, 3, device="meta")).shape == (2, 3)


def test_numpys_numbers_are_numbers() -> None:
    n = np.prod((2, 3))
    layer = InvertibleLinear(n, n, gamma=np.float32(0.5))
    assert repr(layer) == repr(InvertibleLinear(6, 6, gamma=0.5))
    assert layer(torch.ones(1, 6)).shape == (1, 6)
    assert InvertibleConv2d(np.int64(2), kernel_size=np.int32(3)).weight.shape == (18, 18)


def test_tensors_of_two_devices_are_refused() -> None:
    """On the device of shapes alone there is nothing to compute with."""
    weight, there = torch.eye(4), torch.eye(4, device="meta")
    bias, inputs = torch.zeros(4, device="meta"), torch.ones(2, 4)
    for name, arguments in {
        "input": (inputs, there),
        "bias": (inputs, weight, bias),
    }.items():
        with pytest.raises(ArgumentError, match=rf"^{name} is on .* allowed: one device$"):
            invertible_linear(*arguments)
    with pytest.raises(ArgumentError, match=r"^feedback 'backward' is on meta, and the weight on"):
        invertible_linear(inputs, weight, rule="kolen_pollack", feedback={"backward": there})


@pytest.mark.parametrize("feedback", [torch.eye(4), [1], {"backward": [1]}])
def test_feedback_that_is_no_tensors_by_name_is_refused(feedback: Any) -> None:
    with pytest.raises(ArgumentError, match=r"^feedback .*is a \w+; allowed: "):
        invertible_linear(torch.ones(2, 4), torch.eye(4), rule="kolen_pollack", feedback=feedback)


def test_a_convolution_written_as_torchs_is_refused() -> None:
    with pytest.raises(TypeError, match="takes 2 positional arguments but 4 were given"):
        InvertibleConv2d(16, 64, 3)


def test_repr() -> None:
    assert repr(InvertibleLinear(9, 5, "itp", 0.5)) == (
        "InvertibleLinear(9, 5, rule=itp, gamma=0.5, activation=leaky_relu, negative_slope=0.1)"
    )
    assert repr(
        InvertibleConv2d(2, kernel_size=3, stride=2, padding=1, activation="linear", bias=False)
    ) == (
        "InvertibleConv2d(2, kernel_size=3, stride=2, padding=1, rule=gait, gamma=0.0,"
        " activation=linear, bias=False)"
    )


def test_default_dtype() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        model = small_model()
        images, labels = small_batch()
        outputs = model(images.double())
        assert outputs.dtype == torch.float64
        found = gradients(model, nn.functional.cross_entropy(outputs, labels))
        assert {each.dtype for each in found} == {torch.float64}
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    "copied",
    [
        copy.deepcopy,
        lambda model: pickle.loads(pickle.dumps(model)),
        lambda model: _saved(model, small_model(seed=1)),
    ],
    ids=["deepcopy", "pickle", "state_dict"],
)
@pytest.mark.parametrize("rule", ["gait", "itp", own_rule])
def test_copies_do_the_same(rule: Any, copied: Callable[[nn.Module], nn.Module]) -> None:
    model = small_model(rule)
    other = copied(model)
    for module in other:
        if hasattr(module, "rule"):
            module.rule = rule
    images, labels = small_batch()
    found = [
        gradients(each, nn.functional.cross_entropy(each(images), labels))
        for each in (model, other)
    ]
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*found, strict=True))
    assert {id(each) for each in model.parameters()}.isdisjoint(map(id, other.parameters()))


def _saved(model: nn.Module, into: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    into.load_state_dict(torch.load(file, weights_only=True))
    return into


def _half() -> None:
    InvertibleLinear(3, 3).bfloat16()(torch.ones(2, 3, dtype=torch.bfloat16))


def _square_of_3() -> torch.Tensor:
    return torch.eye(3)


def _by(rule: str, **feedback: torch.Tensor) -> torch.Tensor:
    inputs = torch.ones(1, 3, requires_grad=True)
    return invertible_linear(inputs, _square_of_3(), rule=rule, feedback=feedback)


def _with_another_weight() -> None:
    layer = InvertibleConv2d(1, kernel_size=2, bias=False)
    layer.weight = nn.Parameter(torch.eye(16))
    layer(torch.ones(1, 4, 2, 2))


# What is done, and all that is said.
REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "width grows": (
        lambda: InvertibleLinear(3, 4),
        "out_features is 4 of 3 in_features; allowed: 1 to 3, since a layer's inverse needs all"
        " that it reads back",
    ),
    "no outputs": (
        lambda: InvertibleLinear(3, 0),
        "out_features is 0; allowed: an integer, 1 or more",
    ),
    "less than nothing": (lambda: InvertibleLinear(-3, -3), "in_features is -3; .*"),
    "a width with a point": (lambda: InvertibleLinear(3.0, 3.0), r"in_features is 3\.0; .*"),
    "a width in words": (lambda: InvertibleLinear("3", 3), "in_features is '3'; .*"),
    "no tensor": (
        lambda: InvertibleLinear(3, 3)([1.0, 2.0, 3.0]),
        "input is a list; allowed: a tensor",
    ),
    "no tensor for a convolution": (
        lambda: InvertibleConv2d(1, kernel_size=2)([1.0]),
        "input is a list; allowed: a tensor",
    ),
    "rule": (
        lambda: InvertibleLinear(3, 3, "gate"),
        "rule is 'gate'; allowed: bp, gait, itp, tp, .*",
    ),
    "the output's error": (
        lambda: InvertibleLinear(3, 3, "direct_feedback_alignment"),
        "rule is 'direct_feedback_alignment', which needs the error of the network's output;"
        " allowed: rules that need no more than their layer's, since a module knows no other",
    ),
    "no feedback": (
        lambda: invertible_linear(torch.ones(1, 3), _square_of_3(), rule="kolen_pollack"),
        "rule is 'kolen_pollack', which keeps tensors for a layer, and there are none; allowed:"
        " feedback, as a module made with this rule has it",
    ),
    "feedback of another rule": (
        lambda: _by("gait_learned_inverse", backward=_square_of_3()).sum().backward(),
        "feedback is backward; allowed: inverse, which the rule reads",
    ),
    "feedback of another dtype": (
        lambda: _by("kolen_pollack", backward=_square_of_3().double()),
        "feedback 'backward' is torch.float64; allowed: torch.float32, as the weight",
    ),
    "fixed feedback that would learn": (
        lambda: _by("feedback_alignment", backward=_square_of_3().requires_grad_()),
        "feedback 'backward' requires a gradient, and the rule 'feedback_alignment' keeps it fixed;"
        " allowed: a tensor that requires none",
    ),
    "no rule": (lambda: InvertibleLinear(3, 3, 7), "rule is 7; allowed: a name or a function"),
    "gamma": (
        lambda: InvertibleLinear(3, 3, gamma=-1.0),
        "gamma is -1.0; allowed: 0 or more, finite in float32",
    ),
    "gamma in words": (lambda: InvertibleLinear(3, 3, gamma="x"), "gamma is 'x'; .*"),
    "gamma that float32 does not hold": (
        lambda: InvertibleLinear(3, 3, gamma=1e39),
        r"gamma is 1e\+39; allowed: 0 or more, finite in float32",
    ),
    "gamma of a call": (
        lambda: invertible_linear(torch.ones(1, 3), _square_of_3(), gamma=float("nan")),
        "gamma is nan; allowed: 0 or more, finite in float32",
    ),
    "activation": (
        lambda: InvertibleLinear(3, 3, activation="relu"),
        "activation is 'relu'; allowed: leaky_relu, linear",
    ),
    "slope in words": (
        lambda: InvertibleLinear(3, 3, negative_slope="0.1"),
        r"negative_slope is '0\.1'; allowed: a number above 0 .*",
    ),
    "slope": (lambda: InvertibleLinear(3, 3, negative_slope=0.0), "negative_slope is 0.0; .*"),
    "dtype": (
        lambda: InvertibleLinear(3, 3, dtype=torch.float16),
        "dtype is torch.float16; allowed: torch.float32 or torch.float64, also under .*",
    ),
    "dtype in words": (
        lambda: InvertibleLinear(3, 3, dtype="float32"),
        "dtype is 'float32'; allowed: torch.float32 or torch.float64, also under .*",
    ),
    "dtype of parameters": (_half, "weight is torch.bfloat16; allowed: .*"),
    "dtype of the input": (
        lambda: InvertibleLinear(3, 3)(torch.ones(2, 3, dtype=torch.float64)),
        "input is torch.float64; allowed: torch.float32, as the weight",
    ),
    "integers": (
        lambda: InvertibleLinear(3, 3)(torch.ones(2, 3, dtype=torch.int64)),
        "input is torch.int64; allowed: torch.float32, as the weight",
    ),
    "width of the input": (
        lambda: InvertibleLinear(4, 3)(torch.ones(2, 5)),
        r"input is of shape \(2, 5\); allowed: \(…, 4\)",
    ),
    "too few units": (
        lambda: invertible_linear(torch.ones(2, 2), _square_of_3()),
        r"input is of shape \(2, 2\); allowed: \(…, 3\) or more units, of which the first 3 are"
        " read",
    ),
    "scalar": (
        lambda: invertible_linear(torch.tensor(1.0), _square_of_3()),
        r"input is of shape \(\); .*",
    ),
    "no weight": (
        lambda: invertible_linear(torch.ones(2, 3), None),
        "weight is a NoneType; allowed: a tensor",
    ),
    "a number for a weight": (
        lambda: invertible_linear(torch.ones(2, 3), torch.tensor(1.0)),
        r"weight is of shape \(\); allowed: \(n, n\) with \(n,\)",
    ),
    "bias as of a module": (
        lambda: invertible_linear(torch.ones(2, 3), _square_of_3(), True),
        "bias is a bool; allowed: a tensor",
    ),
    "rectangular weight": (
        lambda: invertible_linear(torch.ones(2, 3), torch.ones(2, 3)),
        r"weight is of shape \(2, 3\); allowed: \(n, n\) with \(n,\)",
    ),
    "bias": (
        lambda: invertible_linear(torch.ones(2, 3), _square_of_3(), torch.ones(2)),
        r"weight is of shape \(3, 3\) with bias \(2,\); allowed: \(n, n\) with \(n,\)",
    ),
    "bias of another dtype": (
        lambda: invertible_linear(torch.ones(2, 3), _square_of_3(), torch.ones(3).double()),
        "bias is torch.float64; allowed: torch.float32, as the weight",
    ),
    "kernel": (
        lambda: InvertibleConv2d(1, kernel_size=(3, 3)),
        r"kernel_size is \(3, 3\); allowed: an integer, 1 or more",
    ),
    "padding": (
        lambda: InvertibleConv2d(1, kernel_size=3, padding=-1),
        "padding is -1; .*, 0 or more",
    ),
    "padding with zeros alone": (
        lambda: InvertibleConv2d(1, kernel_size=3, padding=3),
        "padding is 3 with kernel_size 3; allowed: 0 to 2, since .*",
    ),
    "kernel of a call": (
        lambda: invertible_conv2d(torch.ones(1, 1, 4, 4), _square_of_3(), None, 2),
        r"kernel_size is 2 for a weight of shape \(3, 3\); allowed: k with \(c·k², c·k²\) for c"
        " channels",
    ),
    "kernel of a call, as torch's": (
        lambda: invertible_conv2d(torch.ones(1, 1, 4, 4), torch.eye(4), None, (2, 2)),
        r"kernel_size is \(2, 2\); allowed: an integer, 1 or more",
    ),
    "kernel of a call with a point": (
        lambda: invertible_conv2d(torch.ones(1, 1, 4, 4), torch.eye(4), None, 2.0),
        r"kernel_size is 2\.0; allowed: an integer, 1 or more",
    ),
    "padding of a call": (
        lambda: invertible_conv2d(torch.ones(1, 1, 4, 4), torch.eye(4), None, 2, 1, "same"),
        "padding is 'same'; allowed: an integer",
    ),
    "flat images": (
        lambda: InvertibleConv2d(1, kernel_size=2)(torch.ones(3, 16)),
        r"input is of shape \(3, 16\); allowed: \(batch, channels, height, width\) or \(channels,"
        r" height, width\)",
    ),
    "too few channels": (
        lambda: InvertibleConv2d(3, kernel_size=2)(torch.ones(1, 2, 4, 4)),
        r"input is of shape \(1, 2, 4, 4\); allowed: 3 channels or more, of which .* are read",
    ),
    "image below the kernel": (
        lambda: InvertibleConv2d(1, kernel_size=5)(torch.ones(1, 1, 4, 4)),
        "kernel_size is 5 on 4 x 4 with .*; allowed: 1 to 4",
    ),
    "penalty": (
        lambda: orthogonality_penalty(InvertibleLinear(3, 3), "half"),
        "penalty is 'half'; allowed: off_diagonal, full",
    ),
    "nothing to penalise": (
        lambda: orthogonality_penalty(nn.Linear(3, 3)),
        "Linear has no invertible layer; allowed: a module with an InvertibleLinear or"
        " InvertibleConv2d in it",
    ),
    "no module": (
        lambda: orthogonality_penalty(torch.eye(3)),
        "module is a Tensor; allowed: an nn.Module",
    ),
    "half precision to penalise": (
        lambda: orthogonality_penalty(InvertibleLinear(3, 3).bfloat16()),
        "weight is torch.bfloat16; allowed: .*",
    ),
    "half precision to keep orthogonal": (
        lambda: orthogonal_(InvertibleLinear(3, 3).half()),
        "weight is torch.float16; allowed: .*",
    ),
    "gamma in the place of bias": (
        lambda: InvertibleLinear(3, 3, "gait", False),
        "gamma is False; allowed: 0 or more, finite in float32",
    ),
    "no model": (lambda: convert(None), "model is a NoneType; allowed: an nn.Module"),
    "nothing to keep orthogonal": (lambda: orthogonal_(nn.Linear(3, 3)), "Linear has no .*"),
    "number": (
        lambda: invertible_linear(torch.ones(1, 3), _square_of_3(), number=None),  # type: ignore[arg-type]
        "number is None; allowed: an integer, 0 or more",
    ),
    "a name of feedback": (
        lambda: _by("kolen_pollack", **{"my B": _square_of_3()}),
        "feedback is named 'my B'; allowed: names of letters and _",
    ),
    "another weight": (_with_another_weight, r"weight is of shape \(16, 16\); allowed: \(4, 4\)"),
    "rule of a conversion": (
        lambda: convert(nn.Linear(3, 3), "gate"),
        "rule is 'gate'; allowed: bp, gait, itp, tp, .*",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_gets_one_sentence(name: str) -> None:
    action, sentence = REFUSED[name]
    with pytest.raises(ArgumentError, match=rf"^{sentence}$"):
        action()


@pytest.mark.parametrize(
    ("rule", "gamma"),
    [
        ("gait", 0.5),
        ("tp", 0.0),
        (RULES["tp"], 0.0),
        ("gait_learned_inverse", 0.0),
        (RULES["difference_target_propagation"], 0.0),
    ],
)
def test_a_scale_that_is_not_the_losses_refuses_rescaled_losses(rule: Any, gamma: float) -> None:
    layer = InvertibleLinear(3, 3, rule, gamma)
    with torch.autocast("cpu", torch.bfloat16):
        layer(torch.ones(2, 3))
    with (
        torch.autocast("cpu", torch.float16),
        pytest.raises(ArgumentError, match=r"^rule is '[a-z]\w+', .* are rescaled"),
    ):
        layer(torch.ones(2, 3))
    # Where nothing is trained there is no loss.
    with torch.autocast("cpu", torch.float16), torch.no_grad():
        layer(torch.ones(2, 3))
    with torch.autocast("cpu", torch.float16):
        copy.deepcopy(layer).requires_grad_(False)(torch.ones(2, 3))
        if learns(rule):  # Feedback learns by itself, too.
            own = copy.deepcopy(layer)
            own.weight.requires_grad_(False)
            own.bias.requires_grad_(False)
            with pytest.raises(ArgumentError, match="are rescaled"):
                own(torch.ones(2, 3))
    layer.rule, layer.gamma = "gait", 0.0
    with torch.autocast("cpu", torch.float16):
        layer(torch.ones(2, 3))


class Silent(nn.Module):
    """A rule that is a module: it sends nothing."""

    def forward(self, _layer: LayerView, error: torch.Tensor, _gamma: float) -> torch.Tensor:
        return 0.0 * error


class Counted(nn.Module):
    """A parametrization that counts how often it is computed."""

    times = 0

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        self.times += 1
        return weight


@pytest.mark.parametrize("layer", [InvertibleLinear(4, 3), InvertibleConv2d(3, kernel_size=1)])
def test_a_parametrized_weight_is_computed_once(layer: Any) -> None:
    """As torch's own layers do: one that draws, or iterates, would be another at each look."""
    layer, counted = copy.deepcopy(layer), Counted()
    parametrize.register_parametrization(layer, "weight", counted)
    counted.times = 0
    layer(torch.ones(1, 3, 4, 4))
    assert counted.times == 1


@pytest.mark.parametrize("layer", [InvertibleLinear(4, 3), InvertibleConv2d(3, kernel_size=1)])
def test_a_weight_of_another_size_is_refused(layer: Any) -> None:
    layer = copy.deepcopy(layer)
    layer.weight, layer.bias = nn.Parameter(torch.eye(2)), None
    with pytest.raises(ArgumentError, match=r"^weight is of shape \(2, 2\); allowed: \(3, 3\)$"):
        layer(torch.ones(1, 3, 4, 4))


def test_a_rule_may_be_a_module() -> None:
    for layer in (InvertibleLinear(3, 3, Silent()), InvertibleLinear(3, 3)):
        layer.rule = Silent()
        assert isinstance(layer.rule, Silent) and list(layer.children()) == []
        for each in (layer, copy.deepcopy(layer)):
            inputs = torch.ones(2, 3, requires_grad=True)
            (received,) = torch.autograd.grad(each(inputs).sum(), inputs)
            assert not received.any()
