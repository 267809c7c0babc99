"""Invertible layers as modules: parameters, settings, a forward whose gradients are a rule's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict, cast

import torch
from torch import Tensor, nn

from gaitprop.activations import make_activation
from gaitprop.errors import ArgumentError
from gaitprop.nn.functional import (
    check_dtype,
    check_gamma,
    check_size,
    check_tensor,
    invertible_conv2d,
    invertible_linear,
)
from gaitprop.nn.rule import feedback_rule, rule_key, rule_name
from gaitprop.rules import Rule
from gaitprop.rules.feedback import FeedbackRule, Site
from gaitprop.surroundings import drawn_on_the_cpu

_DRAWN = "finite real tensors by names of letters, digits and _"


class Settings(TypedDict):
    """Of a layer, as the functions take them."""

    rule: str
    gamma: float
    activation: str
    negative_slope: float
    number: int
    feedback: dict[str, Tensor]


class _InvertibleLayer(nn.Module):
    """What the two kinds of layer share: a square weight, a bias, and a rule with its settings."""

    weight: nn.Parameter
    bias: nn.Parameter | None

    def __init__(
        self,
        n: int,
        rule: str | Rule,
        gamma: float,
        activation: str,
        negative_slope: float,
        bias: bool,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        feedback_rule(rule)
        check_gamma(gamma)
        make_activation(activation, negative_slope)
        check_dtype(dtype or torch.get_default_dtype(), "dtype")
        self.rule, self.gamma = rule, gamma
        self.activation, self.negative_slope = activation, negative_slope
        self.number = 1
        self._kept: tuple[str, ...] = ()
        self._keeper: str | None = None
        self.weight = nn.Parameter(torch.empty(n, n, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(n, device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    def __setattr__(self, name: str, value: object) -> None:
        # A rule that is a module is no part of this one.
        if name == "rule":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)  # type: ignore[arg-type]

    @property
    def rule(self) -> str | Rule:
        """As given."""
        return cast("str | Rule", self.__dict__["_rule"])

    @rule.setter
    def rule(self, rule: str | Rule) -> None:
        self._rule_key = rule_key(rule)
        self.__dict__["_rule"] = rule

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Of a copy, or of a file: where the rule is a function, it is another here."""
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self.rule = self.rule

    def reset_parameters(self) -> None:
        """An orthogonal weight, uniform over the orthogonal group, a bias of 0, new feedback."""
        nn.init.orthogonal_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)
        self.reset_feedback()

    def reset_feedback(self) -> None:
        """Draws what the rule keeps, by torch's own generator: ``feedback_<name>``.

        What learns is a parameter, whose gradient ``backward`` leaves like that of a weight; what
        is fixed is a buffer. What another rule has kept is gone.
        """
        rule, there = feedback_rule(self._rule_key), self._feedback()
        fresh = {} if rule is None else _drawn(rule, self.weight.detach())
        self._kept, self._keeper = tuple(fresh), None if rule is None else rule.name
        if _kinds(fresh) == _kinds(there):
            # An optimizer may hold them.
            with torch.no_grad():
                for name, tensor in there.items():
                    tensor.copy_(fresh[name])
            return
        for name in there:
            delattr(self, f"feedback_{name}")
        for name, tensor in fresh.items():
            if isinstance(tensor, nn.Parameter):
                self.register_parameter(f"feedback_{name}", tensor)
            else:
                self.register_buffer(f"feedback_{name}", tensor)

    def _feedback(self) -> dict[str, Tensor]:
        return {name: getattr(self, f"feedback_{name}") for name in self._kept}

    def _settings(self) -> Settings:
        rule = feedback_rule(self._rule_key)
        if rule is not None and rule.name != self._keeper:
            raise ArgumentError(
                f"rule is {rule.name!r}, and the layer's feedback that of {self._keeper}; allowed:"
                " reset_feedback() once the rule is another, and an optimizer made after that"
            )
        return {
            "rule": self._rule_key,
            "gamma": self.gamma,
            "activation": self.activation,
            "negative_slope": self.negative_slope,
            "number": self.number,
            "feedback": self._feedback(),
        }

    def _checked_weight(self, n: int) -> Tensor:
        # Read once: a parametrization computes it at each look, and may draw, or go on by a step.
        weight = self.weight
        if weight.shape != (n, n):
            raise ArgumentError(f"weight is of shape {tuple(weight.shape)}; allowed: {(n, n)}")
        return weight

    def _extra_repr(self) -> str:
        slope = f", negative_slope={self.negative_slope}" if self.activation != "linear" else ""
        bias = "" if self.bias is not None else ", bias=False"
        rule = f"rule={rule_name(self.rule)}, gamma={self.gamma}"
        return f"{rule}, activation={self.activation}{slope}{bias}"


