"""The engine's arithmetic as operators of torch, which no transformation has to enter.

An operator is opaque to ``torch.compile`` and ``torch.export``, which could not follow a check of a
matrix's pivots, and under ``torch.func.vmap`` it gets all seeds at once: the engine has them as a
leading dimension anyway. Rows are samples, or positions of samples, (…, rows, n); a weight is
(…, n, n), with the same leading dimensions, which the engine sees as one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, cast

import torch
from torch import Tensor

from gaitprop.activations import Activation
from gaitprop.feedback import learned
from gaitprop.linalg import affine, matmul
from gaitprop.nn.rule import parted, rule_of
from gaitprop.regularizer import penalised
from gaitprop.rules import RULES
from gaitprop.rules.feedback import FeedbackRule, Lesson
from gaitprop.rules.layer import LayerView
from gaitprop.surroundings import own_precision


def _outputs(rows: Tensor, weight: Tensor, bias: Tensor | None, slope: float) -> Tensor:
    """y = f(W r + b) of each row.

    Args:
        rows: r, (…, rows, n).
        weight: W, (…, n, n).
        bias: b, (…, n), or None.
        slope: of the activation below zero.

    Returns:
        (…, rows, n).
    """
    added = weight.new_zeros(weight.shape[:-1]) if bias is None else bias
    with own_precision():
        hidden = affine(_one(rows), _one(weight), _one(added, 1))
        return Activation(slope).value(hidden).reshape(rows.shape)


def _errors(
    error: Tensor,
    outputs: Tensor,
    rows: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    feedback: Tensor | None,
    slope: float,
    rule: str,
    gamma: float,
    number: int,
    kept: str,
    of_rows: bool,
    of_parameters: bool,
    of_feedback: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What goes back to a layer's rows, by a rule, to its weight and bias, and to feedback.

    Args:
        error: ∂loss/∂y, or what the rule of the layer above has made of it, (…, rows, n).
        outputs: y, (…, rows, n).
        rows: r, (…, rows, n).
        weight: W, (…, n, n).
        bias: b, (…, n), or None.
        feedback: what the rule keeps for the layer, (…, all of it), or None.
        slope: of the activation below zero.
        rule: a key of ``gaitprop.nn.rule.rule_key``.
        gamma: the step at which the layer is inverted.
        number: the layer's, for a rule that draws random numbers.
        kept: the names and shapes of what the rule keeps, from ``gaitprop.nn.rule.joined``.
        of_rows: whether the rows' error is wanted.
        of_parameters: whether those of weight and bias are.
        of_feedback: whether the feedback learns.

    Returns:
        The rule's error of the rows, (…, rows, n), Σ (D∘e) rᵀ, (…, n, n), and Σ D∘e, (…, n), the
        sums over the rows; and the gradient of the feedback. Empty where not wanted.
    """
    leading, n = weight.shape[:-2], weight.shape[-1]
    activation = Activation(slope)
    error, outputs, rows, weight = map(_one, (error.contiguous(), outputs, rows, weight))
    below, of_weight, of_bias, of_kept = (error.new_empty(0) for _ in range(4))
    # A rule of one's own may write to what it gets, return it, or a view.
    given = _itself if rule in RULES else Tensor.clone
    with own_precision():
        local_error = activation.times_derivative(error, outputs)
        seeds = tuple(range(weight.shape[0] if leading else 1))

        def view() -> LayerView:
            parts = {} if feedback is None else parted(given(_one(feedback, 1)), kept)
            tensors = given(weight), given(outputs), given(local_error)
            return LayerView(*tensors, activation, number, seeds, feedback=parts)

        if of_rows:
            below = rule_of(rule)(view(), given(error), gamma)
            if rule not in RULES:
                # Results of an operator are tensors of their own, in the order of their shape.
                below = below.clone(memory_format=torch.contiguous_format)
            below = below.reshape(*leading, -1, n)
        if of_parameters or of_feedback:
            of_weight = matmul(local_error.mT, rows)
        if of_feedback:
            added = weight.new_zeros(weight.shape[:-1]) if bias is None else _one(bias, 1)
            layer = view()
            lesson = Lesson(
                layer, given(rows), given(added), of_weight.clone(), lambda: torch.randn_like(rows)
            )
            found = learned(cast(FeedbackRule, rule_of(rule)), lesson)
            flat = [found[name].reshape(*error.shape[:-2], -1) for name in layer.feedback]
            of_kept = torch.cat(flat, -1).reshape(*leading, -1)
        of_weight = of_weight.reshape(*leading, n, n) if of_parameters else error.new_empty(0)
        if of_parameters:
            of_bias = local_error.sum(-2).reshape(*leading, n)
    return below, of_weight, of_bias, of_kept


