"""What torch's graph has of a layer: forward as usual, backward by a learning rule; a penalty."""

from __future__ import annotations

import inspect
from typing import Any, NoReturn, cast

import torch
from torch import Tensor

from gaitprop.nn.operators import layer_errors, layer_outputs, weight_penalty


class InvertibleLayer(torch.autograd.Function):
    """y = f(W r + b) for rows r, (rows, n); what goes back to r is the rule's error.

    What a rule keeps is one vector, whose parts ``kept`` names; it gets its gradient here, too.
    The gradients of W and b are (D∘e) rᵀ and D∘e, summed over the rows, for every rule. A layer
    below which nothing learns is not inverted.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        rows: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        feedback: Tensor | None,
        slope: float,
        rule: str,
        gamma: float,
        number: int,
        kept: str,
    ) -> Tensor:
        """The outputs, shaped like the rows; see ``gaitprop.nn.operators``."""
        return cast(Tensor, layer_outputs(rows, weight, bias, slope))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keeps rows, weight and outputs; the activation's derivative is in the outputs."""
        rows, weight, bias, feedback, *ctx.settings = inputs
        ctx.save_for_backward(rows, weight, output, bias, feedback)

    @staticmethod
    def backward(ctx: Any, *errors: Tensor) -> tuple[Tensor | None, ...]:
        """The errors of the arguments, of which only tensors have any."""
        rows, weight, outputs, *layer = ctx.saved_tensors
        needed = ctx.needs_input_grad
        of_rows, of_weight, of_bias, of_feedback, *others = needed
        wanted = (of_rows, of_weight or of_bias, of_feedback)
        with torch.no_grad():
            found = layer_errors(*errors, outputs, rows, weight, *layer, *ctx.settings, *wanted)
        if torch.is_grad_enabled():
            # The outputs depend on whatever is learned here, and so do all four; on errors, too.
            found = [_final(each, outputs, *errors) for each in found]
        pairs = zip(found, needed[:4], strict=True)
        return *(each if need else None for each, need in pairs), *[None for _ in others]


class WeightPenalty(torch.autograd.Function):
    """The orthogonality penalty of a weight, (n, n), and the gradient that it has anyway."""

    generate_vmap_rule = True

    @staticmethod
    def forward(weight: Tensor, kind: str) -> tuple[Tensor, Tensor]:
        """See ``gaitprop.nn.operators``; the penalty alone can be differentiated."""
        return cast(tuple[Tensor, Tensor], weight_penalty(weight, kind))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        """Keeps the gradient, and the weight that it depends on."""
        _, gradient = output
        ctx.mark_non_differentiable(gradient)
        ctx.save_for_backward(gradient, inputs[0])

    @staticmethod
    def backward(ctx: Any, *errors: Tensor) -> tuple[Tensor, None]:
        """The gradient, times that of the penalty."""
        gradient, weight = ctx.saved_tensors
        found = errors[0] * gradient
        return _final(found, weight) if torch.is_grad_enabled() else found, None


def _final(value: Tensor, *of: Tensor) -> Tensor:
    return cast(Tensor, _Final.apply(value, *of))  # type: ignore[no-untyped-call]


# Else torch would take it again in every call, which costs as much as a small layer.
InvertibleLayer.forward.__signature__ = inspect.signature(InvertibleLayer.forward)  # type: ignore[attr-defined]


class _Final(torch.autograd.Function):
    """A value that was found without a graph, and must not pass for a constant.

    ``once_differentiable`` does as much for ``backward``; under ``torch.func`` it lets a second
    derivative be 0, silently (torch 2.13.0).
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(value: Tensor, *of: Tensor) -> Tensor:
        return value.view_as(value)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *errors: Tensor) -> NoReturn:
        raise RuntimeError(
            "gaitprop.nn was asked for a second derivative; allowed: the first alone, since what a"
            " learning rule sends down is no loss's gradient that could be differentiated again,"
            " and the orthogonality penalty's gradient is found without a graph"
        )
