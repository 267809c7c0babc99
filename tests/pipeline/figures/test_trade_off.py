"""What keeping weights orthogonal costs and buys: points against plain means of the tables."""

from __future__ import annotations

from statistics import mean, stdev

import pandas
import pytest
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from pipeline import figures
from pipeline.params.schema import Params
from tests.pipeline.figures.test_figures import make_history, make_params

SETTINGS = {
    "gait_high": {"rule": "gait", "learning_rate": 1e-3, "orthogonality": 10.0},
    "gait": {"learning_rate": 1e-3, "orthogonality": 0.1},
    "gait_full": {"rule": "gait", "learning_rate": 1e-3, "orthogonality": 0.1, "penalty": "full"},
    "gait_fixed": {
        "rule": "gait",
        "learning_rate": 1e-3,
        "orthogonality": 0.0,
        "constraint": "orthogonal",
    },
    "tp": {"learning_rate": 1e-3, "orthogonality": 0.1},
}


def params_of(*rules: str) -> Params:
    document = make_params().model_dump(exclude={"sweep"})
    document["run"]["rules"] = list(rules)
    document["rules"] = {name: SETTINGS[name] for name in rules}
    return Params.model_validate(document)


@pytest.fixture(scope="module")
def histories() -> dict[str, pandas.DataFrame]:
    return {model: make_history(model) for model in ("reference", *SETTINGS)}


@pytest.fixture(scope="module")
def seeds(histories: dict[str, pandas.DataFrame]) -> pandas.DataFrame:
    rows = [
        {"model": model, "seed": seed, "test_accuracy": 0.9 + 0.01 * index + 0.002 * seed**2}
        for index, model in enumerate(histories)
        for seed in (2, 0, 1)
    ]
    return pandas.DataFrame(rows)


def points(panel: Axes) -> dict[str, list[tuple[float, float]]]:
    """By label."""
    found = {}
    for container in panel.containers:
        line = container[0]
        found[container.get_label()] = [
            (float(x), float(y)) for x, y in zip(*line.get_data(), strict=True)
        ]
    return found


def drawn_line(line: Line2D) -> bool:
    return line.get_marker() == "None"


def expected(history: pandas.DataFrame, seeds: pandas.DataFrame) -> tuple[float, float, float]:
    last = [row for row in history.to_dict("records") if row["epoch"] == history.epoch.max()]
    layers = ["orthogonality_defect_layer_2", "orthogonality_defect_layer_3"]
    defects = [mean(row[name] for name in layers) for row in last]
    cosines = [row["bp_cosine_layer_1"] for row in last]
    errors = [100 * (1 - each) for each in seeds.test_accuracy]
    return mean(defects), mean(errors), mean(1 - each for each in cosines)


def test_points_are_means_after_training(
    histories: dict[str, pandas.DataFrame], seeds: pandas.DataFrame
) -> None:
    figure = figures.trade_off(params_of(*SETTINGS), histories, seeds, "Digits, square")
    error, angle = figure.axes
    of = {model: expected(histories[model], seeds[seeds.model == model]) for model in histories}
    series = {
        "BP, λ off the diagonal": ["reference"],
        "GAIT-prop, λ off the diagonal": ["gait", "gait_high"],  # by λ, not as params name them
        "GAIT-prop, λ on all of WᵀW − I": ["gait_full"],
        "GAIT-prop, orthogonal W": ["gait_fixed"],
    }
    upper = points(error)
    assert set(upper) == set(series)
    for label, models in series.items():
        for found, model in zip(upper[label], models, strict=True):
            assert found == pytest.approx(of[model][:2])
    lower = points(angle)
    assert set(lower) == set(series) - {"BP, λ off the diagonal"}
    for label, found_points in lower.items():
        for found, model in zip(found_points, series[label], strict=True):
            assert found == pytest.approx((of[model][0], of[model][2]))


def test_bars_are_standard_deviations(
    histories: dict[str, pandas.DataFrame], seeds: pandas.DataFrame
) -> None:
    figure = figures.trade_off(params_of("gait", "gait_high"), histories, seeds)
    for container in figure.axes[0].containers:
        if container.get_label() != "GAIT-prop, λ off the diagonal":
            continue
        _, upright = container[2]
        low, high = upright.get_segments()[0][:, 1]
        own = [100 * each for each in seeds[seeds.model == "gait"].test_accuracy]
        assert (high - low) / 2 == pytest.approx(stdev(own))
        return
    raise AssertionError("no such series")


