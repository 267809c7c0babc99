"""Charts of the page: what their specifications draw."""

from __future__ import annotations

import re
from pathlib import Path

import numpy
import pandas
import pytest
import vl_convert

from pipeline.report.charts.chart_look import Chart
from pipeline.report.charts.layer_charts import alignment, orthogonality
from pipeline.report.charts.sweep_charts import heat_maps
from pipeline.report.charts.training_charts import learning
from pipeline.report.evidence import Sweep
from pipeline.training.epochs import FAILED, FINISHED, STOPPED
from tests.pipeline import sweep_tables
from tests.pipeline.figures.test_figures import make_history, make_params


def test_no_chart_has_the_last_bits_of_a_logarithm(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are not the same on every processor, and a page that is made again has to be."""
    params = make_params()
    histories = {model: make_history(model) for model in params.models()}
    results = dict.fromkeys(histories, "0" * 64)

    def charts() -> list[Chart]:
        made = alignment(params, "case", histories) + orthogonality(params, "case", histories)
        return made + learning(params, "case", histories, results)

    before = charts()
    for name in ("exp", "log"):
        exact = getattr(numpy, name)
        monkeypatch.setattr(numpy, name, lambda x, f=exact: f(x) * (1 + 4e-16))
    assert charts() == before


def heat_map(statuses: list[str]) -> Chart:
    """Of GAIT-prop: a trial a learning rate, each more accurate than the one before."""
    rows = [
        sweep_tables.failed("gait", {"rule.learning_rate": 1e-3 * n}, "diverged")
        if status == FAILED
        else sweep_tables.trial(
            "gait", {"rule.learning_rate": 1e-3 * n}, 0.899 + 0.001 * n, status=status
        )
        for n, status in enumerate(statuses, start=1)
    ]
    (chart,) = heat_maps(make_params(), Sweep(Path("one"), pandas.DataFrame(rows), {}))
    return chart


def drawn(chart: Chart, mark: str) -> str:
    """The part of the chart's SVG that begins with its marks of a kind."""
    svg: str = vl_convert.vegalite_to_svg({**chart.spec, "width": 300})
    return svg[svg.index(f"mark-{mark} role-mark") :]


def test_failed_and_stopped_cells() -> None:
    """A failed one has no number that gives its colours: they are of the page, light or dark."""
    chart = heat_map([STOPPED, FAILED, FINISHED, STOPPED])
    grounds = re.findall(r'<path [^>]*fill="([^"]*)"', drawn(chart, "rect"))[:4]
    assert "var(--raised)" in grounds and "rgb(255, 255, 255)" not in grounds
    svg = drawn(chart, "text")
    found = re.findall(r'<text [^>]*fill="([^"]*)"[^>]*>([^<]*)</text>', svg)[:4]
    assert {text: colour for colour, text in found} == {
        "90.0*": "#ffffff",
        "failed": "var(--quiet)",
        "90.2": "#000000",
        "90.3*": "#000000",
    }


def test_only_a_finished_trial_is_best() -> None:
    assert heat_map([FINISHED, STOPPED, FAILED]).title == "GAIT-prop: best 90.00 %"
    assert heat_map([STOPPED, STOPPED, FAILED]).title == "GAIT-prop: none finished"


def test_stopped_dots_are_small() -> None:
    """Of more learning rates than a list has; a failed trial's dot is grey."""
    svg = drawn(heat_map([STOPPED, FAILED] + [FINISHED] * 20), "symbol")
    radii = sorted(float(each) for each in re.findall(r'd="M([0-9.]+),0A', svg))
    assert len(radii) == 22 and 'fill="var(--quiet)"' in svg
    assert radii[0] < radii[1] == radii[-1]


def test_the_epochs_of_the_longest_training_are_marked() -> None:
    """With early stopping the last model may have ended before the others."""
    histories = {"reference": make_history("reference", epochs=40), "gait": make_history("gait")}
    chart, _ = learning(
        make_params(), "digits-square", histories, {"reference": "0" * 64, "gait": "1" * 64}
    )
    axes = [layer["encoding"]["x"]["axis"]["values"] for layer in chart.spec["layer"]]
    assert all(values == [0, 10, 20, 30, 40] for values in axes)
