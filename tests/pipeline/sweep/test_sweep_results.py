"""What a sweep leaves to read: tables, summary, winners and figures, from made-up trials."""

from __future__ import annotations

import io
import itertools
import re
from pathlib import Path
from typing import Any

import matplotlib
import numpy
import pandas
import pytest
import yaml
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from rich.console import Console

from pipeline import figures
from pipeline.params import params_file
from pipeline.params.labels import rule_name
from pipeline.results.trial_edges import edges
from pipeline.results.trial_ranking import best_trial, in_file_order, ranked
from pipeline.sweep import best, sweep_results, winners
from tests.pipeline import sweep_tables as made

FILES = {
    *("trials.csv", "runs.csv", "summary.md", "best.yaml", "heatmap.svg", "best_so_far.svg"),
    "provenance.json",
}
LOG_RATES = {
    "rule.learning_rate": {"loguniform": [1e-5, 1e-2]},
    "rule.orthogonality": {"loguniform": [1e-3, 1e3]},
}


def write(folder: Path, trials: pandas.DataFrame, **sweep: Any) -> Path:
    params = made.make_params(folder, **sweep)
    out = folder / "results"
    run_ids = {trial: f"run-of-{trial}" for trial in trials.trial}
    sweep_results.write(params, out, trials, run_ids)
    assert {path.name for path in out.iterdir()} == FILES
    return out


def heat_map(trials: pandas.DataFrame, space: dict[str, Any] = made.SPACE) -> Figure:
    rules = list(dict.fromkeys(trials.rule))
    names = {rule: rule_name(rule) for rule in rules}
    return figures.heat_map(in_file_order(trials, rules), names, space, "a title")


def panels(figure: Figure) -> list[Axes]:
    return [panel for panel in figure.axes if panel.get_title(loc="left")]


def cell_texts(panel: Axes) -> dict[tuple[int, int], str]:
    """What is written in each cell, from the top."""
    found: dict[tuple[int, int], list[tuple[float, str]]] = {}
    for text in panel.texts:
        x, y = text.get_position()
        found.setdefault((round(x), round(y)), []).append((-y, text.get_text()))
    return {place: " ".join(part for _, part in sorted(parts)) for place, parts in found.items()}


def outlined(panel: Axes) -> list[tuple[int, int]]:
    return [
        (round(patch.get_x() + 0.5), round(patch.get_y() + 0.5))
        for patch in panel.patches
        if isinstance(patch, Rectangle) and not patch.get_fill()
    ]


def texts(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(matplotlib.text.Text))


def random_trials(rules: tuple[str, ...] = ("bp", "tp")) -> pandas.DataFrame:
    draw = numpy.random.default_rng(2)
    rows = []
    for rule, place in itertools.product(rules, range(10)):
        values = {
            "rule.learning_rate": float(10 ** draw.uniform(-5, -2)),
            "rule.orthogonality": float(10 ** draw.uniform(-3, 3)),
        }
        status = "STOPPED" if place % 4 == 3 else "FINISHED"
        rows.append(made.trial(rule, values, 0.3 + 0.05 * place, status=status, epochs=5 + place))
    rows[0] = made.failed("bp", {name: rows[0][name] for name in made.SPACE}, "diverged")
    return pandas.DataFrame(rows)


def test_trials_csv_has_every_trial_by_rule_and_by_value(tmp_path: Path) -> None:
    trials = made.grid().sample(frac=1, random_state=0)
    table = pandas.read_csv(write(tmp_path, trials) / "trials.csv")
    assert list(table.columns) == list(made.trial("bp", dict.fromkeys(made.SPACE), 0.5))
    expected = [
        (rule, rate, strength)
        for rule in made.RULES
        for rate in sorted(made.RATES)
        for strength in sorted(made.LAMBDAS)
    ]
    places = ["rule", *made.SPACE]
    assert list(table[places].itertuples(index=False, name=None)) == expected
    known = trials.set_index("trial").validation_accuracy_mean
    pandas.testing.assert_series_equal(
        table.set_index("trial").validation_accuracy_mean, known.loc[table.trial]
    )
    assert table[table.status == "FAILED"].validation_accuracy_mean.isna().all()
    runs = pandas.read_csv(tmp_path / "results" / "runs.csv")
    assert list(runs.trial) == list(table.trial)
    assert list(runs.mlflow_run_id) == [f"run-of-{trial}" for trial in table.trial]


