"""Rules as strings, and what they keep as one vector: an operator takes no function or mapping."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MethodType
from typing import NoReturn

import torch
from torch import Tensor

from gaitprop.errors import ArgumentError
from gaitprop.rules import RULES, Rule, find_rule
from gaitprop.rules.feedback import FeedbackRule

_FUNCTIONS: dict[str, tuple[Rule, Rule]] = {}
_METHODS: dict[MethodType, str] = {}


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def rule_key(rule: str | Rule) -> str:
    """A string for a rule, by which ``rule_of`` finds it in this process, for as long as it lives.

    A module keeps the string beside its rule: compiled code looks at it before each call, while it
    takes functions of the same code, with other values around them, for one.

    Raises:
        ArgumentError: there is no such rule.
    """
    if isinstance(rule, str) and rule in _FUNCTIONS:
        return rule
    checked = find_rule(rule)
    if isinstance(rule, str):
        return rule
    for name, each in RULES.items():
        if each is rule:
            return name
    # A name cannot stand for a function: a notebook defines it again and again. An address can,
    # since nothing else gets it while the function is kept: itself, not what was made of it.
    key = f"function {id(rule)}"
    if isinstance(rule, MethodType):
        # It is another object each time that it is read, and equal to what it was. Other rules that
        # are equal may compute differently: a class that was edited, two that hold the same values.
        key = _METHODS.setdefault(rule, key)
    _FUNCTIONS.setdefault(key, (rule, checked))
    return key


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def feedback_rule(rule: str | Rule) -> FeedbackRule | None:
    """The rule, if it keeps something for a layer.

    Raises:
        ArgumentError: it needs the output's error.
    """
    found = _found(rule)
    if not isinstance(found, FeedbackRule):
        return None
    if found.needs_output_error:
        raise ArgumentError(
            f"rule is {found.name!r}, which needs the error of the network's output; allowed: rules"
            " that need no more than their layer's, since a module knows no other"
        )
    return found


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def learns(rule: str | Rule) -> bool:
    """Whether it keeps something that learns."""
    found = _found(rule)
    return isinstance(found, FeedbackRule) and found.learns is not None


def rule_name(rule: str | Rule) -> str:
    """The name of a rule, or of the function that it is; of a key, that of its rule."""
    given = _FUNCTIONS[rule][0] if isinstance(rule, str) and rule in _FUNCTIONS else rule
    return str(getattr(given, "__name__", getattr(given, "name", given)))


def _found(rule: str | Rule) -> Rule:
    return rule_of(rule) if isinstance(rule, str) else find_rule(rule)


def joined(feedback: Mapping[str, Tensor]) -> tuple[Tensor | None, str]:
    """All tensors of a layer as one vector, and their names and shapes for ``parted``."""
    if not feedback:
        return None, ""
    if strange := [name for name in feedback if not name.isidentifier()]:
        raise ArgumentError(f"feedback is named {strange[0]!r}; allowed: names of letters and _")
    kept = [" ".join([name, *map(str, each.shape)]) for name, each in feedback.items()]
    return torch.cat([each.flatten() for each in feedback.values()]), ",".join(kept)


class _Kept(dict[str, Tensor]):
    def __missing__(self, name: str) -> NoReturn:
        raise ArgumentError(f"feedback is {', '.join(self)}; allowed: {name}, which the rule reads")


def parted(flat: Tensor, kept: str) -> Mapping[str, Tensor]:
    """The tensors that ``joined`` has joined, with the leading dimensions of the vector."""
    described = [part.split(" ") for part in kept.split(",")]
    shapes = {name: tuple(map(int, sizes)) for name, *sizes in described}
    parts = torch.split(flat, [math.prod(shape) for shape in shapes.values()], dim=-1)
    return _Kept(
        (name, part.reshape((*flat.shape[:-1], *shape)))
        for (name, shape), part in zip(shapes.items(), parts, strict=True)
    )


def rule_of(key: str) -> Rule:
    """The rule of that key."""
    return _FUNCTIONS[key][1] if key in _FUNCTIONS else find_rule(key)
