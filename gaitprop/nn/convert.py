"""A model of torch's own layers becomes one of invertible layers, as far as it can."""

from __future__ import annotations

import itertools
from numbers import Real
from typing import NamedTuple, cast

from torch import nn

from gaitprop.errors import ArgumentError
from gaitprop.network import PRECISIONS
from gaitprop.nn.functional import check_gamma
from gaitprop.nn.layers import InvertibleConv2d, InvertibleLinear
from gaitprop.nn.rule import feedback_rule, rule_key, rule_name
from gaitprop.rules import Rule

_HOOKS = (
    *("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"),
    *("_state_dict_hooks", "_state_dict_pre_hooks"),
    *("_load_state_dict_pre_hooks", "_load_state_dict_post_hooks"),
)


class Conversion(NamedTuple):
    """What ``convert`` has done.

    Attributes:
        replaced: names of the layers that the rule trains now; of a layer in several places, each,
            though it stays one where the slopes that follow are one.
        left_alone: for each other layer with parameters of its own, the reason.
        added: names of new parameters, those of a rule whose feedback learns, which an optimizer
            made before does not know. (Feedback that is fixed is in buffers. A state dict of before
            has neither.)
    """

    replaced: tuple[str, ...]
    left_alone: dict[str, str]
    added: tuple[str, ...]


def convert(model: nn.Module, rule: str | Rule = "gait", gamma: float = 0.0) -> Conversion:
    """Replaces each square ``nn.Linear`` that a leaky ReLU follows, in place.

    The two have to be neighbours in an ``nn.Sequential``: elsewhere, and where a class made of it
    has a ``forward`` of its own, only that knows what follows what. The parameters stay the same
    objects, under the same names, so that optimizers and state dicts still fit, unless the rule
    keeps feedback; the leaky ReLU becomes an ``nn.Identity``. What the model computes stays the
    same, but for whoever looks between the two, where the activation is in already. Layers that are
    left alone are trained by autograd, as before.

    Args:
        model: any module that holds its layers; changed.
        rule: for every replaced layer.
        gamma: for every replaced layer; see ``InvertibleLinear``.

    Returns:
        What was replaced, and what was left alone and why.

    Raises:
        ArgumentError: the model, rule or γ is not allowed; nothing was changed.
    """
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"model is a {type(model).__name__}; allowed: an nn.Module")
    rule_key(rule)
    feedback_rule(rule)
    check_gamma(gamma)
    before = {name for name, _ in model.named_parameters()}
    places: dict[str, tuple[nn.Sequential, int, InvertibleLinear]] = {}
    # A layer in several places stays one, but where their slopes differ.
    made: dict[tuple[nn.Module, float], InvertibleLinear] = {}
    follower: dict[nn.Module, nn.Module] = {}
    for path, sequence in model.named_modules():
        if not isinstance(sequence, nn.Sequential) or _has_own_forward(sequence, nn.Sequential):
            continue
        keys = [*sequence._modules]
        for place, (module, after) in enumerate(itertools.pairwise(list(sequence))):
            if _obstacle(module, after):
                follower[module] = after
                continue
            assert isinstance(module, nn.Linear)
            assert isinstance(after, nn.LeakyReLU)
            key = module, after.negative_slope
            if key not in made:
                made[key] = _replacement(module, after, rule, gamma)
            places[f"{path}.{keys[place]}".lstrip(".")] = sequence, place, made[key]
    for sequence, place, layer in places.values():
        sequence[place] = layer
        sequence[place + 1] = nn.Identity()
    left_alone = {
        name: _obstacle(module, follower.get(module))
        for name, module in model.named_modules()
        if list(module.parameters(recurse=False)) and module not in made.values()
    }
    added = tuple(name for name, _ in model.named_parameters() if name not in before)
    return Conversion(tuple(places), left_alone, added)


def _obstacle(module: nn.Module, after: nn.Module | None) -> str:
    """Why the module cannot be replaced; empty if it can."""
    if isinstance(module, InvertibleLinear | InvertibleConv2d):
        return f"it is invertible already, with the rule {rule_name(module.rule)}: set its `rule`"
    # A class made of nn.Linear, as a parametrization makes one, may compute something else.
    if type(module) is not nn.Linear:
        return f"it is a {type(module).__name__}, not an nn.Linear"
    own = {name for name, _ in module.named_parameters(recurse=False)}
    usual = {"weight", *(() if module.bias is None else ("bias",))}
    others = {name for name, _ in (*module.named_buffers(), *module.named_children())}
    if own != usual or others:
        return "it holds other tensors or modules than the parameters of an nn.Linear"
    if module.in_features != module.out_features:
        return f"it is not square: {module.in_features} to {module.out_features} units"
    if module.weight.dtype not in PRECISIONS:
        return f"it is in {module.weight.dtype}, neither float32 nor float64"
    if type(after) is not nn.LeakyReLU:
        return "no nn.LeakyReLU follows it in an nn.Sequential with torch's own forward"
    slope = after.negative_slope
    if not isinstance(cast(object, slope), Real) or not 0.0 < slope <= 1.0:
        return f"the leaky ReLU after it has the slope {slope!r}, not a number in (0, 1]"
    if any(getattr(each, kind) for each in (module, after) for kind in _HOOKS):
        return "it or the leaky ReLU after it has hooks"
    if _has_own_forward(module, nn.Linear) or _has_own_forward(after, nn.LeakyReLU):
        return "it or the leaky ReLU after it has a forward of its own"
    return ""


def _has_own_forward(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether its class, or somebody who wrapped this very object, computes something else."""
    return type(module).forward is not kind.forward or "forward" in vars(module)


def _replacement(
    module: nn.Linear, after: nn.LeakyReLU, rule: str | Rule, gamma: float
) -> InvertibleLinear:
    n, slope = module.in_features, after.negative_slope
    # On the meta device no weight is drawn; feedback uses up one random number, if there is any.
    layer = InvertibleLinear(
        n, n, rule, gamma, "leaky_relu", slope, module.bias is not None, "meta", module.weight.dtype
    )
    for key, parameter in module.named_parameters():
        layer.register_parameter(key, parameter)
    layer.reset_feedback()
    return layer.train(module.training)