def _drawn(rule: FeedbackRule, weight: Tensor) -> dict[str, Tensor]:
    """What the rule begins with, by name: parameters if it learns."""
    source = torch.Generator().manual_seed(int(torch.randint(2**62, (), device="cpu")))
    with drawn_on_the_cpu():
        # On the meta device there are shapes alone.
        known = torch.zeros(weight.shape) if weight.is_meta else weight
        drawn = rule.draws(Site(known.double().cpu(), 1, len(weight)), source)
    _check_drawn(rule.name, drawn, values=not weight.is_meta)
    # A copy: what is drawn may be the weight itself.
    values = {name: tensor.to(weight, copy=True).contiguous() for name, tensor in drawn.items()}
    if rule.learns is None:
        return values
    return {name: nn.Parameter(value) for name, value in values.items()}


def _check_drawn(rule: str, drawn: object, values: bool = True) -> None:
    """Raises ArgumentError unless a rule drew what a module can keep: real tensors by name.

    Their ``values`` say nothing where the weight had none, as on the meta device.
    """
    if not isinstance(drawn, Mapping):
        raise ArgumentError(f"the rule {rule!r} drew a {type(drawn).__name__}; allowed: {_DRAWN}")
    for name, each in drawn.items():
        if not isinstance(name, str) or not name.isidentifier():
            raise ArgumentError(f"the rule {rule!r} drew {name!r}; allowed: {_DRAWN}")
        if not isinstance(each, Tensor):
            what = f"a {type(each).__name__}"
        elif each.is_complex():
            what = str(each.dtype)
        elif values and not each.isfinite().all():
            what = "inf or NaN"
        else:
            continue
        raise ArgumentError(f"the rule {rule!r} drew {what} as {name}; allowed: {_DRAWN}")


def _kinds(feedback: dict[str, Tensor]) -> dict[str, tuple[object, ...]]:
    return {
        name: (isinstance(each, nn.Parameter), each.shape, each.dtype, each.device)
        for name, each in feedback.items()
    }


class InvertibleLinear(_InvertibleLayer):
    """y = f(W x[:n] + b): ``nn.Linear`` and its activation, trained by a learning rule.

    ``loss.backward()`` puts what the rule gives into ``.grad``; ``bp`` gives what autograd gives.
    Every rule has the same gradient of W and b, and sends its own error to the units that the layer
    reads; where none of them needs a gradient, as in a first layer, nothing is inverted. The
    weight has to stay invertible: it starts orthogonal, see ``orthogonality_penalty`` and
    ``orthogonal_`` for keeping it near.

    γ: with ``gamma`` 0 GAIT-prop and ITP are exact limits, and linear in the error: any loss and
    any reduction will do. A γ above 0 makes a target, y − γ D²∘e for GAIT-prop, and the error then
    depends on the loss's scale wherever a target crosses the activation's kink. ``gamma`` is this
    layer's own step: a network of the paper's γ has γ^k in the k-th layer from the output, and a
    loss that is summed over the batch; the same of a mean over B samples is B·γ^k. The targets of
    ``tp`` and ``difference_target_propagation`` are such a step of size 1.

    GAIT-prop: Ahmad, van Gerven and Ambrogioni, NeurIPS 2020, arXiv 2006.06438.

    Attributes:
        in_features, out_features: as given.
        weight: W, (n, n).
        bias: b, (n,), or None.
        rule, gamma, activation, negative_slope: as given; may be changed between steps.
        number: 1 in every layer until it is set; a rule that draws fixed random numbers draws
            others for another number.
        feedback_…: what the rule keeps for the layer, if anything; see ``reset_feedback``, which
            has to be called where ``rule`` becomes another that keeps something.

    Args:
        in_features: how many units the input has.
        out_features: n, at most ``in_features``; the units after the first n are auxiliary: not
            read, and without error.
        rule: a name in ``gaitprop.RULES``, or of an installed package's rule, or a function.
        gamma: the layer's γ, at least 0.
        activation: ``"leaky_relu"`` or ``"linear"``.
        negative_slope: of the leaky ReLU, in (0, 1].
        bias: whether there is one.
        device: where the parameters live.
        dtype: float32 or float64; torch's default where not given.

    Raises:
        ArgumentError: a value is not allowed; in ``forward``, an input or a setting is not.
        SingularLayerError: in ``backward``: the rule inverts the layer, which has no inverse (on a
            GPU gradients are inf or NaN instead).

    Shape:
        (…, in_features) to (…, out_features).
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        rule: str | Rule = "gait",
        gamma: float = 0.0,
        activation: str = "leaky_relu",
        negative_slope: float = 0.1,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        in_features = check_size("in_features", in_features, 1)
        out_features = check_size("out_features", out_features, 1)
        if out_features > in_features:
            raise ArgumentError(
                f"out_features is {out_features} of {in_features} in_features; allowed: 1 to"
                f" {in_features}, since a layer's inverse needs all that it reads back"
            )
        super().__init__(out_features, rule, gamma, activation, negative_slope, bias, device, dtype)
        self.in_features, self.out_features = in_features, out_features

    def forward(self, input: Tensor) -> Tensor:
        """The outputs, (…, out_features), of an input (…, in_features) of the weight's dtype."""
        check_tensor(input, "input")
        if input.shape[-1:] != (self.in_features,):
            raise ArgumentError(
                f"input is of shape {tuple(input.shape)}; allowed: (…, {self.in_features})"
            )
        weight = self._checked_weight(self.out_features)
        return invertible_linear(input, weight, self.bias, **self._settings())

    def extra_repr(self) -> str:
        """The arguments, as ``repr`` shows them."""
        return f"{self.in_features}, {self.out_features}, {self._extra_repr()}"


