"""Configurations: which there are, what experiment each is, and what each is called."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import reduce
from operator import getitem
from typing import Any, NamedTuple

import numpy as np
from pydantic import BaseModel, ValidationError

from gaitprop.rules import rule_names
from pipeline.params.labels import model_name, setting_name, value_text
from pipeline.params.problems import reason
from pipeline.params.schema import WITHOUT_GAMMA, Architecture, Data, Params, RuleSettings, Training
from pipeline.params.sweep_section import Dimension, Distribution, repeats
from pipeline.project.errors import GaitError
from pipeline.project.nearest_name import did_you_mean
from pipeline.project.paths import ModelKey

SECTIONS: dict[str, type[BaseModel]] = {
    "rule": RuleSettings,
    "architecture": Architecture,
    "training": Training,
    "data": Data,
}
# Of a trial these follow from `sweep.resources`.
FROM_RESOURCES = ("training.threads", "training.device")
# In a space of so many it is counted how many go together; of a larger one nobody waits for that.
COUNTED = 1000
# A process computes in one way, and decides no figure by it; a rule is swept by its own name.
NOT_SWEPT = (*FROM_RESOURCES, "training.numerics", "rule.rule")


class Configuration(NamedTuple):
    """One point of the space: a rule, and a value for each swept name, in the space's order."""

    rule: str
    values: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.rule}, {', '.join(f'{name} {v}' for name, v in self.values.items())}"


def in_words(params: Params, configuration: Configuration) -> str:
    """A configuration as readers know it: "GAIT-prop, learning rate 0.001, λ 0.1"."""
    values = (f"{setting_name(at)} {value_text(v)}" for at, v in configuration.values.items())
    return ", ".join([model_name(params, configuration.rule), *values])


def problems(params: Params) -> list[dict[str, Any]]:
    """What is wrong with the sweep's names and values, as pydantic's errors are written."""
    sweep = params.sweep
    found: list[dict[str, Any]] = []

    def add(message: str, *at: str) -> None:
        problem = {"loc": ("sweep", *at), "type": "value_error", "msg": message}
        if problem not in found:
            found.append(problem)

    known: dict[str, dict[str, Any]] = {"fixed": {}, "space": {}}
    for part in known:
        for name, each in getattr(sweep, part).items():
            if unknown := _unknown(params, name):
                add(unknown, part, name)
            else:
                known[part][name] = each
    of_known = _with(params, known)
    refused = [each for rule in sweep.rules for each in _refusals(of_known, rule)]
    for blamed, why, _ in refused:
        if blamed is not None:
            add(why, "space" if blamed in sweep.space else "fixed", blamed)
    # What is wrong by itself goes with nothing; and what does not go together is said of one case.
    if all(blamed is None for blamed, _, _ in refused):
        for why, case in {why: case for _, why, case in reversed(refused)}.items():
            add(f"{case}: {why}")
    without = [name for name in sweep.rules if params.rule_of(name) in WITHOUT_GAMMA]
    if "rule.gamma" in sweep.space and without:
        others = [rule for rule in rule_names() if rule not in WITHOUT_GAMMA]
        allowed = f"allowed: sweep.rules of {', '.join(others)}"
        add(f"rule.gamma: {', '.join(without)} have no γ; {allowed}", "space", "rule.gamma")
    if not found:
        for name, dimension in in_full(params).sweep.space.items():
            if not isinstance(dimension, Distribution) and repeats(dimension):
                add("received one value twice; allowed: each value once", "space", name)
    if sweep.search != "grid" and sweep.trials > (most := _most_trials(params, not found)):
        allowed = f"at most {most}, the different configurations of this space"
        add(f"received {sweep.trials}; allowed: {allowed}", "trials")
    if sweep.resources.gpus and params.training.device == "cpu":
        message = "received gpus for trials whose training.device is cpu; allowed: auto or cuda"
        add(message, "resources")
    return found


