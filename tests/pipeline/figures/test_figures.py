"""Figures: what they show, that they are the same every time, and what they ask for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy
import pandas
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gaitprop import RULES, InvertibleNetwork
from pipeline import figures
from pipeline.figures.panels import log_axis, make_panels
from pipeline.params.looks import LOOKS, look_among
from pipeline.params.schema import Params
from pipeline.project.errors import GaitError
from pipeline.project.files import as_json, write_whole
from pipeline.project.paths import ModelKey
from pipeline.stages import plot
from pipeline.training import model_files

RULE = {"learning_rate": 1e-3, "orthogonality": 0.1}
ACCURACY = {"reference": 0.98, "bp": 0.98, "gait": 0.97, "itp": 0.6, "tp": 0.4}
ACCURACY |= {"kolen_pollack": 0.98, "sign_symmetry": 0.93}
ACCURACY |= {"gait_high": 0.96, "gait_full": 0.97, "gait_fixed": 0.95}


def make_params(
    datasets: Sequence[str] = ("digits",),
    architectures: Sequence[str] = ("square",),
    rules: Sequence[str] = ("bp", "gait", "itp", "tp"),
    seeds: Sequence[int] = (0, 1, 2),
) -> Params:
    return Params.model_validate(
        {
            "profile": "test",
            "run": {
                "datasets": list(datasets),
                "architectures": list(architectures),
                "rules": list(rules),
            },
            "data": {"validation_fraction": 0.1, "split_seed": 0},
            "architectures": {name: {"hidden_layers": 2} for name in architectures},
            "reference": {"learning_rate": 1e-3, "orthogonality": 0.0},
            "rules": {rule: {**RULE, "orthogonality": 0.25} for rule in rules},
            "training": {"epochs": 6, "batch_size": 10, "seeds": list(seeds)},
        }
    )


def make_history(
    model: str, seeds: Sequence[int] = (0, 1, 2), epochs: int = 6, layers: int = 3
) -> pandas.DataFrame:
    """As a training leaves it: an accuracy that rises to the model's own, no figures at epoch 0."""
    draw = numpy.random.default_rng(len(model) + epochs)
    rows = []
    for epoch in range(epochs + 1):
        for seed in seeds:
            accuracy = 0.1 + (ACCURACY[model] - 0.1) * epoch / epochs + 0.01 * draw.random()
            row = {"epoch": epoch, "seed": seed, "train_loss": 0.5 - 0.4 * accuracy}
            row["train_accuracy"] = 0.9 * accuracy
            if epoch == 0:
                row["train_loss"] = row["train_accuracy"] = numpy.nan
            row["validation_loss"] = 0.51 - 0.4 * accuracy
            row["validation_accuracy"] = accuracy
            for layer in range(1, layers + 1):
                trained = epoch + 0.1 * draw.random()
                row[f"orthogonality_defect_layer_{layer}"] = 1e-7 if epoch == 0 else 0.1 * trained
                row[f"condition_number_layer_{layer}"] = 1 + trained * layer
                row[f"bp_cosine_layer_{layer}"] = 1 - 0.1 * trained / epochs * (layers - layer)
                row[f"bp_relative_norm_layer_{layer}"] = 10.0 ** (layers - layer) * (1 + trained)
                row[f"defect_of_errors_layer_{layer}"] = 2e-7 if epoch == 0 else 0.3 * trained
            rows.append(row)
    return pandas.DataFrame(rows)


def make_histories(
    params: Params, epochs: int = 6, layers: int = 3
) -> dict[ModelKey, pandas.DataFrame]:
    seeds = params.training.seeds
    return {key: make_history(key.model, seeds, epochs, layers) for key in params.model_keys()}


def by_model(histories: dict[ModelKey, pandas.DataFrame]) -> dict[str, pandas.DataFrame]:
    return {key.model: table for key, table in histories.items()}


