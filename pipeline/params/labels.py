"""What readers call a model, a setting and its value."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.params.schema import REFERENCE, Params, RuleSettings

_RULES = {
    "bp": "BP",
    "gait": "GAIT-prop",
    "itp": "ITP",
    "tp": "TP",
    "damped": "damped GAIT-prop",
    "gait_learned_from_transpose": "GAIT-prop, V from Wᵀ",
    "gait_learned_inverse": "GAIT-prop, learned V",
    "kolen_pollack": "Kolen–Pollack",
}
_SETTINGS = {
    "rule.orthogonality": "λ",
    "rule.gamma": "γ",
    "rule.damping": "μ",
    "rule.feedback_learning_rate": "feedback's learning rate",
    "training.adam.beta1": "Adam's β₁",
    "training.adam.beta2": "Adam's β₂",
    "training.adam.epsilon": "Adam's ε",
}


def model_name(params: Params, model: str) -> str:
    """The name of the model's rule, and what an entry's own name adds to it.

    ``gait_full`` of the rule ``gait`` is "GAIT-prop, full"; the reference says that it is one. Of a
    name with a number, such as ``gait_001``, λ says more, if no other model of the rule has it.
    """
    rule = params.rule_of(model)
    numbered = any(word.isdecimal() for word in model.removeprefix(rule).split("_"))
    if numbered and {*same_regularizer(params, model)} <= {model}:
        return f"{rule_name(rule)}, {regularizer_of(params, model, 'λ = ')}"
    return model_of_rule_name(rule, model)


def same_regularizer(params: Params, model: str) -> list[str]:
    """The models of its rule that have its regularizer, too."""
    return [
        other
        for other in params.run.rules
        if params.rule_of(other) == params.rule_of(model)
        and regularizer_of(params, other) == regularizer_of(params, model)
    ]


def model_of_rule_name(rule: str, model: str) -> str:
    """``model_name`` of a model whose rule is known."""
    if model == REFERENCE:
        return f"{rule_name(rule)} reference"
    if model == rule:
        return rule_name(rule)
    return f"{rule_name(rule)}, {model.removeprefix(f'{rule}_').replace('_', ' ')}"


def model_names(params: Params, models: Iterable[str]) -> dict[str, str]:
    """``model_name`` of each, by model."""
    return {model: model_name(params, model) for model in models}


def rule_name(rule: str) -> str:
    """A learning rule's name; of a rule of one's own the words of its name in params.yaml."""
    return _RULES.get(rule, rule.replace("_", " "))


def setting_name(place: str) -> str:
    """A swept setting's name, from its dotted one: λ for ``rule.orthogonality``."""
    return _SETTINGS.get(place, place.rpartition(".")[2].replace("_", " "))


def regularizer_text(orthogonality: float, penalty: str, constraint: str, name: str = "") -> str:
    """What holds weights near orthogonal: λ, and what it weighs unless that is as published."""
    if constraint != "none":
        return f"{constraint} W"
    weighs = f" ({penalty})" if penalty != "off_diagonal" and orthogonality else ""
    return f"{name}{value_text(orthogonality)}{weighs}"


def regularizer_of(params: Params, model: str, name: str = "") -> str:
    """``regularizer_text`` of one of the params' models."""
    settings = params.settings_of(model)
    return regularizer_text(settings.orthogonality, settings.penalty, settings.constraint, name)


def other_settings(params: Params, model: str) -> str:
    """What a model has of its own beside learning rate, regularizer and γ; "" if nothing.

    The weight decay, the learning rate of its feedback, the output gain, and hyperparameters that
    its rule declares.
    """
    settings = params.settings_of(model).model_dump()
    own = {"weight_decay", "feedback_learning_rate", "output_gain"}
    own |= settings.keys() - RuleSettings.model_fields
    return ", ".join(
        f"{setting_name(f'rule.{name}')} {value_text(value)}"
        for name, value in settings.items()
        if name in own and value is not None
    )


def value_text(value: Any) -> str:
    """A setting's value in a table or a figure: six digits at most, 1e-5 rather than 1e-05.

    Convolutions as channels × height × width of their patches.
    """
    if isinstance(value, list | tuple) and any(isinstance(each, Mapping) for each in value):
        return ", ".join(map(_convolution_text, value))
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:g}".replace("e-0", "e-").replace("e+0", "e+")


def _convolution_text(layer: Mapping[str, int]) -> str:
    size = layer["kernel_size"]
    parts = [f"{layer['channels']}×{size}×{size}"]
    parts += [f"stride {layer['stride']}"] if layer["stride"] != 1 else []
    parts += [f"padding {layer['padding']}"] if layer["padding"] else []
    return " ".join(parts)


def spread_text(row: Mapping[str, Any], quantity: str, scale: float, digits: int) -> str:
    """``<quantity>_mean`` ± ``<quantity>_std`` of a table's row; no spread for a single seed."""
    mean, deviation = row[f"{quantity}_mean"] * scale, row[f"{quantity}_std"] * scale
    if math.isnan(deviation):
        return f"{mean:.{digits}f}"
    return f"{mean:.{digits}f} ± {deviation:.{digits}f}"


def loss_text(row: Mapping[str, Any]) -> str:
    """The test loss of a table's row: four digits after the point, of one that exploded one."""
    return spread_text(row, "test_loss", 1, 4 if row["test_loss_mean"] < 10 else 1)