class InvertibleConv2d(_InvertibleLayer):
    """A convolution whose k×k patches of c channels give c·k² channels, trained by a rule.

    W is square, (c·k², c·k²), and the same at every position; positions are further samples to the
    rule, and the errors of the patches that hold a pixel add up. With a ``stride`` of k no pixel is
    in two patches, and the layer has as many outputs as inputs. Everything else is as in
    ``InvertibleLinear``. Convolutions of this kind are those of arXiv 2102.11598.

    Attributes:
        weight: W, (n, n), n = c·k²; ``weight.view(n, c, k, k)`` is the weight of ``nn.Conv2d``.
        bias: b, (n,), or None.
        in_channels, kernel_size, stride, padding: as given.
        out_channels: n.
        rule, gamma, activation, negative_slope, number: as in ``InvertibleLinear``.

    Args:
        in_channels: c, how many channels are read: the first ones of an input that may have more,
            as the outputs of a convolution below do.
        kernel_size: k; given by name, like everything below, since ``nn.Conv2d`` has the number of
            its outputs in this place.
        stride: from one position to the next, in both directions; at most the padded image's sides.
        padding: zeros on each of the four sides, at most k − 1.
        rule: as in ``InvertibleLinear``, like everything below.
        gamma: the layer's γ.
        activation: the name of f.
        negative_slope: of f.
        bias: whether there is one.
        device: where the parameters live.
        dtype: float32 or float64.

    Raises:
        ArgumentError, SingularLayerError: as ``InvertibleLinear``.

    Shape:
        (batch, C, height, width) to (batch, c·k², down, across), C ≥ c, with
        down = (height + 2·padding − k) // stride + 1; or both without batch: three dimensions are
        always those of one image, and never images of one channel.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        rule: str | Rule = "gait",
        gamma: float = 0.0,
        activation: str = "leaky_relu",
        negative_slope: float = 0.1,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        in_channels = check_size("in_channels", in_channels, 1)
        kernel_size = check_size("kernel_size", kernel_size, 1)
        stride, padding = check_size("stride", stride, 1), check_size("padding", padding, 0)
        if padding >= kernel_size:
            raise ArgumentError(
                f"padding is {padding} with kernel_size {kernel_size}; allowed: 0 to"
                f" {kernel_size - 1}, since patches of zeros alone say nothing"
            )
        n = in_channels * kernel_size**2
        super().__init__(n, rule, gamma, activation, negative_slope, bias, device, dtype)
        self.in_channels, self.out_channels = in_channels, n
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding

    def forward(self, input: Tensor) -> Tensor:
        """The outputs, (batch, out_channels, down, across), of images of the weight's dtype."""
        check_tensor(input, "input")
        return invertible_conv2d(
            input,
            self._checked_weight(self.out_channels),
            self.bias,
            self.kernel_size,
            self.stride,
            self.padding,
            **self._settings(),
        )

    def extra_repr(self) -> str:
        """The arguments, as ``repr`` shows them."""
        patches = f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"
        return f"{self.in_channels}, {patches}, {self._extra_repr()}"
