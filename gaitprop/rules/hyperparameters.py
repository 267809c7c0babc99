"""Rules with hyperparameters of their own, which they declare: type, default, bounds, meaning."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any

from torch import Tensor

from gaitprop.errors import ArgumentError
from gaitprop.rules.layer import LayerView


@dataclass(frozen=True)
class Hyperparameter:
    """What a value of it may be.

    Attributes:
        default: a float, an int or a bool; values are of its type.
        description: for readers, in a few words.
        ge: the least value.
        gt: what values are above.
        le: the greatest value.
        lt: what values are below.
    """

    default: float
    description: str
    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None

    def bounds(self) -> dict[str, float]:
        """Those that there are, by name."""
        found = {name: getattr(self, name) for name in ("ge", "gt", "le", "lt")}
        return {name: bound for name, bound in found.items() if bound is not None}


@dataclass(frozen=True)
class RuleFamily:
    """A rule for each value of its hyperparameters; called, the one of all the defaults.

    Attributes:
        make: from values by name, all of them, to the rule: a function or a ``FeedbackRule``.
        hyperparameters: by name.
    """

    make: Callable[..., Callable[[LayerView, Tensor, float], Tensor]]
    hyperparameters: Mapping[str, Hyperparameter] = field(hash=False)

    def __call__(self, layer: LayerView, error: Tensor, scale: float) -> Tensor:
        """The error of what the layer reads, by the rule of the defaults."""
        return self.of({})(layer, error, scale)

    def of(self, values: Mapping[str, Any]) -> Callable[[LayerView, Tensor, float], Tensor]:
        """The rule of these values; what they lack has its default.

        Raises:
            ArgumentError: a value is not allowed, or there is no such hyperparameter.
        """
        for name, value in values.items():
            _check(self.hyperparameters, name, value)
        defaults = {name: each.default for name, each in self.hyperparameters.items()}
        return self.make(**{**defaults, **values})


_BOUNDS: dict[str, tuple[str, Callable[[float, float], bool]]] = {
    "ge": ("at least", lambda value, bound: value >= bound),
    "gt": ("above", lambda value, bound: value > bound),
    "le": ("at most", lambda value, bound: value <= bound),
    "lt": ("below", lambda value, bound: value < bound),
}


def _check(known: Mapping[str, Hyperparameter], name: str, value: Any) -> None:
    if name not in known:
        allowed = ", ".join(known) or "none"
        raise ArgumentError(f"{name!r} is no hyperparameter of the rule; allowed: {allowed}")
    kind, bounds = type(known[name].default), known[name].bounds()
    # An int is a float to a reader, and a bool is an int to Python alone; NumPy's are numbers too.
    sort = {int: Integral, float: Real}.get(kind, kind)
    good = isinstance(value, sort) and isinstance(value, bool) == (kind is bool)
    if not good or not all(_BOUNDS[each][1](value, bound) for each, bound in bounds.items()):
        words = [f"{_BOUNDS[each][0]} {bound:g}" for each, bound in bounds.items()]
        raise ArgumentError(f"{name} is {value!r}; allowed: {', '.join([kind.__name__, *words])}")