def test_of_a_bar_that_is_longer_than_its_mean_the_upper_end_is_true(
    histories: dict[str, pandas.DataFrame], seeds: pandas.DataFrame
) -> None:
    """As where one seed of three breaks down; the lower end lies below all of a log axis."""
    broken = seeds.copy()
    broken.loc[broken.model == "gait", "test_accuracy"] = [0.99, 0.98, 0.2]
    figure = figures.trade_off(params_of("gait", "gait_high"), histories, broken)
    (container,) = (
        each
        for each in figure.axes[0].containers
        if each.get_label() == "GAIT-prop, λ off the diagonal"
    )
    low, high = container[2][1].get_segments()[0][:, 1]
    assert high == pytest.approx(mean([1, 2, 80]) + stdev([1, 2, 80]))
    assert low < figure.axes[0].get_ylim()[0]
    assert "without a lower end goes down to 0" in figure.get_supxlabel()


def test_a_lines_two_ends_have_their_lambda(
    histories: dict[str, pandas.DataFrame], seeds: pandas.DataFrame
) -> None:
    document = params_of("gait", "gait_high").model_dump(exclude={"sweep"})
    between = {**SETTINGS["gait_high"], "orthogonality": 1.0}
    document["rules"] = {**document["rules"], "gait_between": between}
    document["run"]["rules"] = list(document["rules"])
    of_one = {"gait_between": histories["gait"].assign(bp_cosine_layer_1=0.5)}
    more = seeds[seeds.model == "gait"].assign(model="gait_between")
    figure = figures.trade_off(
        Params.model_validate(document), {**histories, **of_one}, pandas.concat([seeds, more])
    )
    assert sorted(text.get_text() for text in figure.axes[1].texts) == ["0.1", "10"]


def test_orthogonal_weights_have_their_output_gain(
    histories: dict[str, pandas.DataFrame], seeds: pandas.DataFrame
) -> None:
    document = params_of("gait", "gait_fixed").model_dump(exclude={"sweep"})
    document["rules"]["gait_gain"] = {**SETTINGS["gait_fixed"], "output_gain": 10.0}
    document["run"]["rules"] = list(document["rules"])
    more = seeds[seeds.model == "gait_fixed"].assign(model="gait_gain")
    figure = figures.trade_off(
        Params.model_validate(document),
        {**histories, "gait_gain": histories["gait_fixed"]},
        pandas.concat([seeds, more]),
    )
    notes = [text.get_text() for text in figure.axes[0].texts if text.get_text()]
    assert notes == ["0", "×10"]  # of BP reference and of GAIT-prop
    assert "×: output gain" in figure.get_supxlabel()


def test_models_of_other_learning_rates_are_not_joined_and_say_theirs(
    histories: dict[str, pandas.DataFrame], seeds: pandas.DataFrame
) -> None:
    """What lies between them is no effect of λ."""
    document = params_of("gait", "gait_high", "gait_fixed").model_dump(exclude={"sweep"})
    document["rules"]["gait_high"] = {**SETTINGS["gait_high"], "learning_rate": 3e-3}
    document["rules"]["gait_slower"] = {**SETTINGS["gait_fixed"], "learning_rate": 1e-4}
    document["run"]["rules"] = list(document["rules"])
    more = seeds[seeds.model == "gait_fixed"].assign(model="gait_slower")
    figure = figures.trade_off(
        Params.model_validate(document),
        {**histories, "gait_slower": histories["gait_fixed"]},
        pandas.concat([seeds, more]),
    )
    assert max(len(line.get_xdata()) for line in figure.axes[1].lines if drawn_line(line)) == 1
    notes = [text.get_text() for text in figure.axes[0].texts if text.get_text()]
    assert notes == ["0", "learning rate 0.001", "learning rate 0.0001"]
    # The two of λ have theirs, each its line's only end.
    assert sorted(text.get_text() for text in figure.axes[1].texts) == ["0.1", "10"]


def test_it_is_drawn_where_there_is_something_to_compare() -> None:
    assert figures.can_draw_trade_off(params_of("gait", "gait_full"))
    assert not figures.can_draw_trade_off(params_of("gait", "tp"))


def test_with_early_stopping_it_says_which_epochs(
    histories: dict[str, pandas.DataFrame], seeds: pandas.DataFrame
) -> None:
    params = params_of("gait_high", "gait")
    assert figures.trade_off(params, histories, seeds).get_supxlabel().startswith("After training.")
    training = params.training.model_copy(update={"patience": 2})
    figure = figures.trade_off(params.model_copy(update={"training": training}), histories, seeds)
    assert figure.get_supxlabel().startswith(
        "Test error: of each seed's best epoch; all else: of the last one."
    )