def make_seeds(params: Params) -> pandas.DataFrame:
    return pandas.DataFrame(
        [
            {
                "dataset": key.dataset,
                "architecture": key.architecture,
                "model": key.model,
                "seed": seed,
                "test_accuracy": ACCURACY.get(key.model, 0.9) + 0.001 * place,
            }
            for key in params.model_keys()
            for place, seed in enumerate(params.training.seeds)
        ]
    )


def every_figure(params: Params, epochs: int = 6, layers: int = 3) -> dict[str, Figure]:
    histories = make_histories(params, epochs, layers)
    drawn = plot.draw(params, histories, make_seeds(params))
    first = next(iter(histories))
    return {**drawn, "model_curves.svg": figures.model_curves(histories[first], str(first))}


def lines(panel: Axes) -> list[str]:
    """Labels of the lines with a label: data, not guides."""
    return [
        str(line.get_label()) for line in panel.lines if not str(line.get_label()).startswith("_")
    ]


def many_point_lines(panel: Axes, points: int) -> int:
    return sum(len(line.get_xdata()) == points for line in panel.lines)


def texts(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(matplotlib.text.Text))


def svg(figure: Figure, folder: Path, name: str = "figure.svg") -> bytes:
    figure.savefig(folder / name)
    return (folder / name).read_bytes()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """A folder as training and evaluation leave it."""
    monkeypatch.chdir(tmp_path)
    params = make_params()
    for key, table in make_histories(params).items():
        key.folder.mkdir(parents=True)
        table.to_csv(key.folder / "history.csv", index=False)
        training = {"epochs": params.training.epochs, "seeds": params.training.seeds}
        config = {"training": training, "data": {"sha256": "0"}}
        write_whole(key.folder / "config.json", as_json(config))
        network = InvertibleNetwork([2, 2, 2], seeds=params.training.seeds)
        model_files.save_network(key.folder / "network.safetensors", network)
    results = Path("results", "test")
    results.mkdir(parents=True)
    of_models = {key.model: model_files.result_checksum(key.folder) for key in params.model_keys()}
    seeds = make_seeds(params)
    seeds.assign(result=seeds.model.map(of_models)).to_csv(results / "seeds.csv", index=False)
    return params


def test_labels_name_the_rule_and_its_lambda() -> None:
    params = make_params()
    assert figures.model_label(params, "reference") == "BP reference, λ = 0"
    assert figures.model_label(params, "gait") == "GAIT-prop, λ = 0.25"


def test_learning_curves_show_every_model_on_both_sets() -> None:
    params = make_params()
    figure = figures.learning_curves(params, make_histories(params))
    validation, training = figure.axes
    expected = [figures.model_label(params, model) for model in params.models()]
    assert lines(validation) == lines(training) == expected
    assert validation.get_ylabel() == "validation error (%)"
    assert training.get_ylabel() == "training error (%)"
    assert validation.get_xlabel() == training.get_xlabel() == "epoch"
    assert validation.get_yscale() == "log"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == expected
    assert "Line: mean over 3 seeds; band: ± 1 standard deviation." in texts(figure)


@pytest.mark.parametrize(
    ("place", "column", "epochs"),
    [(0, "validation_accuracy", range(7)), (1, "train_accuracy", range(1, 7))],
)
def test_learning_curves_draw_mean_and_standard_deviation(
    place: int, column: str, epochs: range
) -> None:
    params = make_params(rules=["gait"])
    histories = make_histories(params)
    panel = figures.learning_curves(params, histories).axes[place]
    history = histories[params.model_keys()[1]]
    table = 100 * (1 - history.pivot(index="epoch", columns="seed")[column].dropna())
    (line,) = (line for line in panel.lines if "GAIT" in str(line.get_label()))
    numpy.testing.assert_allclose(line.get_xdata(), epochs)
    numpy.testing.assert_allclose(line.get_ydata(), table.mean(axis=1))
    heights = panel.collections[1].get_paths()[0].vertices[:, 1]
    numpy.testing.assert_allclose(heights.max(), (table.mean(axis=1) + table.std(axis=1)).max())