def in_full(params: Params) -> Params:
    """Params without ``problems``, with the sweep's lists and mappings as trials have them."""
    sweep = params.sweep

    def full(name: str, value: Any) -> Any:
        values = {**anywhere(params), name: value}
        return configuration(params, sweep.rules[0], values).values[name]

    space = {
        name: [full(name, value) for value in dimension]
        for name, dimension in sweep.space.items()
        if not isinstance(dimension, Distribution)
        and any(isinstance(value, list | dict) for value in dimension)
    }
    fixed = {
        name: full(name, value) if isinstance(value, list | dict) else value
        for name, value in sweep.fixed.items()
    }
    return _with(params, {"space": {**sweep.space, **space}, "fixed": fixed})


def experiment(params: Params, configuration: Configuration) -> Params:
    """The params of one trial's experiment; GaitError if the values do not go together."""
    try:
        return _applied(params, configuration)
    except ValidationError as error:
        raise GaitError(
            f"params.yaml, sweep: {configuration}: {reason(error.errors()[0])}"
        ) from None


def configuration(params: Params, rule: str, values: dict[str, Any]) -> Configuration:
    """A configuration with its values as the experiment has them: 10 is 10.0 where it is a float.

    Raises GaitError as ``experiment``.
    """
    whole = experiment(params, Configuration(rule, values)).model_dump(exclude={"sweep"})
    places = {name: place(name, rule, params.sweep.architecture) for name in values}
    return Configuration(rule, {name: reduce(getitem, at, whole) for name, at in places.items()})


def configurations(params: Params) -> list[Configuration]:
    """Those of a grid or of random search, rule by rule; optuna's are known as they come.

    Raises GaitError as ``experiment``.
    """
    sweep = params.sweep
    values = list(_grid(params) if sweep.search == "grid" else _drawn(params))
    return [configuration(params, rule, each) for rule in sweep.rules for each in values]


def outermost(params: Params) -> list[Configuration]:
    """Each value at the ends of its dimension, the others anywhere: what optuna may come to."""
    return [
        configuration(params, rule, values)
        for rule in params.sweep.rules
        for _, values in _outermost(params)
    ]


def key(params: Params, rule: str) -> ModelKey:
    """The model that a trial of this rule trains."""
    return ModelKey(params.profile, params.sweep.dataset, params.sweep.architecture, rule)


def anywhere(params: Params) -> dict[str, Any]:
    """Some value of each dimension, always the same."""
    return {name: _extremes(dimension)[0] for name, dimension in params.sweep.space.items()}


def _outermost(params: Params) -> Iterator[tuple[str, dict[str, Any]]]:
    """A dimension's name, and values of all of them: its own at its ends."""
    for name, dimension in params.sweep.space.items():
        for value in _extremes(dimension):
            yield name, {**anywhere(params), name: value}


def draw(random: np.random.Generator, space: Mapping[str, Dimension]) -> dict[str, Any]:
    """A value of every dimension at random."""
    return {name: _draw(random, each) for name, each in space.items()}


def _grid(params: Params) -> Iterator[dict[str, Any]]:
    space = params.sweep.space
    for values in itertools.product(*(_listed(each) or () for each in space.values())):
        yield dict(zip(space, values, strict=True))


def _drawn(params: Params) -> Iterator[dict[str, Any]]:
    """Different draws from the sweep's own seed, the same for every rule."""
    sweep = params.sweep
    random = np.random.default_rng(sweep.seed)
    seen: set[str] = set()
    while len(seen) < sweep.trials:
        values = draw(random, sweep.space)
        # Values may be lists, which no set holds.
        if (text := repr(values)) not in seen:
            seen.add(text)
            yield values


def _most_trials(params: Params, are_valid: bool) -> float:
    """How many different configurations of one rule there are; of optuna's, that go together.

    Random search refuses a draw that does not.
    """
    listed = [_listed(each) for each in params.sweep.space.values()]
    most = math.prod(math.inf if each is None else len(each) for each in listed)
    if params.sweep.search != "optuna" or most > COUNTED or not are_valid:
        return most
    # No more are counted than are asked for.
    return min(
        sum(1 for _ in itertools.islice(_going_together(params, rule), params.sweep.trials))
        for rule in params.sweep.rules
    )


def _going_together(params: Params, rule: str) -> Iterator[Params]:
    for values in _grid(params):
        with suppress(ValidationError):
            yield _applied(params, Configuration(rule, values))


