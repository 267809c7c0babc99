"""What Ray Tune is asked for: its searchers and its early stopping."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import optuna
from optuna.trial import TrialState
from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler
from ray.tune.search import Searcher

from pipeline.params import search_space
from pipeline.params.schema import Params
from pipeline.params.sweep_section import Dimension, Distribution
from pipeline.project.errors import GaitError
from pipeline.sweep.trial import CHOSEN, METRIC, as_text, configuration_of
from pipeline.sweep.trial_records import Record

# ASHA: a trial is compared with the others first after so much of its epochs, then at each
# fourfold; of those that got as far, the better quarter goes on.
GRACE = 0.1
# So many draws in a row that do not go together, or a hundred times as many that were tried, end a
# search.
USELESS_DRAWS = 1000


class AshaByRule(FIFOScheduler):
    """ASHA for each rule on its own: rules are compared by their best trials, not by early epochs.

    In one contest a rule that learns slowly at first would lose all its trials.
    """

    def __init__(self, epochs: int, rules: Sequence[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._by_rule = {
            rule: ASHAScheduler(
                time_attr="epoch",
                max_t=epochs,
                grace_period=max(1, round(GRACE * epochs)),
                # The last epoch's report is a trial's own end.
                stop_last_trials=False,
            )
            for rule in rules
        }

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        """Tells every rule's contest what is compared."""
        each = [a.set_search_properties(metric, mode, **spec) for a in self._by_rule.values()]
        return super().set_search_properties(metric, mode, **spec) and all(each)

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Ray has a new trial."""
        self._of(trial).on_trial_add(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Whether the trial goes on."""
        return str(self._of(trial).on_trial_result(tune_controller, trial, result))

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """A trial has ended by itself."""
        self._of(trial).on_trial_complete(tune_controller, trial, result)

    def _of(self, trial: Trial) -> ASHAScheduler:
        return self._by_rule[configuration_of(trial.config).rule]


class OptunaByRule(Searcher):
    """Optuna's sampler for each rule on its own, in turns, so that every rule gets as many trials.

    Ray's own searcher keeps its state as a pickle that only the same code can read; here, the
    configurations that were tried before are suggested first, and their trials report at once
    what came of them. No configuration is suggested twice, as Optuna would: the same bits again.
    """

    def __init__(self, params: Params, tried: Sequence[Record]) -> None:
        super().__init__(metric=METRIC, mode="max")
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._params, self._sweep = params, params.sweep
        # A sampler that starts again must not draw again what it drew first.
        seeds = {
            rule: self._sweep.seed + sum(r.rule == rule for r in tried)
            for rule in self._sweep.rules
        }
        self._studies = {
            rule: optuna.create_study(
                direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed)
            )
            for rule, seed in seeds.items()
        }
        for record in tried:
            self._studies[record.rule].enqueue_trial(self._point(record.values))
        self._random = np.random.default_rng(sum(seeds.values()))
        self._suggested: dict[str, set[str]] = {rule: set() for rule in self._sweep.rules}
        self._drawn: dict[str, tuple[str, optuna.Trial]] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """The next rule's next configuration; the end, if there seems to be none."""
        rule = self._sweep.rules[len(self._drawn) % len(self._sweep.rules)]
        study, suggested, space = self._studies[rule], self._suggested[rule], self._sweep.space
        distributions = {name: _distribution(each) for name, each in space.items()}
        for _ in range(USELESS_DRAWS):
            drawn = study.ask(distributions)
            values = {name: _value(space[name], each) for name, each in drawn.params.items()}
            # Values may be lists, which no set holds.
            if (text := repr(values)) not in suggested:
                suggested.add(text)
                with suppress(GaitError):
                    found = search_space.configuration(self._params, rule, values)
                    self._drawn[trial_id] = rule, drawn
                    return {CHOSEN: as_text(found)}
            study.tell(drawn, state=TrialState.FAIL)
            # The sampler, which has learned nothing, might come to it again and again.
            if (other := self._not_suggested(suggested)) is None:
                break
            study.enqueue_trial(self._point(other))
        print(f"gait: sweep.space has no further configurations for {rule} that go together")
        return Searcher.FINISHED  # type: ignore[return-value]

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tells the rule's own sampler."""
        rule, drawn = self._drawn[trial_id]
        if error or not result:
            self._studies[rule].tell(drawn, state=TrialState.FAIL)
        else:
            self._studies[rule].tell(drawn, result[METRIC])

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the sweep's records are its state."""

    def _not_suggested(self, suggested: Collection[str]) -> dict[str, Any] | None:
        for _ in range(100 * USELESS_DRAWS):
            values = search_space.draw(self._random, self._sweep.space)
            if repr(values) not in suggested:
                return values
        return None

    def _point(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: _drawn_as(self._sweep.space[name], each) for name, each in values.items()}


def _distribution(dimension: Dimension) -> optuna.distributions.BaseDistribution:
    if not isinstance(dimension, Distribution):
        # By its place: Optuna's own choices may not be lists.
        return optuna.distributions.CategoricalDistribution(range(len(dimension)))
    low, high = dimension.ends
    if dimension.integer is not None:
        return optuna.distributions.IntDistribution(int(low), int(high))
    return optuna.distributions.FloatDistribution(low, high, log=dimension.loguniform is not None)


def _value(dimension: Dimension, drawn: Any) -> Any:
    return drawn if isinstance(dimension, Distribution) else dimension[drawn]


def _drawn_as(dimension: Dimension, value: Any) -> Any:
    return value if isinstance(dimension, Distribution) else dimension.index(value)
