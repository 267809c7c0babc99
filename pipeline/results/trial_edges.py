"""Winners on the edge of what a sweep tried: the best value may lie beyond it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import pandas

from pipeline.params import search_space
from pipeline.params.labels import model_name, setting_name, value_text
from pipeline.params.schema import Params
from pipeline.params.search_space import Configuration
from pipeline.project.errors import GaitError
from pipeline.results.trial_ranking import best_trial, plain, swept_settings

# So many different values are a list; more were drawn, and none of them is an end by itself.
LISTED = 12
# Of the range of what was drawn: nearer to an end than this is on the edge.
SHARE = 0.05
# A range of which the ends differ by more than this factor is one of powers.
POWERS = 20.0


class Edge(NamedTuple):
    """A setting of a rule's best trial that is among the smallest or largest of those tried."""

    rule: str  # by its name in params.yaml
    label: str  # the rule's name for readers
    name: str  # of the setting, dotted
    value: float  # in the best trial
    end: str  # ``smallest`` or ``largest``
    further: float  # a value beyond the edge, as far as the step before it
    near: bool  # to the end, which was another trial's

    def __str__(self) -> str:
        """What a reader should do about it."""
        towards = "up" if self.end == "largest" else "down"
        place = f"near the {self.end}" if self.near else f"the {self.end}"
        return (
            f"{self.label}'s best {setting_name(self.name)}, {value_text(self.value)}, is"
            f" on the edge, {place} of those tried: try values {towards} to"
            f" {value_text(self.further)} too"
        )


def edges(params: Params, trials: pandas.DataFrame) -> list[Edge]:
    """Of each rule's best trial, the settings on an edge that params.yaml could move.

    Zero is no edge where nothing is allowed below it. The table is as
    ``pipeline.results.trial_ranking`` describes it.
    """
    found = []
    for rule, of_rule in trials.groupby("rule", sort=False):
        best = best_trial(of_rule)
        if best is None:
            continue
        for name in swept_settings(trials):
            edge = _edge((str(rule), model_name(params, str(rule))), name, best, of_rule)
            if edge is not None and _allowed(params, edge):
                found.append(edge)
    return found


def _edge(
    rule: tuple[str, str], name: str, best: Mapping[str, Any], trials: pandas.DataFrame
) -> Edge | None:
    tried = sorted({plain(value) for value in trials[name] if _is_number(value)})
    value = plain(best[name])
    if len(tried) < 2 or not _is_number(value):
        return None
    low, high = tried[0], tried[-1]
    powers = low > 0 and high / low > POWERS
    scale = math.log if powers else float
    nearness = 0.0 if len(tried) <= LISTED else SHARE * (scale(high) - scale(low))
    for end, at, step in (("largest", high, 1), ("smallest", low, -1)):
        if abs(scale(value) - scale(at)) > nearness:
            continue
        before = tried[-2] if step > 0 else tried[1]
        if len(tried) > LISTED:
            before = value * 10.0**-step if powers else value - step * SHARE * (high - low)
        ratio = value > 0 and before > 0
        beyond = value * value / before if ratio else 2 * value - before
        return Edge(*rule, name, value, end, _rounded(beyond, value, step), value != at)
    return None


def _is_number(value: Any) -> bool:
    return isinstance(plain(value), int | float) and not isinstance(plain(value), bool)


def _rounded(beyond: float, value: float, step: int) -> float:
    """Two digits are enough to try; of a whole number a whole one, further out than it."""
    rounded = float(f"{beyond:.2g}")
    if not isinstance(value, int):
        return rounded
    whole = step * max(math.ceil(step * rounded), step * value + 1)
    return max(whole, 1) if value > 1 else whole  # Few settings may be 0.


def _allowed(params: Params, edge: Edge) -> bool:
    try:
        search_space.experiment(params, Configuration(edge.rule, {edge.name: edge.further}))
    except (GaitError, KeyError):  # A table may be of rules that params.yaml no longer has.
        return False
    return True