def _penalty(weight: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    """The orthogonality penalty of a weight and its gradient, (…) and (…, n, n).

    Args:
        weight: W, (…, n, n).
        kind: one of ``gaitprop.regularizer.PENALTIES``.
    """
    with own_precision():
        matrix = _one(weight)
        unwanted = penalised(matrix, kind)
        value = unwanted.square().sum((-2, -1)).reshape(weight.shape[:-2])
        return value, 4.0 * matmul(matrix, unwanted).reshape(weight.shape)


_OPERATORS: dict[str, Callable[..., Any]] = {
    "layer_outputs": _outputs,
    "layer_errors": _errors,
    "weight_penalty": _penalty,
}
for name, function in _OPERATORS.items():
    schema = torch.library.infer_schema(function, mutates_args=())
    torch.library.define(f"gaitprop::{name}", schema)
    torch.library.impl(f"gaitprop::{name}", "CompositeExplicitAutograd", function)

layer_outputs = torch.ops.gaitprop.layer_outputs.default
layer_errors = torch.ops.gaitprop.layer_errors.default
weight_penalty = torch.ops.gaitprop.weight_penalty.default


def _untrained(_context: Any, *_errors: Any) -> NoReturn:
    raise RuntimeError(
        "a model of gaitprop.nn that was exported, or compiled within torch.func.vmap, was asked"
        " for gradients, which no learning rule is in it to make; allowed: to run it, and to train"
        " the module that it was made from"
    )


torch.library.register_autograd("gaitprop::layer_outputs", _untrained)


@torch.library.register_fake("gaitprop::layer_outputs")  # type: ignore[untyped-decorator]
def _(rows: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(rows, memory_format=torch.contiguous_format)


@torch.library.register_fake("gaitprop::layer_errors")  # type: ignore[untyped-decorator]
def _(error: Tensor, outputs: Tensor, rows: Tensor, weight: Tensor, *others: Any) -> Any:
    _, feedback, *_, of_rows, of_parameters, of_feedback = others
    shapes = (
        rows.shape if of_rows else (0,),
        weight.shape if of_parameters else (0,),
        weight.shape[:-1] if of_parameters else (0,),
    )
    return *map(error.new_empty, shapes), error.new_empty(feedback.shape if of_feedback else 0)


@torch.library.register_fake("gaitprop::weight_penalty")  # type: ignore[untyped-decorator]
def _(weight: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    return weight.new_empty(weight.shape[:-2]), weight.new_empty(weight.shape)


@torch.library.register_vmap("gaitprop::weight_penalty")  # type: ignore[untyped-decorator]
def _(info: Any, in_dims: Any, weight: Tensor, kind: str) -> Any:
    return weight_penalty(*_leading(info, in_dims, weight), kind), (0, 0)


@torch.library.register_vmap("gaitprop::layer_outputs")  # type: ignore[untyped-decorator]
def _(info: Any, in_dims: Any, rows: Tensor, weight: Tensor, bias: Any, slope: float) -> Any:
    return layer_outputs(*_leading(info, in_dims, rows, weight, bias), slope), 0


@torch.library.register_vmap("gaitprop::layer_errors")  # type: ignore[untyped-decorator]
def _(info: Any, in_dims: Any, *arguments: Any) -> Any:
    *tensors, weight, bias, feedback = arguments[:6]
    *settings, of_rows, of_parameters, of_feedback = arguments[6:]
    found = (of_rows, of_parameters, of_parameters, of_feedback)
    dims = tuple(0 if wanted else None for wanted in found)
    tensors = _leading(info, in_dims, *tensors)
    layer = _leading(info, in_dims[3:], weight, bias, feedback)
    # A rule of one's own may look at all rows of a sample, say at their mean.
    together = settings[1] in RULES and feedback is None and of_rows
    if in_dims[3] is not None or weight.dim() > 2 or not together:
        wanted = (of_rows, of_parameters, of_feedback)
        return layer_errors(*tensors, *layer, *settings, *wanted), dims
    # One matrix for all, as in gradients of single samples: it is inverted once.
    flat = (tensor.flatten(0, -2) for tensor in tensors)
    below, *_ = layer_errors(*flat, weight, None, None, *settings, True, False, False)
    _, *of_layer = layer_errors(*tensors, *layer, *settings, False, of_parameters, False)
    return (below.view(tensors[0].shape), *of_layer), dims


def _itself(tensor: Tensor) -> Tensor:
    return tensor


def _one(tensor: Tensor, own: int = 2) -> Tensor:
    """All leading dimensions as one; the last ``own`` are the tensor's own."""
    return tensor.flatten(0, -own - 1) if tensor.dim() > own + 1 else tensor


def _leading(info: Any, in_dims: Any, *tensors: Any) -> list[Any]:
    """The mapped dimension first, added where a tensor has none."""
    return [
        tensor
        if tensor is None
        else tensor.expand(info.batch_size, *tensor.shape)
        if dim is None
        else tensor.movedim(dim, 0)
        for tensor, dim in zip(tensors, in_dims, strict=False)
    ]
