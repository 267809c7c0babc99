"""summary.md: what was swept, the best trials of each rule, and why others failed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas

from pipeline.data.image_sets import image_set
from pipeline.params.labels import model_name, model_names, setting_name, spread_text, value_text
from pipeline.params.schema import Params
from pipeline.params.sweep_section import Distribution
from pipeline.results.trial_edges import edges
from pipeline.results.trial_ranking import best_trial, plain, ranked, swept_settings
from pipeline.sweep.winners import setting
from pipeline.training.epochs import FAILED, FINISHED, STOPPED

BEST = 5
_SEARCHES = {
    "grid": "Every combination of these values was tried for each rule.",
    "random": "Values were drawn at random, the same for each rule.",
    "optuna": "Optuna chose the values for each rule, from the trials that had ended.",
}
_NUMBERS = re.compile(r"[-+]?\d+(\.\d+)?(e[-+]?\d+)?(, [-+]?\d+(\.\d+)?(e[-+]?\d+)?)*")


def as_markdown(
    params: Params, trials: pandas.DataFrame, figures: Mapping[str, str], missing: int = 0
) -> str:
    """The summary: of trials in the order of trials.csv; ``figures`` says what each file shows.

    So many trials are ``missing``: they have not ended.
    """
    sweep = params.sweep
    where = f"{image_set(sweep.dataset).title}, architecture `{sweep.architecture}`"
    how = _SEARCHES[sweep.search]
    if sweep.early_stopping == "asha":
        how += " ASHA stopped trials that were behind the others after equally many epochs."
    space = [
        [setting_name(name), f"`{name}`", _dimension_text(dimension)]
        for name, dimension in sweep.space.items()
    ]
    if missing:
        ends = "trial has" if missing == 1 else "trials have"
        how += (
            f" **{missing} {ends} not ended**, which `gait sweep --resume` tries again: what"
            " follows is of the others alone."
        )
    fixed = ", ".join(f"`{name}` = {value_text(value)}" for name, value in sweep.fixed.items())
    of_the_sweep = f"For the sweep alone: {fixed}. " if fixed else ""
    lines = [
        f"# Sweep `{sweep.name}`",
        "",
        f"{where}, of the profile `{params.profile}`. {how}",
        "",
        *_table(["swept", "in params.yaml", "values"], space, "---"),
        "",
        f"{of_the_sweep}All other settings were those of params.yaml.",
        "",
        _what_the_figures_are(params, trials),
        "",
        "## The best trial of each rule",
        "",
        *_best_of_rules(params, trials),
        "",
        _best_of_all(params, trials),
        "",
        *_edges(params, trials),
        "`gait sweep best --apply` writes these values into params.yaml; `gait repro` then trains"
        " the models and evaluates them on the test set.",
        "",
    ]
    for file, what in figures.items():
        lines += [f"![{what}]({file})", ""]
    for rule in sweep.rules:
        lines += _ranking(model_name(params, rule), ranked(trials[trials.rule == rule]))
    lines += _failures(model_names(params, sweep.rules), trials)
    return "\n".join(lines)


def _dimension_text(dimension: Any) -> str:
    if not isinstance(dimension, Distribution):
        return ", ".join(value_text(value) for value in dimension)
    low, high = map(value_text, dimension.ends)
    kinds = {
        "integer": f"whole numbers from {low} to {high}",
        "loguniform": f"from {low} to {high}, uniform in the logarithm",
        "uniform": f"from {low} to {high}, uniform",
    }
    return next(text for kind, text in kinds.items() if getattr(dimension, kind) is not None)


def _what_the_figures_are(params: Params, trials: pandas.DataFrame) -> str:
    tried = [
        {name: row[name] for name in swept_settings(trials)} for row in trials.to_dict("records")
    ] or [{}]
    fractions = {setting(params, values, "data.validation_fraction") for values in tried}
    share = ", ".join(f"{100 * fraction:.3g} %" for fraction in sorted(fractions))
    counts = {len(setting(params, values, "training.seeds")) for values in tried}
    count = ", ".join(map(str, sorted(counts)))
    early = {setting(params, values, "training.patience") is not None for values in tried}
    ends = {False: "after a trial's last epoch", True: "of each seed's best epoch (early stopping)"}
    when = " or ".join(ends[each] for each in sorted(early))
    seeds = "one seed" if count == "1" else f"{count} seeds, mean ± sample standard deviation"
    return (
        f"Accuracies are on the **validation set** (the {share} of the training images that are"
        f" held out), in percent, {when}; {seeds}. **The test set was not"
        " touched.** The best of many trials looks better on these images than it is likely to be"
        " on new ones."
        " Best is the highest mean accuracy, then the lowest loss, then the first in trials.csv."
    )


def _best_of_rules(params: Params, trials: pandas.DataFrame) -> list[str]:
    names = swept_settings(trials)
    rows = []
    for rule in params.sweep.rules:
        of_rule = trials[trials.rule == rule]
        best = best_trial(of_rule)
        if best is None:
            cells = [*["–" for _ in names], "no trial finished", "–", "–", "–"]
        else:
            cells = _cells(best, names)
        counts = [str((of_rule.status == status).sum()) for status in (FINISHED, STOPPED, FAILED)]
        rows.append([model_name(params, rule), *cells, *counts])
    head = ["rule", *map(setting_name, names), *_COLUMNS, "finished", "stopped", "failed"]
    return _table(head, rows)


_COLUMNS = ("validation accuracy", "validation loss", "training accuracy", "trial")


def _cells(row: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    return [
        *(value_text(plain(row[name])) for name in names),
        spread_text(row, "validation_accuracy", 100, 2),
        spread_text(row, "validation_loss", 1, 4),
        f"{100 * row['train_accuracy_mean']:.2f}",
        f"`{row['trial']}`",
    ]


def _best_of_all(params: Params, trials: pandas.DataFrame) -> str:
    best = best_trial(trials)
    if best is None:
        return "No trial of any rule finished."
    return (
        f"Best of all: **{model_name(params, best['rule'])}**, {_settings_text(best, trials)}:"
        f" {spread_text(best, 'validation_accuracy', 100, 2)} %."
    )


def _edges(params: Params, trials: pandas.DataFrame) -> list[str]:
    found = edges(params, trials)
    return [*(f"- **{edge}.**" for edge in found), ""] if found else []


def _ranking(name: str, trials: pandas.DataFrame) -> list[str]:
    """The rule's best trials; stopped ones have no place in it."""
    finished = trials[trials.status == FINISHED]
    title = f"## {name}"
    if finished.empty:
        return [title, "", f"None of its {len(trials)} trials finished.", ""]
    names = swept_settings(trials)
    rows = [
        [str(place), *_cells(row, names)]
        for place, row in enumerate(finished.head(BEST).to_dict("records"), start=1)
    ]
    head = ["", *map(setting_name, names), *_COLUMNS]
    count = f"The best {len(rows)} of {len(finished)} finished trials."
    return [
        title,
        "",
        count if len(rows) > 1 else "One trial finished.",
        "",
        *_table(head, rows),
        "",
    ]


