"""How a sweep's best accuracy rose as its trials ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy
import pandas
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipeline.figures.panels import make_panels
from pipeline.figures.style import style
from pipeline.figures.swept_axes import error_percent, error_range, label_accuracies
from pipeline.params.labels import spread_text
from pipeline.params.looks import look_among
from pipeline.results.trial_ranking import METRIC, best_trial
from pipeline.training.epochs import FINISHED


@style()
def best_accuracies(
    trials: pandas.DataFrame, rules: Mapping[str, str], title: str = "", known: Sequence[str] = ()
) -> Figure:
    """The best mean validation accuracy (percent) so far against the rule's trials, a line a rule.

    Trials are in the order in which they ended. Those that failed or were stopped count, and never
    are the best. ``rules`` has names for readers, by rule; ``known`` are the rules among which each
    has its look, as in other figures: ``rules`` if none.
    """
    figure, panels = make_panels(1, 1, 2.2)
    panel = panels[0, 0]
    errors = []
    for rule, name in rules.items():
        of_rule = trials[trials.rule == rule]
        best = best_trial(of_rule)
        if best is None:
            panel.plot([], [], linestyle="none", label=f"{name}: none finished")
            continue
        label = f"{name}: {spread_text(best, 'validation_accuracy', 100, 2)}"
        finished = of_rule[METRIC].where(of_rule.status == FINISHED)
        so_far = error_percent(finished.cummax().ffill())
        before = numpy.nan_to_num([numpy.inf, *so_far[:-1]], nan=numpy.inf)
        improved = numpy.flatnonzero(so_far < before)
        look = look_among(known or list(rules), rule)
        panel.plot(
            numpy.arange(1, len(so_far) + 1),
            so_far,
            drawstyle="steps-post",
            color=look.colour,
            linestyle=look.dashes,
            marker=look.marker,
            markevery=improved.tolist(),
            label=label,
        )
        errors += so_far[improved].tolist()
    low, high = error_range(errors)
    margin = (high / low) ** 0.06
    panel.set(yscale="log", ylim=(high * margin, low / margin))
    label_accuracies(panel.yaxis, low / margin, high * margin)
    panel.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    panel.set(xlabel="trials of the rule that have ended", ylabel="best validation accuracy (%)")
    # A single trial's axis would be a fraction of a trial wide.
    most = max([1, *trials.groupby("rule").size()])
    panel.set_xlim(0.5, most + 0.5)
    figure.legend(title=title, loc="outside right upper")
    figure.supxlabel(
        "Marker: a new best trial, mean over its seeds. Axis: logarithm of the error.",
        color="0.3",
    )
    return figure
