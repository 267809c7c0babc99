"""From figures of single seeds to the table that people read: mean, spread, difference to BP."""

from __future__ import annotations

import math
from typing import Any

import pandas
from scipy import stats

from pipeline.data.image_sets import image_set
from pipeline.params.labels import (
    loss_text,
    model_name,
    other_settings,
    regularizer_of,
    spread_text,
)
from pipeline.params.schema import REFERENCE, Params, Training
from pipeline.results.equivalence import untestable
from pipeline.training.epochs import KEPT

CONFIDENCE = 0.95
QUANTITIES = (
    "test_accuracy",
    "test_loss",
    "train_accuracy_final",
    "train_accuracy_peak",
    "validation_accuracy_final",
)


def summarize(params: Params, seeds: pandas.DataFrame) -> pandas.DataFrame:
    """One row a model, in the order of ``seeds``.

    For each quantity its mean and sample standard deviation over the seeds (empty for one seed);
    for the test accuracy also the difference to the reference, paired by seed, with the bounds of
    its 95 % confidence interval (Student's t over the paired differences; empty where these are
    one, or all the same; 0 for the reference itself).
    """
    rows = []
    for (dataset, architecture), group in seeds.groupby(["dataset", "architecture"], sort=False):
        for model in group.model.unique():
            settings = params.settings_of(model)
            values = group[group.model == model]
            row: dict[str, Any] = {
                "dataset": dataset,
                "architecture": architecture,
                "model": model,
                "rule": params.rule_of(model),
                "learning_rate": settings.learning_rate,
                "orthogonality": settings.orthogonality,
                "gamma": settings.gamma,
                "seeds": len(values),
            }
            for quantity in (*QUANTITIES, *([KEPT] if KEPT in group else [])):
                row[f"{quantity}_mean"] = values[quantity].mean()
                row[f"{quantity}_std"] = values[quantity].std(ddof=1)
            difference = paired_differences(group, model, REFERENCE).tolist()
            # Of the reference to itself it is known.
            found = (0.0,) * 3 if model == REFERENCE else confidence_interval(difference)
            for name, value in zip(("mean", "low", "high"), found, strict=True):
                row[f"difference_to_bp_{name}"] = value
            rows.append(row)
    return pandas.DataFrame(rows)


def paired_differences(seeds: pandas.DataFrame, model: str, against: str) -> pandas.Series:
    """Of test accuracy, by seed; the table is of one data set and architecture."""
    ours, theirs = (
        seeds[seeds.model == name].set_index("seed").test_accuracy for name in (model, against)
    )
    return ours - theirs


def confidence_interval(values: list[float]) -> tuple[float, float, float]:
    """Mean and bounds of its 95 % interval by Student's t; NaN bounds where there is no spread."""
    mean = math.fsum(values) / len(values)
    if untestable(values):
        return mean, math.nan, math.nan
    half = stats.sem(values) * stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)
    return mean, float(mean - half), float(mean + half)


def as_metrics(models: pandas.DataFrame) -> dict[str, dict[str, float]]:
    """The few figures that `dvc metrics` shows in a row a model."""
    return {
        f"{row['dataset']}-{row['architecture']}-{row['model']}": {
            "test_accuracy": row["test_accuracy_mean"],
            "test_loss": row["test_loss_mean"],
            "validation_accuracy": row["validation_accuracy_final_mean"],
        }
        for row in models.to_dict("records")
    }


def as_tree(models: pandas.DataFrame) -> dict[str, Any]:
    """Nested by data set, architecture and model, numbers alone: all figures, for programs."""
    tree: dict[str, Any] = {}
    texts = ("dataset", "architecture", "model", "rule")
    for row in models.to_dict("records"):
        of_dataset = tree.setdefault(row["dataset"], {})
        of_dataset.setdefault(row["architecture"], {})[row["model"]] = {
            name: value
            for name, value in row.items()
            if name not in texts and not (isinstance(value, float) and math.isnan(value))
        }
    return tree


def as_markdown(params: Params, models: pandas.DataFrame) -> str:
    """The table for readers; accuracies in percent, differences in percentage points."""
    training = params.training
    count = len(training.seeds)
    early = training.patience is not None
    lines = [
        f"# Results of the profile `{params.profile}`",
        "",
        f"{training.epochs} epochs{' at most' if early else ''}, batches of {training.batch_size},"
        f" {training.precision}, {count} {'seeds' if count > 1 else 'seed'}. Accuracies in percent:"
        " mean ± sample standard deviation over the seeds. Each training used the test set once,"
        f" at its end, with the weights of {_epoch(training)}. Training accuracy is the mean over"
        " an epoch's batches as they are trained on. Difference: test accuracy minus that of BP"
        f" reference, which is {reference_text(params)},"
        " paired by seed, in percentage points, with its 95 % confidence interval (Student's t"
        f", n = {count}).",
    ]
    for (dataset, architecture), group in models.groupby(["dataset", "architecture"], sort=False):
        others = {model: other_settings(params, model) for model in group.model}
        more = any(others.values())
        lines += [
            "",
            f"## {image_set(dataset).title}, {architecture}",
            "",
            f"| model | learning rate | λ | γ |{' other settings |' if more else ''} seeds"
            " | test accuracy | test loss | difference to BP reference"
            f" | training accuracy, peak | final |{' epoch |' if early else ''}",
            f"|---|--:|--:|--:|{'---|' if more else ''}--:|--:|--:|--:|--:|--:|"
            f"{'--:|' if early else ''}",
        ]
        for row in group.to_dict("records"):
            other = [others[row["model"]] or "–"] if more else []
            lines.append(_markdown_row(params, row, other))
    return "\n".join(lines) + "\n"


def reference_text(params: Params) -> str:
    """What BP reference is: ``BP without regularizer``, or with what it has."""
    own = regularizer_of(params, REFERENCE, "λ = ")
    return "BP without regularizer" if own == "λ = 0" else f"BP with {own}"


def _markdown_row(params: Params, row: dict[str, Any], other: list[str]) -> str:
    gamma = params.gamma_of(row["model"])
    difference = (row[f"difference_to_bp_{part}"] for part in ("mean", "low", "high"))
    cells = [
        model_name(params, row["model"]),
        f"{row['learning_rate']:g}",
        regularizer_of(params, row["model"]),
        "–" if gamma is None else f"{gamma:g}",
        *other,
        str(row["seeds"]),
        spread_text(row, "test_accuracy", 100, 2),
        loss_text(row),
        "–" if row["model"] == REFERENCE else difference_text(*difference),
        spread_text(row, "train_accuracy_peak", 100, 2),
        spread_text(row, "train_accuracy_final", 100, 2),
        *([spread_text(row, KEPT, 1, 1)] if f"{KEPT}_mean" in row else []),
    ]
    return f"| {' | '.join(cells)} |"


def _epoch(training: Training) -> str:
    if training.patience is None:
        return "the last epoch"
    return (
        "each seed's best epoch on the validation set (the last column); so many epochs without a"
        f" better one ended its training: {training.patience}"
    )


def difference_text(mean: float, low: float, high: float) -> str:
    """In percentage points; no bounds where they are NaN."""
    bounds = "" if math.isnan(low) else f" [{100 * low:+.2f}, {100 * high:+.2f}]"
    return f"{100 * mean:+.2f}{bounds}"
