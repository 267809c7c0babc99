"""One rule under several names: trained, judged and shown each with its own settings."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pipeline.data import image_tensors
from pipeline.params import params_file
from pipeline.project.paths import ModelKey
from pipeline.training import model_files, plugin_source
from tests.pipeline.preloaded import Preloaded

pytestmark = pytest.mark.long

VARIANTS = """\
  gait_full: {rule: gait, learning_rate: 0.001, orthogonality: 0.1, penalty: full}
  gait_same: {rule: gait, learning_rate: 0.001, orthogonality: 0.1, gamma: 0.001}
  gait_gain: {rule: gait, learning_rate: 0.001, orthogonality: 0.1, output_gain: 4.0}
  bp_full: {rule: bp, learning_rate: 0.001, orthogonality: 0.1, penalty: full}
"""
CHANGES = {
    "rules: [bp, gait]  # k": "rules: [bp, gait, gait_full, gait_same, gait_gain, bp_full]  # k",
    "  itp:\n": f"{VARIANTS}  itp:\n",
}


@pytest.fixture(scope="module")
def project(
    tmp_path_factory: pytest.TempPathFactory, new_project: Callable[..., Path], helper: Preloaded
) -> Path:
    folder = new_project(tmp_path_factory.mktemp("variants") / "project")
    text = (folder / "params.yaml").read_text()
    for old, new in CHANGES.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    (folder / "params.yaml").write_text(text)
    for model in ("reference", "bp", "gait", "gait_full", "gait_same", "gait_gain", "bp_full"):
        helper.run(folder, "train", "digits", "square", model)
    for stage in ("evaluate", "plot", "report"):
        helper.run(folder, stage)
    return folder


def test_a_variant_trains_as_its_rule_does_with_its_own_settings(project: Path) -> None:
    def checksum(model: str) -> bytes:
        folder = project / ModelKey("digits", "digits", "square", model).folder
        return (folder / model_files.NETWORK).read_bytes()

    assert checksum("gait_same") == checksum("gait")
    assert (
        len({checksum(each) for each in ("bp", "gait", "gait_full", "gait_gain", "bp_full")}) == 5
    )


def test_tables_and_verdicts_tell_variants_apart(project: Path) -> None:
    summary = (project / "results/digits/summary.md").read_text()
    assert "| GAIT-prop, full |" in summary
    claims = json.loads((project / "results/digits/claims.json").read_text())["claims"]
    (near,) = (each for each in claims if each["name"] == "training_is_near_identical")
    pairs = {(each["case"]["model"], each["case"]["against"]) for each in near["findings"]}
    assert pairs == {
        ("gait", "reference"),
        ("gait", "bp"),
        ("gait_full", "reference"),
        ("gait_full", "bp_full"),
        ("gait_same", "reference"),
        ("gait_same", "bp"),
        ("gait_gain", "reference"),
    }
    # Two seeds may be too few for a verdict; a pair that cannot be compared would say so.
    assert not [each["reason"] for each in near["findings"] if "regularizers" in each["reason"]]


def test_a_gain_is_in_the_loss_of_the_tables(project: Path) -> None:
    key = ModelKey("digits", "digits", "square", "gait_gain")
    network = model_files.load_network(
        project / key.folder / model_files.NETWORK, torch.device("cpu")
    )
    images = image_tensors.load(project / "data/digits/digits.safetensors")
    outputs = network(images.test_images.float() / 16)[..., :10].double()
    answers = torch.nn.functional.one_hot(images.test_labels.long(), 10)
    expected = ((4 * outputs - answers) ** 2).sum(-1).mean(-1) / 2
    rows = csv.DictReader((project / "results/digits/seeds.csv").read_text().splitlines())
    found = [float(row["test_loss"]) for row in rows if row["model"] == "gait_gain"]
    assert found == pytest.approx(expected.tolist(), rel=1e-5)
    assert "| output gain 4 |" in (project / "results/digits/summary.md").read_text()


def test_a_variant_is_watched_where_its_rule_is(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    plugin_source.link(params_file.load())
    watched = project / "watched/rules"
    # A name of no profile: the links of those may have been made here before.
    assert (watched / "gait_same").resolve() == (watched / "gait").resolve()