def test_whole_numbers_stay_whole_beside_failed_trials(tmp_path: Path) -> None:
    text = (write(tmp_path, made.grid()) / "trials.csv").read_text()
    assert ",FINISHED,15,0." in text and "15.0" not in text


def test_equal_trials_give_equal_bytes_whatever_their_order(tmp_path: Path) -> None:
    rules, contents = ["gait", "tp"], []
    for seed in (0, 1, 0):
        out = write(tmp_path, made.grid(rules).sample(frac=1, random_state=seed), rules=rules)
        contents.append({path.name: path.read_bytes() for path in out.iterdir()})
    first, other, again = contents
    assert first == again
    assert {name for name in FILES if first[name] != other[name]} == {
        *("best_so_far.svg", "provenance.json"),
    }


def test_nothing_is_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = write(tmp_path, made.grid(rules=["bp"]), rules=["bp"])
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    def fail(_: Figure, path: Path) -> None:
        path.write_text("half a figure")
        raise OSError("disk full")

    monkeypatch.setattr(figures.StyledFigure, "savefig", fail)
    with pytest.raises(OSError, match="disk full"):
        write(tmp_path, made.grid(rules=["gait"]), rules=["gait"])
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["params.yaml", "results"]


def test_every_cell_has_the_figures_of_its_trial() -> None:
    trials = made.grid()
    for panel, rule in zip(panels(heat_map(trials)), made.RULES, strict=True):
        written = cell_texts(panel)
        assert len(written) == 24
        for row in trials[trials.rule == rule].to_dict("records"):
            place = (
                made.LAMBDAS.index(row["rule.orthogonality"]),
                made.RATES.index(row["rule.learning_rate"]),
            )
            expected = (
                "failed"
                if row["status"] == "FAILED"
                else f"{100 * row['validation_accuracy_mean']:.1f}"
                f" ± {100 * row['validation_accuracy_std']:.1f}"
            )
            assert written[place] == expected
        best = trials[trials.rule == rule].nlargest(1, "validation_accuracy_mean").iloc[0]
        assert outlined(panel) == [
            (
                made.LAMBDAS.index(best["rule.orthogonality"]),
                made.RATES.index(best["rule.learning_rate"]),
            )
        ]
        assert f"{100 * best.validation_accuracy_mean:.2f}" in panel.get_title(loc="left")


def test_axes_are_named_for_readers_and_zero_is_a_category() -> None:
    figure = heat_map(made.grid(rules=["gait"]))
    (panel,) = panels(figure)
    assert (panel.get_xlabel(), panel.get_ylabel()) == ("λ", "learning rate")
    assert [label.get_text() for label in panel.get_xticklabels()] == [
        *("0", "0.001", "0.01", "0.1", "1", "10", "100", "1000")
    ]
    assert [label.get_text() for label in panel.get_yticklabels()] == ["1e-5", "0.0001", "0.001"]
    assert "Hatched: failed" in texts(figure) and "± 1 standard deviation" in texts(figure)
    assert panel.get_ylim() == (-0.5, 2.5)


def test_equal_accuracies_have_one_colour_in_all_panels() -> None:
    values = {"rule.learning_rate": 1e-3, "rule.orthogonality": 0.0}
    others = {"rule.learning_rate": 1e-3, "rule.orthogonality": 1.0}
    trials = pandas.DataFrame(
        [
            made.trial("bp", values, 0.9),
            made.trial("bp", others, 0.99),
            made.trial("tp", values, 0.3),
            made.trial("tp", others, 0.9),
        ]
    )
    space = {"rule.learning_rate": [1e-3], "rule.orthogonality": [0.0, 1.0]}
    colours = [
        {round(patch.get_x()): patch.get_facecolor() for patch in panel.patches if patch.get_fill()}
        for panel in panels(heat_map(trials, space))
    ]
    assert colours[0][0] == colours[1][1]
    assert len({colours[0][0], colours[0][1], colours[1][0]}) == 3