def _failures(rules: Mapping[str, str], trials: pandas.DataFrame) -> list[str]:
    """A line for each kind of reason: sentences that differ in numbers alone are one kind."""
    failed = trials[trials.status == FAILED]
    if failed.empty:
        return []
    kinds = failed.failure.astype(str).map(lambda sentence: _NUMBERS.sub("#", sentence))
    lines = ["## Trials that failed", ""]
    for _, group in failed.groupby(kinds, sort=False):
        first = group.iloc[0].to_dict()
        counts = ", ".join(
            f"{name} {count}"
            for rule, name in rules.items()
            if (count := int((group.rule == rule).sum()))
        )
        lines.append(
            f"- {len(group)} ({counts}), the first at {_settings_text(first, trials)}:"
            f" {_escaped(str(first['failure']))}"
        )
    return [*lines, ""]


def _settings_text(row: Mapping[str, Any], trials: pandas.DataFrame) -> str:
    names = swept_settings(trials)
    return ", ".join(f"{setting_name(name)} {value_text(plain(row[name]))}" for name in names)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], column: str = "--:") -> list[str]:
    """A Markdown table; every column but the first is a ``column`` of numbers, or ``---``."""
    lines = [head, ["---", *[column] * (len(head) - 1)], *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def _escaped(text: str) -> str:
    """On one line, with nothing that Markdown takes for markup of its own."""
    return re.sub(r"([*_<>`|\\])", r"\\\1", " ".join(text.split()))
