"""Every rule next to backpropagation: accuracy, verdict, alignment of updates, what it needs."""

from __future__ import annotations

import itertools
import math

import pandas

from gaitprop.rules.needs import needs_of
from pipeline.figures.panels import case_title
from pipeline.params.labels import model_name, spread_text
from pipeline.params.schema import REFERENCE, Params
from pipeline.project.paths import ModelKey
from pipeline.report.evidence import Evidence
from pipeline.report.verdicts import INCONCLUSIVE, NOT_SUPPORTED, NOT_TESTED, SUPPORTED, equivalent
from pipeline.results import seeds_table
from pipeline.results.equivalence import ALPHA, MARGIN
from pipeline.results.summary_tables import difference_text, summarize

VERDICTS = {
    SUPPORTED: "equivalent",
    NOT_SUPPORTED: "no",
    INCONCLUSIVE: "not shown",
    NOT_TESTED: "not tested",
}
HEADINGS = (
    "model",
    "test accuracy",
    "difference to BP reference",
    "verdict",
    "cosine to BP",
    "needs",
)


def rows(evidence: Evidence, dataset: str, architecture: str) -> list[dict[str, str]]:
    """A row a model by ``HEADINGS``, the best mean test accuracy first."""
    params = evidence.params
    seeds = seeds_table.of_case(evidence.seeds, dataset, architecture)
    models = summarize(params, seeds).sort_values(
        "test_accuracy_mean", ascending=False, kind="stable"
    )
    found = []
    for row in models.to_dict("records"):
        model = str(row["model"])
        key = ModelKey(params.profile, dataset, architecture, model)
        values = [
            model_name(params, model),
            spread_text(row, "test_accuracy", 100, 2),
            *_compared(evidence, key),
            _cosines(evidence.histories[key]),
            _needs(params, model),
        ]
        found.append(dict(zip(HEADINGS, values, strict=True)))
    return found


def notes() -> str:
    """What the columns are."""
    return (
        "Difference: of test accuracies, paired by seed, in percentage points, with its"
        f" {100 * (1 - 2 * ALPHA):g} % interval; equivalent if that lies within"
        f" ±{100 * MARGIN:g} (two one-sided tests), “no” if wholly outside. Cosine to BP: of a"
        " layer's gradient and BP's at the same weights, on the same training images, when they"
        " were last compared; of the layers that an error is passed down to, the least, averaged"
        " over the seeds. Needs: what the rule reads of a layer, beside the layer's own activity"
        " and error, when an error passes it: the forward weights (of sign symmetry their signs"
        " alone; of damped GAIT-prop with a damped inverse of them), their exact inverse, feedback"
        " weights of its own, fixed or learned, or the error of the network's output."
    )


def as_markdown(evidence: Evidence) -> str:
    """All of it, for readers."""
    params = evidence.params
    lines = [f"# Every rule of the profile `{params.profile}`", "", notes()]
    for case in itertools.product(params.run.datasets, params.run.architectures):
        lines += ["", f"## {case_title(*case)}", ""]
        lines += [f"| {' | '.join(HEADINGS)} |", "|---|--:|--:|---|--:|---|"]
        lines += [f"| {' | '.join(row.values())} |" for row in rows(evidence, *case)]
    return "\n".join(lines) + "\n"


def _needs(params: Params, model: str) -> str:
    needs = needs_of(params.rule_of(model))
    fixed = params.settings_of(model).feedback_learning_rate == 0
    return str(needs._replace(learning=needs.learning and not fixed))


def _compared(evidence: Evidence, key: ModelKey) -> tuple[str, str]:
    if key.model == REFERENCE:
        return "–", "–"
    case = {"dataset": key.dataset, "architecture": key.architecture, "model": key.model}
    finding = equivalent(evidence, {**case, "against": REFERENCE})
    numbers = finding.numbers
    bounds = [numbers.get(name, math.nan) for name in ("low", "high")]
    text = difference_text(numbers["mean"], *bounds) if numbers else "–"
    return text, VERDICTS[finding.verdict]


def _cosines(history: pandas.DataFrame) -> str:
    """The least over the layers below the output, after the last epoch; the mean over the seeds."""
    columns = [name for name in history if str(name).startswith("bp_cosine_layer_")]
    looked = history.dropna(subset=columns)
    last = looked[looked.epoch == looked.epoch.max()]
    least = last[columns[:-1]].min(axis=1)
    if least.empty or not math.isfinite(least.mean()):
        return "–"
    return f"{least.mean():.3f}"