def test_one_seed_has_no_spread(tmp_path: Path) -> None:
    trials = made.grid(rules=["gait"], seeds=1)
    out = write(tmp_path, trials, rules=["gait"], fixed={"training.seeds": [4]})
    figure = heat_map(trials)
    assert "±" not in texts(figure) and "one seed" in texts(figure)
    assert "±" not in (out / "summary.md").read_text()
    assert "one seed" in (out / "summary.md").read_text()
    (winner,) = winners.read(out).rules.values()
    assert winner is not None
    assert winner.validation_accuracy.std is None and winner.seeds == 1
    for name in ("heatmap.svg", "best_so_far.svg"):
        assert re.search(rb"\b(nan|inf)\b", (out / name).read_bytes()) is None


@pytest.mark.parametrize("rate", [[1e-3], []])
def test_a_single_row_of_cells(rate: list[float], tmp_path: Path) -> None:
    space = {"rule.learning_rate": rate, "rule.orthogonality": made.LAMBDAS}
    space = {name: values for name, values in space.items() if values}
    trials = made.grid(rules=["bp", "gait", "tp"], space=space)
    write(tmp_path, trials, rules=["bp", "gait", "tp"], space=space)
    shown = panels(heat_map(trials, space))
    assert [set(cell_texts(panel)) for panel in shown] == [{(k, 0) for k in range(8)}] * 3
    assert shown[0].get_ylabel() == ("learning rate" if rate else "")


def test_a_single_trial(tmp_path: Path) -> None:
    space = {"rule.orthogonality": [0.1]}
    trials = made.grid(rules=["gait"], space=space)
    text = (write(tmp_path, trials, rules=["gait"], space=space) / "summary.md").read_text()
    assert "One trial finished." in text


def test_further_settings_are_reduced_to_the_best() -> None:
    space = {**made.SPACE, "training.batch_size": [30, 60]}
    trials = made.grid(rules=["bp"], space=space)
    trials["validation_accuracy_mean"] = numpy.linspace(0.5, 0.9, len(trials))
    figure = heat_map(trials, space)
    written = cell_texts(panels(figure)[0])
    for (rate, strength), cell in trials.groupby(list(made.SPACE)):
        place = (made.LAMBDAS.index(strength), made.RATES.index(rate))
        assert written[place].startswith(f"{100 * cell.validation_accuracy_mean.max():.1f} ")
    assert "the best over batch size" in texts(figure)


def test_a_setting_with_one_value_leaves_its_axis_to_others() -> None:
    space = {
        "rule.learning_rate": [1e-3],
        "architecture.activation": ["leaky_relu", "linear"],
        "rule.orthogonality": [0.0, 0.1, 1.0],
    }
    (panel,) = panels(heat_map(made.grid(rules=["bp"], space=space), space))
    assert (panel.get_xlabel(), panel.get_ylabel()) == ("λ", "activation")
    assert [label.get_text() for label in panel.get_yticklabels()] == ["leaky_relu", "linear"]


def test_cells_that_were_stopped_or_not_run_say_so() -> None:
    trials = made.grid(rules=["bp"])
    trials.loc[0, "status"] = "STOPPED"
    figure = heat_map(trials.drop(index=5))
    written = cell_texts(panels(figure)[0])
    assert written[0, 0].split()[0].endswith("*") and "*: stopped early" in texts(figure)
    assert written[5, 0] == "not run"