def _listed(dimension: Dimension) -> Sequence[Any] | None:
    """All of its values; None of what is continuous."""
    if not isinstance(dimension, Distribution):
        return dimension
    if dimension.integer is None:
        return None
    return range(dimension.integer[0], dimension.integer[1] + 1)


def _draw(random: np.random.Generator, dimension: Dimension) -> Any:
    if not isinstance(dimension, Distribution):
        return dimension[random.integers(len(dimension))]
    low, high = dimension.ends
    if dimension.integer is not None:
        return int(random.integers(int(low), int(high), endpoint=True))
    if dimension.loguniform is not None:
        exponent = random.uniform(math.log(low), math.log(high))
        # Twelve digits: the last bits of an exponential differ from one machine to the next.
        return min(max(float(f"{math.exp(exponent):.12g}"), low), high)
    return float(random.uniform(low, high))


def _extremes(dimension: Dimension) -> list[Any]:
    return list(dimension.ends) if isinstance(dimension, Distribution) else dimension


def _applied(params: Params, configuration: Configuration) -> Params:
    sweep = params.sweep
    # The space is not part of an experiment: with thousands of values, each of thousands of trials
    # would check all of them anew.
    whole = params.model_dump(exclude={"sweep": {"space", "fixed"}})
    whole["training"]["threads"] = sweep.resources.cpus
    whole["training"]["device"] = "cuda" if sweep.resources.gpus else "cpu"
    for name, value in {**sweep.fixed, **configuration.values}.items():
        *section, field = place(name, configuration.rule, sweep.architecture)
        reduce(getitem, section, whole)[field] = value
    return Params.model_validate(whole).model_copy(update={"sweep": sweep})


def place(name: str, rule: str, architecture: str) -> tuple[str, ...]:
    """Where params.yaml has a setting by its dotted name, of a trial of a rule and architecture."""
    section, *keys = name.split(".")
    sections = {"rule": ("rules", rule), "architecture": ("architectures", architecture)}
    return (*sections.get(section, (section,)), *keys)


def _field(name: str) -> str:
    return name.rpartition(".")[2]


def _with(params: Params, changes: dict[str, Any]) -> Params:
    """With another `sweep`, which is not checked."""
    return params.model_copy(update={"sweep": params.sweep.model_copy(update=changes)})


def known_names(sections: dict[str, type[BaseModel]]) -> list[str]:
    """Dotted names of everything that a sweep may try."""
    names = []
    for section, model in sections.items():
        for field, facts in model.model_fields.items():
            kind = facts.annotation
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                names += known_names({f"{section}.{field}": kind})
            else:
                names.append(f"{section}.{field}")
    return [name for name in names if name not in NOT_SWEPT]


def _unknown(params: Params, name: str) -> str | None:
    # A rule that params.yaml says nothing of is a problem of its own.
    rules = [rule for rule in params.sweep.rules if rule in params.rules]
    known_to = {rule: known_names({**SECTIONS, "rule": type(params.rules[rule])}) for rule in rules}
    lacking = [rule for rule in rules if name not in known_to[rule]]
    if not lacking:
        return None
    if having := [rule for rule in rules if rule not in lacking]:
        return (
            f"{', '.join(lacking)} {'have' if len(lacking) > 1 else 'has'} no {_field(name)};"
            f" allowed: sweep.rules of {', '.join(having)}"
        )
    known = list(dict.fromkeys(each for names in known_to.values() for each in names))
    if name in FROM_RESOURCES:
        return f"{name} of a trial follows from sweep.resources; allowed: set it there"
    if name in NOT_SWEPT:
        where = "rules" if name == "rule.rule" else "training"
        return f"{name} is the same for every trial; allowed: set it in {where}"
    return f"unknown name {name!r}{did_you_mean(name, known)}; allowed: {', '.join(known)}"


def _refusals(params: Params, rule: str) -> Iterator[tuple[str | None, str, Configuration]]:
    """Names whose values are not allowed, why, and where; no name where they do not go together."""
    fixed = ((name, anywhere(params)) for name in params.sweep.fixed)
    for name, values in itertools.chain(fixed, _outermost(params)):
        try:
            _applied(params, Configuration(rule, values))
        except ValidationError as error:
            for problem in error.errors():
                own = name if _field(name) in problem["loc"] else None
                yield own, reason(problem), Configuration(rule, values)
