"""Learning rules by name. A rule says how an error passes from a layer's output to its input.

Every rule gives the same update, dW_l = mean over the batch of (D_l∘e_l) y_{l-1}ᵀ; they differ in
the error e_l, which each carries down from e_L = y_L − t. A rule is one function in one file:

    rule(layer: LayerView, error: Tensor, scale: float) -> Tensor

with ``error`` = e_l of shape (S, batch, n_l), ``scale`` = γ^k at the k-th layer from the output
(k = 1 for the output layer), and the result e_{l-1} on the n_l units that layer l reads: of the
shape and dtype of ``error``. The positions of a convolution are further samples of the batch, and
its n_l those that one position has: a rule need not know of them. A rule that keeps something for
a layer, feedback weights say, is a ``FeedbackRule``, and called in the same way; one with
hyperparameters of its own is a ``RuleFamily``. A package of one's own adds a rule by an entry point
of the group ``gaitprop.rules``; see docs/extend.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint
from typing import Any

from torch import Tensor

from gaitprop import plugins
from gaitprop.errors import ArgumentError
from gaitprop.rules.bp import bp
from gaitprop.rules.damped import damped
from gaitprop.rules.difference_target_propagation import difference_target_propagation
from gaitprop.rules.direct_feedback_alignment import direct_feedback_alignment
from gaitprop.rules.feedback import FeedbackRule
from gaitprop.rules.feedback_alignment import feedback_alignment
from gaitprop.rules.gait import gait
from gaitprop.rules.gait_learned_inverse import (
    gait_learned_from_transpose,
    gait_learned_inverse,
)
from gaitprop.rules.hyperparameters import Hyperparameter, RuleFamily
from gaitprop.rules.itp import itp
from gaitprop.rules.kolen_pollack import kolen_pollack
from gaitprop.rules.layer import LayerView
from gaitprop.rules.sign_symmetry import sign_symmetry
from gaitprop.rules.tp import tp

Rule = Callable[[LayerView, Tensor, float], Tensor]

RULES: dict[str, Rule] = {
    "bp": bp,
    "gait": gait,
    "itp": itp,
    "tp": tp,
    "damped": damped,
    "difference_target_propagation": difference_target_propagation,
    "direct_feedback_alignment": direct_feedback_alignment,
    "feedback_alignment": feedback_alignment,
    "gait_learned_from_transpose": gait_learned_from_transpose,
    "gait_learned_inverse": gait_learned_inverse,
    "kolen_pollack": kolen_pollack,
    "sign_symmetry": sign_symmetry,
}

GROUP = "gaitprop.rules"


def find_rule(name: str | Rule, hyperparameters: Mapping[str, Any] | None = None) -> Rule:
    """The rule of that name: one of ``RULES``, or of an installed package; a function is one.

    Args:
        name: of the rule, or the rule itself.
        hyperparameters: values of those that the rule declares; the others have their defaults.

    Raises:
        ArgumentError: there is none, the package that offers it cannot be used, or a value of a
            hyperparameter is not allowed.
    """
    found, told = _found(name)
    if isinstance(found, RuleFamily):
        found = found.of(hyperparameters or {})
        if not callable(found):
            raise ArgumentError(f"{told} made {found!r}; allowed: a function")
    elif hyperparameters:
        raise ArgumentError(f"{told} has no hyperparameters; received {', '.join(hyperparameters)}")
    return found if isinstance(name, str) and name in RULES else _checked(found, told)


def hyperparameters_of(name: str) -> Mapping[str, Hyperparameter]:
    """Those that a rule declares; none of a rule that is not made from any.

    Raises:
        ArgumentError: there is no such rule, or the package that offers it cannot be used.
    """
    found, _ = _found(name)
    return found.hyperparameters if isinstance(found, RuleFamily) else {}


def _found(name: str | Rule) -> tuple[Rule, str]:
    """A rule as it is offered, and what an error calls it."""
    if not isinstance(name, str):
        if not callable(name):
            raise ArgumentError(f"rule is {name!r}; allowed: a name or a function")
        kinds = FeedbackRule | _Checked
        called = name.name if isinstance(name, kinds) else getattr(name, "__name__", name)
        return name, f"the rule {called!r}"
    if name in RULES:
        return RULES[name], f"the rule {name!r}"
    entry = other_rules().get(name)
    if entry is None:
        raise ArgumentError(f"rule is {name!r}; allowed: {', '.join(rule_names())}")
    rule = plugins.load(entry)
    if not callable(rule):
        raise ArgumentError(f"{plugins.told(entry)} is {rule!r}; allowed: a function")
    return rule, plugins.told(entry)


def rule_names() -> list[str]:
    """Of all rules that there are, the built-in ones first.

    Raises:
        ArgumentError: a package offers a rule under a name that it may not have.
    """
    return [*RULES, *other_rules()]


def other_rules() -> Mapping[str, EntryPoint]:
    """The rules of installed packages, none of which is imported; see ``rule_names``."""
    # "reference" is what experiments call BP without the regularizer.
    return plugins.offered(GROUP, (*RULES, "reference"))


def _checked(rule: Rule, told: str) -> Rule:
    """The rule, whose errors cannot have a shape that the layer below would broadcast."""
    if isinstance(rule, FeedbackRule):
        return replace(rule, passes=_checked(rule.passes, told))
    known = isinstance(rule, _Checked) or any(rule is own for own in _OWN)
    return rule if known else _Checked(rule, told)


@dataclass(frozen=True)
class _Checked:
    rule: Rule
    told: str

    @property
    def name(self) -> str:
        return str(getattr(self.rule, "__name__", self.rule))

    def __call__(self, layer: LayerView, error: Tensor, scale: float) -> Tensor:
        below = self.rule(layer, error, scale)
        if isinstance(below, Tensor) and _kind(below) == _kind(error):
            return below
        received = _kind(below) if isinstance(below, Tensor) else type(below).__name__
        raise ArgumentError(
            f"{self.told} returned {received}; allowed: {_kind(error)}, as the error that it"
            " received"
        )


def _kind(tensor: Tensor) -> str:
    return f"{tensor.dtype} of shape {tuple(tensor.shape)} on {tensor.device}"


# Given as objects they are what they are by name: no need to look, and they can be pickled.
_OWN = [rule.passes if isinstance(rule, FeedbackRule) else rule for rule in RULES.values()]