def test_random_search_is_a_cloud_of_dots_on_log_axes(tmp_path: Path) -> None:
    trials = random_trials()
    figure = heat_map(trials, LOG_RATES)
    for panel, rule in zip(panels(figure), ("bp", "tp"), strict=True):
        assert (panel.get_xscale(), panel.get_yscale()) == ("log", "log")
        of_rule = trials[trials.rule == rule]
        dots = [line for line in panel.lines if line.get_marker() in ("o", "x")]
        *marks, ring = [(line.get_xdata()[0], line.get_ydata()[0]) for line in dots]
        known = list(of_rule[["rule.orthogonality", "rule.learning_rate"]].itertuples(index=False))
        assert sorted(marks) == sorted((x, y) for x, y in known)
        best = best_trial(of_rule)
        assert best is not None
        assert ring == (best["rule.orthogonality"], best["rule.learning_rate"])
        assert sum(line.get_marker() == "x" for line in dots) == (rule == "bp")
    text = (
        write(tmp_path, trials, rules=["bp", "tp"], space=LOG_RATES, search="random") / "summary.md"
    ).read_text()
    assert "from 1e-5 to 0.01, uniform in the logarithm" in text and "drawn at random" in text


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (2e-2, 0.9, ["0.02", "0.05", "0.1", "0.2", "0.5", "1"]),
        (1e-3, 1e3, ["0.001", "0.01", "0.1", "1", "10", "100", "1000"]),
    ],
)
def test_marks_of_drawn_values_are_round_and_few(
    low: float, high: float, labels: list[str]
) -> None:
    trials = random_trials()
    strengths = numpy.geomspace(low, high, len(trials))
    figure = heat_map(trials.assign(**{"rule.orthogonality": strengths}), LOG_RATES)
    figure.draw_without_rendering()
    axis = panels(figure)[0].xaxis
    (left, right), places = sorted(axis.get_view_interval()), axis.get_majorticklocs()
    shown = zip(places, axis.get_majorticklabels(), strict=True)
    assert [text.get_text() for place, text in shown if left <= place <= right] == labels
    assert len(axis.get_minorticklocs()) == 0


