"""Invertible layers as functions of their parameters; the modules call these.

Autocast: parameters are float32 or float64 always, inputs are cast to their dtype under
``torch.autocast``, and the arithmetic runs in it, outputs included: a solve in bfloat16 would leave
nothing of the theorem. (``torch.amp.custom_fwd`` is for functions of one kind of device, and writes
to its first argument where there is a ``setup_context``.)
"""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral, Real

import torch
from torch import Tensor

from gaitprop.activations import Activation, make_activation
from gaitprop.errors import ArgumentError
from gaitprop.network import PRECISIONS
from gaitprop.nn.function import InvertibleLayer
from gaitprop.nn.operators import layer_outputs
from gaitprop.nn.rule import feedback_rule, joined, learns, rule_key, rule_name
from gaitprop.reading import Reading
from gaitprop.rules import Rule


def invertible_linear(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    rule: str | Rule = "gait",
    gamma: float = 0.0,
    activation: str = "leaky_relu",
    negative_slope: float = 0.1,
    number: int = 1,
    feedback: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """y = f(W x[:n] + b), whose gradients are a learning rule's.

    Args:
        input: x, (…, m) with m ≥ n; units beyond the first n are not read, and get no error.
        weight: W, (n, n), float32 or float64.
        bias: b, (n,), of the weight's dtype.
        rule: a name in ``gaitprop.RULES`` (but ``direct_feedback_alignment``, which needs the
            output's error), or of an installed package's rule, or a function, which is kept as long
            as the process lives: make it once, not for every call.
        gamma: γ ≥ 0 of this layer; see ``InvertibleLinear``.
        activation: ``"leaky_relu"`` or ``"linear"``.
        negative_slope: of the leaky ReLU, in (0, 1].
        number: the layer's, told to a rule that draws random numbers.
        feedback: what the rule keeps for the layer, by name, if it keeps anything.

    Returns:
        (…, n), of the weight's dtype.

    Raises:
        ArgumentError: a value, shape or dtype is not allowed.
        SingularLayerError: in ``backward``: the rule inverts the layer, which has no inverse (on a
            GPU gradients are inf or NaN instead).
    """
    n = _check_tensors(input, weight, bias)
    if input.dim() < 1 or input.shape[-1] < n:
        raise ArgumentError(
            f"input is of shape {tuple(input.shape)}; allowed: (…, {n}) or more units, of which the"
            f" first {n} are read"
        )
    read = _cast(input, weight)
    # Views that change nothing are left out: each is a step of its own in backward.
    if read.shape[-1] > n:
        read = read[..., :n]
    kept = _kept(rule, feedback, weight)
    tensors = input, weight, bias, *kept.values()
    settings = _settings(rule, gamma, activation, negative_slope, number, *tensors)
    if read.dim() == 2:
        return _apply(read, weight, bias, settings, kept)
    return _apply(read.reshape(-1, n), weight, bias, settings, kept).view(read.shape)


def invertible_conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    kernel_size: int,
    stride: int = 1,
    padding: int = 0,
    rule: str | Rule = "gait",
    gamma: float = 0.0,
    activation: str = "leaky_relu",
    negative_slope: float = 0.1,
    number: int = 1,
    feedback: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """f(W r + b) of the patch r at each position, whose gradients are a learning rule's.

    A patch of k×k pixels of c channels gives c·k² channels at its position: W is square, and what
    it maps can be mapped back. The errors of a pixel's patches add up. docs/theory.md, arXiv
    2102.11598.

    Args:
        input: (batch, C, height, width), or without batch, with C ≥ c; channels beyond the first c
            are not read, and get no error.
        weight: W, (n, n), n = c·k², float32 or float64; columns in the order of
            ``torch.nn.functional.unfold``: by channel, then the patch's row, then its column.
        bias: b, (n,), of the weight's dtype.
        kernel_size: k.
        stride: from one position to the next, in both directions.
        padding: zeros on each of the four sides.
        rule: as in ``invertible_linear``, like everything below.
        gamma: γ of this layer.
        activation: the name of f.
        negative_slope: of f.
        number: the layer's.
        feedback: what the rule keeps for the layer.

    Returns:
        (batch, n, positions down, positions across), or without batch.

    Raises:
        ArgumentError: a value, shape or dtype is not allowed.
        SingularLayerError: in ``backward``: the rule inverts the layer, which has no inverse (on a
            GPU gradients are inf or NaN instead).
    """
    n = _check_tensors(input, weight, bias)
    kernel_size = check_size("kernel_size", kernel_size, 1)
    channels, rest = divmod(n, kernel_size**2)
    if rest:
        raise ArgumentError(
            f"kernel_size is {kernel_size} for a weight of shape {tuple(weight.shape)}; allowed:"
            " k with (c·k², c·k²) for c channels"
        )
    if input.dim() not in (3, 4):
        raise ArgumentError(
            f"input is of shape {tuple(input.shape)}; allowed: (batch, channels, height, width) or"
            " (channels, height, width)"
        )
    if input.shape[-3] < channels:
        raise ArgumentError(
            f"input is of shape {tuple(input.shape)}; allowed: {channels} channels or more, of"
            f" which the first {channels} are read"
        )
    *_, depth, height, width = _shape(input)
    reading = Reading((depth, height, width), channels, kernel_size, stride, padding)
    units = _cast(input, weight).reshape(-1, reading.n_units)
    kept = _kept(rule, feedback, weight)
    tensors = input, weight, bias, *kept.values()
    settings = _settings(rule, gamma, activation, negative_slope, number, *tensors)
    rows = _apply(reading.read(units), weight, bias, settings, kept)
    return reading.units(rows).reshape(*input.shape[:-3], n, *reading.positions)


def _apply(
    rows: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    settings: tuple[float, str, float, int],
    kept: Mapping[str, Tensor],
) -> Tensor:
    if torch.compiler.is_exporting():
        if torch.is_grad_enabled():
            # An exporter would take the function apart, and what is left learn by backpropagation:
            # the operator has no backward, and says so.
            return layer_outputs(rows, weight, bias, settings[0]).clone()  # type: ignore[no-any-return]
        return _outputs_in_plain_torch(rows, weight, bias, settings[0])
    feedback, parts = joined(kept)
    outputs: Tensor = InvertibleLayer.apply(rows, weight, bias, feedback, *settings, parts)  # type: ignore[no-untyped-call]
    # A tensor of its own: what comes next may write to it, and the rule needs what was computed.
    return outputs.clone()


def _outputs_in_plain_torch(
    rows: Tensor, weight: Tensor, bias: Tensor | None, slope: float
) -> Tensor:
    """y = f(W r + b) by operations that every runtime knows."""
    if _autocast(rows.device.type):  # Else the context would be a part of what is exported.
        with torch.autocast(rows.device.type, enabled=False):
            return Activation(slope).value(torch.nn.functional.linear(rows, weight, bias))
    return Activation(slope).value(torch.nn.functional.linear(rows, weight, bias))


def _kept(
    rule: str | Rule, feedback: Mapping[str, Tensor] | None, weight: Tensor
) -> Mapping[str, Tensor]:
    """Raises ArgumentError where a rule that keeps something has nothing, or what cannot be that.

    Shapes are the rule's to know.
    """
    keeping = feedback_rule(rule)
    if keeping is None:
        return {}
    if not isinstance(feedback, Mapping | None):
        raise ArgumentError(f"feedback is a {type(feedback).__name__}; allowed: tensors by name")
    if not feedback:
        raise ArgumentError(
            f"rule is {keeping.name!r}, which keeps tensors for a layer, and there are none;"
            " allowed: feedback, as a module made with this rule has it"
        )
    for name, each in feedback.items():
        check_tensor(each, f"feedback {name!r}")
        check_device(each, weight, f"feedback {name!r}")
        if each.dtype != weight.dtype:
            raise ArgumentError(
                f"feedback {name!r} is {each.dtype}; allowed: {weight.dtype}, as the weight"
            )
        if each.requires_grad and not learns(rule):
            raise ArgumentError(
                f"feedback {name!r} requires a gradient, and the rule {keeping.name!r} keeps it"
                " fixed; allowed: a tensor that requires none"
            )
    return feedback


def _shape(tensor: Tensor) -> tuple[int, ...]:
    """In numbers, of which ``torch.jit.trace`` makes tensors."""
    return tuple(int(each) if isinstance(each, Tensor) else each for each in tensor.shape)


def check_dtype(dtype: torch.dtype, of: str) -> None:
    """Raises ArgumentError unless the dtype is one in which a layer can be inverted."""
    if dtype not in PRECISIONS:
        raise ArgumentError(
            f"{of} is {dtype!r}; allowed: torch.float32 or torch.float64, also under torch.autocast"
        )


def check_size(name: str, size: object, least: int) -> int:
    """The size as Python's own integer; ArgumentError unless it is one of at least so much."""
    if not isinstance(size, Integral) or isinstance(size, bool) or size < least:
        raise ArgumentError(f"{name} is {size!r}; allowed: an integer, {least} or more")
    return int(size)


def check_tensor(value: object, name: str) -> None:
    """Raises ArgumentError unless it is a tensor."""
    if not isinstance(value, Tensor):
        raise ArgumentError(f"{name} is a {type(value).__name__}; allowed: a tensor")


def check_device(value: Tensor, weight: Tensor, name: str) -> None:
    """Raises ArgumentError unless the tensor is on the weight's device."""
    if value.device != weight.device:
        raise ArgumentError(
            f"{name} is on {value.device}, and the weight on {weight.device}; allowed: one device"
        )


def check_gamma(gamma: float) -> None:
    """Raises ArgumentError unless γ is at least 0, and finite in every precision of a layer."""
    largest = torch.finfo(torch.float32).max
    if isinstance(gamma, bool) or not isinstance(gamma, Real) or not 0.0 <= gamma <= largest:
        raise ArgumentError(f"gamma is {gamma!r}; allowed: 0 or more, finite in float32")


def _check_tensors(input: Tensor, weight: Tensor, bias: Tensor | None) -> int:
    """n; ArgumentError unless weight (n, n) and bias (n,) fit, on the input's device."""
    check_tensor(input, "input")
    check_tensor(weight, "weight")
    check_device(input, weight, "input")
    if bias is not None:
        check_tensor(bias, "bias")
        check_device(bias, weight, "bias")
    check_dtype(weight.dtype, "weight")
    n = _shape(weight)[-1] if weight.dim() else 0
    if weight.shape != (n, n) or (bias is not None and bias.shape != (n,)):
        of_bias = "" if bias is None else f" with bias {tuple(bias.shape)}"
        raise ArgumentError(
            f"weight is of shape {tuple(weight.shape)}{of_bias}; allowed: (n, n) with (n,)"
        )
    if bias is not None and bias.dtype != weight.dtype:
        raise ArgumentError(f"bias is {bias.dtype}; allowed: {weight.dtype}, as the weight")
    return n


def _settings(
    rule: str | Rule,
    gamma: float,
    activation: str,
    negative_slope: float,
    number: int,
    *tensors: Tensor | None,
) -> tuple[float, str, float, int]:
    """Checked, as ``InvertibleLayer`` takes them."""
    check_gamma(gamma)
    check_size("number", number, 0)
    key = rule_key(rule)
    if (gamma > 0.0 or key == "tp" or learns(key)) and _rescales_losses(*tensors):
        raise ArgumentError(
            f"rule is {rule_name(key)!r}, gamma {gamma!r}, under autocast to float16, whose losses"
            " are rescaled, while targets, and what feedback learns by, are of a scale of their"
            " own; allowed: bfloat16, or a rule that learns nothing, not tp, with gamma 0"
        )
    slope = make_activation(activation, negative_slope).slope
    return slope, key, float(gamma), number


def _rescales_losses(*tensors: Tensor | None) -> bool:
    """Whether they learn under autocast to float16, for which losses are made larger."""
    learning = [each.device.type for each in tensors if each is not None and each.requires_grad]
    return (
        torch.is_grad_enabled()
        and any(map(_autocast, learning))
        and torch.get_autocast_dtype(learning[0]) == torch.float16
    )


def _autocast(device: str) -> bool:
    # PyTorch knows no autocast of its device of shapes alone, and refuses the question.
    return device != "meta" and torch.is_autocast_enabled(device)


def _cast(input: Tensor, weight: Tensor) -> Tensor:
    """The input in the weight's dtype under autocast; else it has to be of that dtype."""
    if input.dtype == weight.dtype:
        return input
    if input.is_floating_point() and _autocast(input.device.type):
        return input.to(weight.dtype)
    raise ArgumentError(f"input is {input.dtype}; allowed: {weight.dtype}, as the weight")
