"""Rules as strings: an operator of torch takes no function."""

from __future__ import annotations

import torch

from gaitprop.rules import Rule, find_rule

_FUNCTIONS: dict[str, Rule] = {}


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def rule_key(rule: str | Rule) -> str:
    """A string for a rule, by which ``rule_of`` finds it in this process.

    Raises:
        ArgumentError: there is no such rule.
    """
    checked = find_rule(rule)
    if isinstance(rule, str):
        return rule
    # A name cannot stand for a function: a notebook defines it again and again. An address can,
    # since nothing else gets it while the function is kept.
    key = f"function {id(rule)}"
    _FUNCTIONS.setdefault(key, checked)
    return key


def rule_of(key: str) -> Rule:
    """The rule of that key."""
    return _FUNCTIONS[key] if key in _FUNCTIONS else find_rule(key)
