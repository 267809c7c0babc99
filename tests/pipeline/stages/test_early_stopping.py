"""Early stopping from end to end: what is kept, and what the tables say of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas
import pytest
from mlflow import MlflowClient

from gaitprop.training import evaluate
from pipeline.audit import compare_sources
from pipeline.data import image_tensors
from pipeline.params import params_file
from pipeline.training import model_files
from tests.pipeline.preloaded import Preloaded

MODEL = Path("models", "digits", "digits", "square")
# Large enough for accuracy to jump about.
CHANGES = {
    "  epochs: 2\n": "  epochs: 30\n  patience: 2\n",
    "  bp:\n    learning_rate: 0.001": "  bp:\n    learning_rate: 0.02",
    "rules: [bp, gait]  # keys": "rules: [bp]  # keys",
    "seeds: [0, 1]": "seeds: [0, 1, 2]",
}


@pytest.fixture(scope="module")
def project(
    tmp_path_factory: pytest.TempPathFactory, new_project: Callable[..., Path], helper: Preloaded
) -> Path:
    folder = new_project(tmp_path_factory.mktemp("early") / "project")
    text = (folder / "params.yaml").read_text()
    for old, new in CHANGES.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    (folder / "params.yaml").write_text(text)
    for model in ("reference", "bp"):
        helper.run(folder, "train", "digits", "square", model)
    helper.run(folder, "evaluate")
    helper.run(folder, "plot")
    return folder


def test_mlflow_and_gait_compare_have_the_figures_of_the_tables(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    seeds = pandas.read_csv(project / "results/digits/seeds.csv")
    seeds = seeds[seeds.model == "bp"].set_index("seed")
    client = MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("digits")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], "tags.`gait.model` = 'bp'")
    (parent,) = (run for run in found if run.data.tags["gait.level"] == "model")
    ends = {int(run.data.params["seed"]): run.data.metrics for run in found if run is not parent}
    for quantity in ("train_accuracy", "validation_accuracy"):
        final = seeds[f"{quantity}_final"]
        for seed, metrics in ends.items():
            assert metrics[f"kept_{quantity}"] == final[seed]
        assert parent.data.metrics[f"kept_{quantity}"] == pytest.approx(final.mean(), abs=1e-12)
        # Some seed went on after its best epoch.
        assert any(ends[seed][quantity] != final[seed] for seed in ends)
    # The model's own figures are points of the run's: its curves have one point an epoch.
    points = client.get_metric_history(parent.info.run_id, "validation_accuracy")
    assert len(points) == len({each.step for each in points})
    wanted = f"source_run_id = '{parent.info.run_id}'"
    (model,) = client.search_logged_models([experiment.experiment_id], wanted)
    for quantity in ("train_accuracy", "validation_accuracy"):
        (value,) = (each.value for each in model.metrics if each.key == f"kept_{quantity}")
        assert value == parent.data.metrics[f"kept_{quantity}"]
    (compared,) = compare_sources.find(parent.info.run_id).models.values()
    assert compared.seeds["validation_accuracy"] == seeds.validation_accuracy_final.to_dict()


def test_weights_and_tables_are_those_of_each_seeds_best_epoch(project: Path) -> None:
    params = params_file.load(project / "params.yaml")
    images = image_tensors.load(project / "data/digits/digits.safetensors")
    split = image_tensors.training_and_validation(images, params.data.validation_fraction, 0)
    network = model_files.load_network(project / MODEL / "bp" / model_files.NETWORK)
    found = evaluate(network, split.val_images, split.val_labels, 10, images.maximum)
    history = pandas.read_csv(project / MODEL / "bp" / model_files.HISTORY)
    seeds = pandas.read_csv(project / "results/digits/seeds.csv")
    seeds = seeds[seeds.model == "bp"].set_index("seed")
    last = history.epoch.max()
    assert last < params.training.epochs
    for index, seed in enumerate(network.seeds):
        own = history[(history.seed == seed) & (history.epoch > 0)].set_index("epoch")
        best = seeds.kept_epoch[seed]
        assert best == own.kept_epoch[last]
        ended = own.loc[: best + params.training.patience]
        assert own.validation_accuracy[best] == ended.validation_accuracy.max()
        assert found.accuracy[index] == own.validation_accuracy[best]
        assert found.loss[index].item() == own.validation_loss[best]
        assert seeds.validation_accuracy_final[seed] == own.validation_accuracy[best]
        assert seeds.train_accuracy_final[seed] == own.train_accuracy[best]
    assert len(set(seeds.kept_epoch)) > 1
    summary = (project / "results/digits/summary.md").read_text()
    assert "30 epochs at most" in summary
    assert "each seed's best epoch on the validation set" in summary
    mean, spread = seeds.kept_epoch.mean(), seeds.kept_epoch.std()
    assert f"| {mean:.1f} ± {spread:.1f} |" in summary
    assert "After each seed" in (project / "results/digits/plots/final_accuracy.svg").read_text()
