"""How MLflow's pages list an experiment's runs: the columns that matter, accuracy and loss first.

MLflow remembers such things in the reader's browser alone. A view to share, though, is a tag of the
experiment, and an address that names it opens it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_NAME = "gait"
TAG = f"mlflow.sharedViewState.{_NAME}"
QUERY = f"viewStateShareKey={_NAME}"

# MLflow's own default cuts names before their λ.
_NAME_WIDTH, _WIDTH = 320, 140
_SECTION = "model-metrics"
_LINES = ("validation_accuracy", "validation_loss", "train_accuracy", "train_loss")
_BARS = ("test_accuracy", "test_loss", "duration_s")
_CHART = {"deleted": False, "isGenerated": False, "metricSectionId": _SECTION}
_LINE = {
    "type": "LINE",
    "runsCountToCompare": 20,
    "lineSmoothness": 0,
    "range": {},
    "scaleType": "linear",
    "selectedXAxisMetricKey": "",
    "useGlobalLineSmoothing": True,
    "useGlobalXaxisKey": True,
    "xAxisKey": "step",
    "xAxisScaleType": "linear",
    "yAxisExpressions": [],
    "yAxisKey": "metric",
}


def of_profile() -> str:
    """That of a profile's trainings: curves, then figures after training."""
    return _view(
        ["metrics.`test_accuracy`", "metrics.`validation_accuracy`"],
        [*map(_line, _LINES), *map(_bar, _BARS)],
    )


def of_sweeps(swept: Iterable[str]) -> str:
    """That of a profile's sweeps: the trials, the best first, and accuracy over what is swept.

    That is what the first sweep sweeps, and in any case λ and the learning rate. Nested in their
    sweeps, trials would be in no chart.
    """
    accuracy = "metrics.`validation_accuracy`"
    settings = list(dict.fromkeys(("rule.orthogonality", "rule.learning_rate", *swept)))
    columns = ["tags.`gait.sweep`", *(f"params.`{name}`" for name in ("rule", *settings))]
    return _view(
        [accuracy, *columns],
        [*map(_scatter, settings), *map(_line, _LINES)],
        searchFilter="tags.`gait.level` = 'trial'",
        orderByKey=accuracy,
        orderByAsc=False,
        runsHiddenMode="SHOW_ALL",
    )


def _view(columns: Sequence[str], charts: Sequence[Mapping[str, Any]], **more: Any) -> str:
    settings = ("rule.orthogonality", "rule.learning_rate", "training.epochs")
    columns = list(dict.fromkeys([*columns, *(f"params.`{name}`" for name in settings)]))
    shown = ["attributes.`Run Name`", *columns]
    state = {
        "columnOrder": shown,
        "columnWidths": {name: _WIDTH for name in columns} | {shown[0]: _NAME_WIDTH},
        "compareRunCharts": charts,
        # What is measured layer by layer has sections of its own, which MLflow adds below.
        "compareRunSections": [
            {"uuid": _SECTION, "name": "Model metrics", "display": True, "isReordered": True}
        ],
        "isAccordionReordered": True,
        "selectedColumns": columns,
        **more,
    }
    return json.dumps(state)


def _line(metric: str) -> Mapping[str, Any]:
    return {**_CHART, **_LINE, "uuid": metric, "metricKey": metric}


def _bar(metric: str) -> Mapping[str, Any]:
    return {**_CHART, "type": "BAR", "runsCountToCompare": 20, "uuid": metric, "metricKey": metric}


def _scatter(setting: str) -> Mapping[str, Any]:
    axes = {
        "xaxis": {"key": setting, "type": "PARAM"},
        "yaxis": {"key": "validation_accuracy", "type": "METRIC"},
    }
    return {**_CHART, "type": "SCATTER", "runsCountToCompare": 100, **axes, "uuid": setting}