def test_a_rule_with_several_entries_is_called_as_in_other_tables(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    text = made.params_text("mnist_256", dataset="mnist", rules=["gait", "gait_full"])
    path.write_text(text.replace("architecture: square", "architecture: projection"))
    params = params_file.load(path)
    trials = made.grid(rules=["gait", "bp"]).replace({"rule": {"bp": "gait_full"}})
    out = tmp_path / "results"
    sweep_results.write(params, out, trials, {})
    summary = (out / "summary.md").read_text()
    assert "| GAIT-prop, full |" in summary and "## GAIT-prop, full" in summary
    assert "gait full" not in summary
    with (console := Console(width=120)).capture() as captured:
        console.print(best.table(winners.read(out), params))
    assert "GAIT-prop, full (best)" in captured.get()
    assert {edge.label for edge in edges(params, trials)} <= {"GAIT-prop", "GAIT-prop, full"}


def test_best_so_far_rises_in_the_order_of_ending() -> None:
    values = [{"rule.orthogonality": float(k)} for k in range(5)]
    rows = [
        made.failed("bp", values[0], "diverged"),
        made.trial("bp", values[1], 0.8),
        made.trial("bp", values[2], 0.95, status="STOPPED"),
        made.trial("bp", values[3], 0.9),
        made.trial("bp", values[4], 0.85),
    ]
    figure = figures.best_accuracies(pandas.DataFrame(rows), {"bp": "BP"})
    (line,) = figure.axes[0].lines
    assert list(line.get_xdata()) == [1, 2, 3, 4, 5]
    numpy.testing.assert_allclose(line.get_ydata(), [numpy.nan, 20, 20, 10, 10])
    assert list(line.get_markevery()) == [1, 3]
    low, high = sorted(figure.axes[0].get_ylim())
    assert figure.axes[0].get_ylim() == (high, low)  # accuracies rise upwards
    ticks = zip(figure.axes[0].get_yticks(), figure.axes[0].get_yticklabels(), strict=True)
    assert all(float(label.get_text()) == pytest.approx(100 - error) for error, label in ticks)


def test_the_summary_says_what_was_swept_and_on_what_it_was_measured(tmp_path: Path) -> None:
    trials = made.grid()
    fixed = {
        "training.epochs": 15,
        "training.seeds": [0, 1, 2],
        "data.validation_fraction": 0.25,
    }
    text = (write(tmp_path, trials, fixed=fixed) / "summary.md").read_text()
    for part in (
        "| λ | `rule.orthogonality` | 0, 0.001, 0.01, 0.1, 1, 10, 100, 1000 |",
        "`training.epochs` = 15, `training.seeds` = [0, 1, 2]",
        "25 % of the training images",
        "3 seeds, mean ± sample standard deviation",
        "The test set was not touched.",
        "(heatmap.svg)",
        "(best_so_far.svg)",
    ):
        assert part in text
    for rule, name in (("bp", "BP"), ("gait", "GAIT-prop"), ("tp", "TP")):
        finished = trials[(trials.rule == rule) & (trials.status == "FINISHED")]
        top = finished.nlargest(5, "validation_accuracy_mean")
        section = text.split(f"## {name}\n")[1].split("\n## ")[0]
        assert re.findall(r"`([0-9a-f]{12})`", section) == list(top.trial)
        (line,) = (line for line in text.splitlines() if line.startswith(f"| {name} |"))
        assert line.endswith(
            f"| `{top.trial.iloc[0]}` | {len(finished)} | 0 | {24 - len(finished)} |"
        )
        best = top.iloc[0]
        accuracy = f"{100 * best.validation_accuracy_mean:.2f}"
        assert f"| {accuracy} ± {100 * best.validation_accuracy_std:.2f} |" in line


def test_trials_that_have_not_ended_are_told(tmp_path: Path) -> None:
    params, trials = made.make_params(tmp_path), made.grid()
    out = tmp_path / "results"
    sweep_results.write(params, out, trials, {}, missing=2)
    said = "**2 trials have not ended**, which `gait sweep --resume` tries again"
    assert said in (out / "summary.md").read_text()
    assert winners.read(out).missing == 2
    sweep_results.write(params, out, trials, {})
    assert "not ended" not in (out / "summary.md").read_text()
    assert winners.read(out).missing == 0


def test_failures_are_told_once_a_kind(tmp_path: Path) -> None:
    trials = made.grid()
    rows = trials[trials.rule == "tp"].to_dict("records")
    sentence = "layer {} of seed 1 is singular, 1.5e-9 | no inverse"
    for place, row in enumerate(rows):
        values = {name: row[name] for name in made.SPACE}
        trials.loc[trials.trial == row["trial"]] = pandas.DataFrame(
            [made.failed("tp", values, sentence.format(place))]
        ).to_numpy()
    trials = trials.infer_objects()
    out = write(tmp_path, trials)
    section = (out / "summary.md").read_text().split("## Trials that failed\n")[1]
    lines = [line for line in section.splitlines() if line]
    assert len(lines) == 2
    assert lines[0].startswith("- 4 (GAIT-prop 2, ITP 2), the first at learning rate 0.001, λ 100:")
    assert lines[1].startswith(
        "- 24 (TP 24), the first at learning rate 1e-5, λ 0: layer 0 of seed 1"
    )
    text = (out / "summary.md").read_text()
    assert "| TP | – | – | no trial finished | – | – | – | 0 | 0 | 24 |" in text
    assert "None of its 24 trials finished." in text
    assert yaml.safe_load((out / "best.yaml").read_text())["rules"]["tp"] is None
    assert "TP: none finished" in texts(
        figures.best_accuracies(trials, {rule: rule_name(rule) for rule in made.RULES})
    )


def test_every_trial_failed_and_its_figures_are_none(tmp_path: Path) -> None:
    rows = made.grid(rules=["gait"]).to_dict("records")
    failed = [made.failed("gait", {n: row[n] for n in made.SPACE}, "diverged") for row in rows]
    trials = pandas.DataFrame(failed).astype(object)
    trials = trials.where(trials.notna(), None).assign(epochs=0)
    out = write(tmp_path, trials, rules=["gait"])
    assert "None of its 24 trials finished." in (out / "summary.md").read_text()
    assert winners.read(out).rules == {"gait": None}


def test_no_trial_at_all(tmp_path: Path) -> None:
    out = write(tmp_path, made.grid().head(0))
    assert "No trial of any rule finished." in (out / "summary.md").read_text()
    assert winners.read(out).best_rule is None
    assert len((out / "trials.csv").read_text().splitlines()) == 1


def test_best_yaml_is_plain_yaml_with_all_that_names_a_winner(tmp_path: Path) -> None:
    trials = made.grid()
    out = write(tmp_path, trials, fixed={"training.epochs": 15, "training.seeds": [0, 1, 2]})
    found = yaml.safe_load((out / "best.yaml").read_text())
    assert found["fixed"] == {"training.epochs": 15, "training.seeds": [0, 1, 2]}
    assert (found["dataset"], found["architecture"], found["best_rule"]) == (
        "digits",
        "square",
        "bp",
    )
    for rule in made.RULES:
        best = trials[trials.rule == rule].nlargest(1, "validation_accuracy_mean").iloc[0]
        assert found["rules"][rule] == {
            "trial": best.trial,
            "values": {name: best[name] for name in made.SPACE},
            "seeds": 3,
            "epochs": 15,
            "validation_accuracy": {
                "mean": best.validation_accuracy_mean,
                "std": best.validation_accuracy_std,
            },
            "validation_loss": {
                "mean": best.validation_loss_mean,
                "std": best.validation_loss_std,
            },
            "mlflow_run_id": f"run-of-{best.trial}",
        }


def test_numbers_and_names_survive_every_reader_of_yaml(tmp_path: Path) -> None:
    space = {"rule.learning_rate": [1e-5], "rule.orthogonality": [0.0]}
    trials = made.grid(rules=["bp"], space=space)
    for name in ("123456789012", "12e456789012", "012345670123"):  # pragma: allowlist secret
        trials["trial"] = name
        out = write(tmp_path, trials, rules=["bp"], space=space)
        winner = yaml.safe_load((out / "best.yaml").read_text())["rules"]["bp"]
        assert winner["trial"] == name
        assert winner["values"] == {"rule.learning_rate": 1e-5, "rule.orthogonality": 0.0}
        read = winners.read(out).rules["bp"]
        assert read is not None and read.model_dump() == winner


def test_ties_go_to_the_lower_loss_and_then_to_the_earlier_row() -> None:
    values = [{"rule.orthogonality": strength} for strength in (10.0, 1.0, 0.0, 5.0)]
    rows = [
        made.trial("bp", values[0], 0.9, validation_loss_mean=0.2),
        made.trial("bp", values[1], 0.9, validation_loss_mean=0.2),
        made.trial("bp", values[2], 0.9, validation_loss_mean=0.3),
        made.trial("bp", values[3], 0.99, status="STOPPED"),
        made.failed("bp", {"rule.orthogonality": 7.0}, "diverged"),
    ]
    table = in_file_order(pandas.DataFrame(rows), ["bp"])
    assert list(ranked(table)["rule.orthogonality"]) == [1.0, 10.0, 0.0, 5.0, 7.0]
    best = best_trial(table)
    assert best is not None and best["rule.orthogonality"] == 1.0


def test_lists_as_values() -> None:
    space = {"architecture.widths": [[64, 32, 10], [64, 10]], "rule.orthogonality": [0.0, 1.0]}
    trials = made.grid(rules=["bp"], space=space)
    (panel,) = panels(heat_map(trials, space))
    assert len(cell_texts(panel)) == 4
    buffer = io.StringIO(in_file_order(trials, ["bp"]).to_csv(index=False))
    assert pandas.read_csv(buffer)["architecture.widths"][2] == "[64, 32, 10]"


def test_figures_are_legible_in_print(tmp_path: Path) -> None:
    for figure in (heat_map(made.grid()), heat_map(random_trials(), LOG_RATES)):
        assert figure.get_figwidth() <= figures.WIDTH
        shown = [text for text in figure.findobj(matplotlib.text.Text) if text.get_text()]
        assert min(text.get_fontsize() for text in shown) >= 6.5
        figure.savefig(tmp_path / "figure.svg")
        assert b"<dc:date>" not in (tmp_path / "figure.svg").read_bytes()


def test_numbers_stay_inside_their_cells(tmp_path: Path) -> None:
    figure = heat_map(made.grid())
    figure.savefig(tmp_path / "figure.png")  # lays the figure out
    for panel in panels(figure):
        width = abs(panel.transData.transform((1, 0))[0] - panel.transData.transform((0, 0))[0])
        assert max(text.get_window_extent().width for text in panel.texts) < width