def test_learning_curves_have_a_column_a_data_set_and_two_rows_an_architecture() -> None:
    params = make_params(["mnist", "fashion", "kmnist"], ["square", "tower"])
    figure = figures.learning_curves(params, make_histories(params))
    assert len(figure.axes) == 12
    assert figure.axes[0].get_subplotspec().get_gridspec().get_geometry() == (4, 3)
    titles = [panel.get_title() for panel in figure.axes if panel.get_title()]
    assert titles == [
        f"{dataset}, {architecture}"
        for architecture in ("square", "tower")
        for dataset in ("MNIST", "Fashion-MNIST", "Kuzushiji-MNIST")
    ]
    assert all(len(lines(panel)) == 5 for panel in figure.axes)


def test_no_errors_leave_a_log_axis_downwards() -> None:
    params = make_params(rules=["bp"])
    histories = make_histories(params)
    for table in histories.values():
        table.loc[table.epoch > 3, "validation_accuracy"] = 1.0
    figure = figures.learning_curves(params, histories)
    validation = figure.axes[0]
    lowest = min(min(line.get_ydata()) for line in validation.lines)
    assert 0 < lowest < validation.get_ylim()[0]
    assert "Below the frame: fewer errors, or none." in texts(figure)


def test_the_loss_of_a_run_is_called_no_more_than_that() -> None:
    """A history does not say which loss it is of."""
    labels = [panel.get_ylabel() for panel in figures.model_curves(make_history("gait"), "").axes]
    assert labels[:2] == ["error (%)", "loss"]


def test_alignment_shows_the_rules_that_are_not_bp_layer_by_layer() -> None:
    params = make_params()
    figure = figures.alignment(params, by_model(make_histories(params)), "Digits, square")
    *panels, bar = figure.axes
    assert [panel.get_title() for panel in panels[:3]] == [
        figures.model_label(params, model) for model in ("gait", "itp", "tp")
    ]
    assert [many_point_lines(panel, 7) for panel in panels] == [3] * 6
    assert panels[0].get_ylabel() == "cosine with BP"
    assert panels[3].get_ylabel() == "norm relative to BP"
    assert [panel.get_yscale() for panel in panels] == ["linear"] * 3 + ["log"] * 3
    assert "layer" in bar.get_ylabel()


def test_norms_are_averaged_as_logarithms() -> None:
    params = make_params(rules=["gait"])
    histories = by_model(make_histories(params))
    norm = figures.alignment(params, histories).axes[1]
    table = histories["gait"].pivot(index="epoch", columns="seed")["bp_relative_norm_layer_1"]
    first = next(line for line in norm.lines if len(line.get_xdata()) == 7)
    numpy.testing.assert_allclose(first.get_ydata(), numpy.exp(numpy.log(table).mean(axis=1)))


def test_a_norm_of_zero_leaves_a_gap_and_not_a_crash(tmp_path: Path) -> None:
    params = make_params(rules=["gait"])
    histories = by_model(make_histories(params))
    histories["gait"].loc[3, "bp_relative_norm_layer_1"] = 0.0
    assert b"nan" not in svg(figures.alignment(params, histories), tmp_path)


def test_orthogonality_shows_every_model_layer_by_layer() -> None:
    params = make_params()
    figure = figures.orthogonality(params, by_model(make_histories(params)), "Digits, square")
    *panels, _ = figure.axes
    assert [panel.get_title().split("\n")[0] for panel in panels[:5]] == [
        "BP reference",
        "BP",
        "GAIT-prop",
        "ITP",
        "TP",
    ]
    assert [many_point_lines(panel, 7) for panel in panels] == [3] * 15
    labels = ["‖WᵀW − I‖ / √n", "‖(WᵀW − I)u‖ / ‖u‖", "condition number"]
    assert [panel.get_ylabel() for panel in panels[::5]] == labels
    assert {panel.get_yscale() for panel in panels} == {"log"}
    assert panels[10].get_ylim()[1] > 19  # layer 3 ends there
    # The untrained network's 1e-7 is rounding and must not stretch the axis.
    assert panels[0].get_ylim()[0] > 1e-2
    assert "Below the frame: untrained" in texts(figure)


