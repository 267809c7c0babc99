"""What readers call a model."""

from __future__ import annotations

from pipeline.config import REFERENCE, Params

RULE_NAMES = {"bp": "BP", "gait": "GAIT-prop", "itp": "ITP", "tp": "TP"}


def model_name(params: Params, model: str) -> str:
    """The name of the model's rule; the reference says that it is one."""
    rule = params.rule_of(model)
    name = RULE_NAMES.get(rule, rule)
    return f"{name} reference" if model == REFERENCE else name
