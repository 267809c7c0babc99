"""Charts of the page: what their specifications draw."""

from __future__ import annotations

import io
import math
import re
from pathlib import Path
from statistics import fmean, stdev

import numpy
import pandas
import pytest
import vl_convert

from pipeline.figures import model_label
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


def data(chart: Chart, layer: int) -> pandas.DataFrame:
    """What one layer of a chart of trainings draws; how high is in its column ``y``."""
    drawn = chart.spec["layer"][layer]
    source = drawn.get("data", chart.spec.get("data"))
    table = pandas.read_csv(io.StringIO(chart.spec["datasets"][source["name"]]))
    return table.assign(y=table[drawn["encoding"]["y"]["field"]])


@pytest.mark.parametrize("layer_of_chart", [0, 1])
def test_layers_are_means_over_the_seeds(layer_of_chart: int) -> None:
    """Each with one standard deviation about it; of the logarithm, where the axis is one."""
    params, history = make_params(), make_history("gait")
    cosine, norm = alignment(params, "case", {"gait": history})
    (defect,) = orthogonality(params, "case", {"gait": history})
    assert (cosine.title[-8:], norm.title[-17:]) == (": cosine", ": relative length")
    for chart, quantity, there, back in (
        (cosine, "bp_cosine", float, float),
        (norm, "bp_relative_norm", math.log, math.exp),
        (defect, "orthogonality_defect", math.log, math.exp),
    ):
        expected = []
        for layer in (1, 2, 3):
            for epoch, rows in history.groupby("epoch"):
                values = [there(value) for value in rows[f"{quantity}_layer_{layer}"]]
                mean, spread = fmean(values), stdev(values)
                bounds = back(mean - spread), back(mean + spread)
                expected.append([layer, epoch, back(mean), *bounds])
            assert f"layer {layer}: {expected[-1][2]:.3g}" in chart.description
        shown = data(chart, layer_of_chart)[["layer", "epoch", "y", "low", "high"]]
        assert shown.to_numpy() == pytest.approx(numpy.array(expected), rel=6e-4)


def test_learning_is_every_seed_and_the_mean() -> None:
    """Where nothing is wrong, the line is at the lower end of the axis."""
    params = make_params()
    histories = {model: make_history(model) for model in ("bp", "gait")}
    histories["bp"].loc[histories["bp"].epoch == 6, "validation_accuracy"] = 1.0
    charts = learning(params, "case", histories, {"bp": "0" * 64, "gait": "1" * 64})
    for chart, column in zip(charts, ("validation_accuracy", "train_accuracy"), strict=True):
        errors = {
            (model_label(params, model), epoch): [100 * (1 - value) for value in rows[column]]
            for model, history in histories.items()
            for epoch, rows in history.dropna(subset=column).groupby("epoch")
        }
        every = [(*key, seed) for key in errors for seed in (0, 1, 2)]
        flat = [value for values in errors.values() for value in values]
        low = 0.7 * min(value for value in flat if value > 0)
        for dots in (data(chart, 0), data(chart, 2)):
            assert [*zip(dots.model, dots.epoch, dots.seed, strict=True)] == every
            assert dots.error.to_numpy() == pytest.approx(numpy.array(flat), rel=6e-4)
            assert dots.y.to_numpy() == pytest.approx(numpy.clip(flat, low, None), rel=6e-4)
        means = data(chart, 1)
        expected = [fmean(values) for values in errors.values()]
        assert [*zip(means.model, means.epoch, strict=True)] == [*errors]
        assert means.y.to_numpy() == pytest.approx(numpy.clip(expected, low, None), rel=6e-4)
        for (label, epoch), mean in zip(errors, expected, strict=True):
            assert epoch < 6 or f"{label}: {mean:.2f} %" in chart.description


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