def test_the_errors_own_directions_stand_on_the_mean_defects_scale() -> None:
    params = make_params(rules=["gait"])
    histories = by_model(make_histories(params))
    defect, _, of_errors, *_ = figures.orthogonality(params, histories).axes
    assert defect.get_ylim() == of_errors.get_ylim()
    for panel, name in ((defect, "orthogonality_defect"), (of_errors, "defect_of_errors")):
        table = histories["reference"].pivot(index="epoch", columns="seed")[f"{name}_layer_2"]
        second = [line for line in panel.lines if len(line.get_xdata()) == 7][1]
        numpy.testing.assert_allclose(second.get_ydata(), numpy.exp(numpy.log(table).mean(axis=1)))
        assert panel.get_ylim()[1] > table.max().max()


def test_final_accuracy_shows_every_seed_and_enlarges_the_models_near_bp() -> None:
    params = make_params()
    figure = figures.final_accuracy(params, make_seeds(params))
    whole, near = figure.axes
    labels = [label.get_text() for label in whole.get_yticklabels()]
    assert labels == [figures.model_label(params, model) for model in params.models()]
    assert whole.get_ylim() == (4.5, -0.5)
    dots = [line for line in whole.lines if line.get_marker() == "o"]
    assert [list(numpy.round(line.get_xdata(), 6)) for line in dots] == [
        [round(100 * ACCURACY[model] + 0.1 * place, 6) for place in range(3)]
        for model in params.models()
    ]
    assert 96.5 < near.get_xlim()[0] < 97 < 98.2 < near.get_xlim()[1] < 98.7
    # Nothing lies on the seeds of a model whose mean is off the axis.
    inside = [text.get_text() for text in near.texts if text.get_position()[0] < 1]
    assert inside == ["mean (%)"]
    assert [text.get_text()[0] for text in near.texts if "±" in text.get_text()].count("◂") == 2
    assert "98.10 ± 0.10" in texts(figure)
    assert "n = 3" in texts(figure)


def test_no_bar_of_an_accuracy_is_longer_than_accuracies_are() -> None:
    """As where one seed of three breaks down; the enlarged axis shows such a model as a number."""
    params = make_params()
    seeds = make_seeds(params)
    seeds.loc[seeds.model == "gait", "test_accuracy"] = [0.99, 0.99, 0.1]
    whole, near = figures.final_accuracy(params, seeds).axes

    def bars(panel: Axes) -> list[Any]:
        return [bar.get_segments()[0][:, 0] for bar in panel.containers for bar in bar[2]]

    assert max(bar.max() for bar in bars(whole)) == pytest.approx(100)
    low = near.get_xlim()[0]
    assert len(bars(whole)) == 5
    assert len(bars(near)) == 2
    assert all(bar.mean() > low for bar in bars(near))
    assert "◂" in texts(whole.figure)
    alone = make_params(rules=("bp",))
    assert "◂" not in texts(figures.final_accuracy(alone, make_seeds(alone)))


@pytest.mark.parametrize(("epochs", "seeds"), [(1, [4]), (2, [0, 1])])
def test_few_epochs_and_seeds(epochs: int, seeds: list[int], tmp_path: Path) -> None:
    for name, figure in every_figure(
        make_params(rules=["bp", "gait"], seeds=seeds), epochs
    ).items():
        written = svg(figure, tmp_path)
        assert re.search(rb"\b(nan|inf)\b", written) is None, name
        bands = [band for panel in figure.axes for band in panel.collections if band.get_alpha()]
        if len(seeds) == 1:
            assert bands == [], name
            assert "One seed." in texts(figure), name


def test_long_training_of_deep_networks_stays_small(tmp_path: Path) -> None:
    params = make_params(seeds=[0, 1])
    for name, figure in every_figure(params, epochs=1000, layers=16).items():
        assert len(svg(figure, tmp_path)) < 300_000, name
    alignment = figures.alignment(params, by_model(make_histories(params, 1000, 16)))
    drawn = alignment.axes[0].lines[0].get_xdata()
    assert (drawn[0], drawn[-1]) == (0, 1000)


def test_only_bp_has_no_alignment_to_show() -> None:
    params = make_params(rules=["bp"])
    assert not any("alignment" in name for name in every_figure(params))


def test_the_same_tables_give_the_same_bytes_whatever_the_user_set(tmp_path: Path) -> None:
    params = make_params(rules=["bp", "gait"])
    first = {name: svg(figure, tmp_path) for name, figure in every_figure(params).items()}
    ours = {"font.size": 20, "text.color": "red", "axes.xmargin": 0.3, "svg.fonttype": "none"}
    with matplotlib.rc_context(ours):
        second = {name: svg(figure, tmp_path) for name, figure in every_figure(params).items()}
        assert matplotlib.rcParams["font.size"] == 20
    assert first == second


def test_the_background_is_white_and_type_is_at_least_8_points(tmp_path: Path) -> None:
    for name, figure in every_figure(make_params(rules=["bp", "gait"])).items():
        assert figure.get_facecolor() == (1, 1, 1, 1), name
        assert b"fill: #ffffff" in svg(figure, tmp_path), name
        assert figure.get_figwidth() <= figures.WIDTH
        shown = [text for text in figure.findobj(matplotlib.text.Text) if text.get_text()]
        # The exponent of a power of ten is part of its text, and smaller.
        assert min(text.get_fontsize() for text in shown) >= 8, name


def test_run_writes_every_figure(project: Params) -> None:
    written = plot.run(project)
    assert [path.as_posix() for path in written] == [
        "results/test/plots/final_accuracy.svg",
        "results/test/plots/learning_curves.svg",
        "results/test/plots/alignment-digits-square.svg",
        "results/test/plots/orthogonality-digits-square.svg",
        "results/test/plots.provenance.json",
    ]
    contents = [path.read_bytes() for path in written]
    assert all(b"<svg" in content and b"<dc:date>" not in content for content in contents[:-1])
    assert [path.read_bytes() for path in plot.run(project)] == contents


def test_each_case_has_figures_of_its_own_models() -> None:
    params = make_params(architectures=["square", "tower"])
    histories = {
        key: make_history(key.model, layers=3 if key.architecture == "square" else 2)
        for key in params.model_keys()
    }
    drawn = plot.draw(params, histories, make_seeds(params))
    for architecture, layers in (("square", 3), ("tower", 2)):
        for kind in ("alignment", "orthogonality"):
            *panels, _ = drawn[f"{kind}-digits-{architecture}.svg"].axes
            assert {many_point_lines(panel, 7) for panel in panels} == {layers}


def test_run_names_the_missing_history(project: Params) -> None:
    path = Path("models/test/digits/square/itp/history.csv")
    # As where power was lost: zeros in place of a block of it.
    path.write_bytes(bytes(200_000))
    with pytest.raises(GaitError, match=r"square/itp is not a whole model \(.*limit"):
        plot.run(project)
    path.unlink()
    with pytest.raises(GaitError, match=r"square/itp is not a whole model .*history\.csv"):
        plot.run(project)


def test_run_names_the_missing_table_and_leaves_nothing_behind(project: Params) -> None:
    Path("results/test/seeds.csv").unlink()
    with pytest.raises(GaitError, match=r"results/test/seeds\.csv .*`gait evaluate`"):
        plot.run(project)
    assert list(Path("results/test").iterdir()) == []


def test_run_refuses_a_table_that_lacks_a_model(project: Params) -> None:
    table = pandas.read_csv("results/test/seeds.csv")
    table[table.model != "tp"].to_csv("results/test/seeds.csv", index=False)
    with pytest.raises(GaitError, match=r"digits/square/tp.*`gait evaluate`"):
        plot.run(project)


def test_run_keeps_the_old_figures_if_one_fails(
    project: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    (first, *_) = plot.run(project)
    before = first.read_bytes()

    def fail(_: Figure, path: Path) -> None:
        path.write_text("half a figure")
        raise OSError("disk full")

    monkeypatch.setattr(figures.StyledFigure, "savefig", fail)
    with pytest.raises(OSError, match="disk full"):
        plot.run(project)
    assert first.read_bytes() == before
    assert [path.name for path in Path("results/test").iterdir() if path.is_dir()] == ["plots"]


def test_blocks_below_each_other_have_the_same_marks() -> None:
    params = make_params(rules=["gait", "itp", "tp", "sign_symmetry", "kolen_pollack", "bp"])
    for figure in (
        figures.alignment(params, by_model(make_histories(params))),
        figures.orthogonality(params, by_model(make_histories(params))),
    ):
        figure.draw_without_rendering()
        shown = [panel for panel in figure.axes[:-1] if panel.get_visible()]
        assert [len(panel.yaxis.get_minorticklocs()) for panel in shown] == [0] * len(shown)
        height = 2 if len(shown) % 3 else 3
        assert len({tuple(panel.get_yticks()) for panel in shown}) <= height


@pytest.mark.parametrize("ends", [(1.1, 130), (9.8, 14), (0.05, 130), (31, 49), (1e-9, 10)])
def test_a_log_axis_has_marks_to_read_it_by(ends: tuple[float, float]) -> None:
    figure, panels = make_panels(1, 1, 2.0)
    log_axis(panels[0, 0], *ends)
    figure.draw_without_rendering()
    assert sum(ends[0] <= mark <= ends[1] for mark in panels[0, 0].get_yticks()) >= 3


def test_a_legend_of_long_names_is_as_wide_as_the_figure() -> None:
    names = ["gait_with_a_name_that_is_long", "gait_with_another_one_as_long", "bp", "tp"]
    document = make_params(rules=["bp", "tp"]).model_dump(exclude={"sweep"})
    own = {**document["rules"]["bp"], "rule": "gait", "gamma": 0.001}
    document["rules"] |= {names[0]: own, names[1]: own}
    document["run"]["rules"] = names
    params = Params.model_validate(document)
    histories = {key: make_history("gait") for key in params.model_keys()}
    figure = figures.learning_curves(params, histories)
    figure.draw_without_rendering()
    box = figure.legends[0].get_window_extent()
    assert 0 <= box.x0 < box.x1 <= figure.bbox.x1


def test_long_names_take_two_lines_where_columns_are_narrow() -> None:
    name = "difference_target_propagation"
    params = make_params(rules=["gait", "itp", "tp", name])
    histories = {"gait": make_history("gait"), "itp": make_history("itp"), "tp": make_history("tp")}
    figure = figures.alignment(params, {**histories, name: make_history("gait")})
    titles = [panel.get_title() for panel in figure.axes]
    assert "difference target\npropagation\nλ = 0.25" in titles


def test_no_two_models_look_alike() -> None:
    names = [f"gait_{number}" for number in range(40)]
    looks = [look_among([*LOOKS, *names], name) for name in names]
    assert len({(each.colour, str(each.dashes), each.marker) for each in looks}) == len(names)


def test_every_built_in_rule_has_a_look_of_its_own() -> None:
    assert set(LOOKS) == {"reference", *RULES}
    for part in ("colour", "dashes", "marker"):
        several = [getattr(look, part) for look in LOOKS.values()]
        assert len(set(several)) >= len(several) - (part == "dashes")
