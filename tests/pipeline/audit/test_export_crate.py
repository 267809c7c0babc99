"""`gait export`: the crate of the published results says what is in it and what made it.

The published validator needs another version of rich than the pipeline, and a network for the
vocabularies that crates refer to, so that it is no dependency: `make test-crate` runs it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline.audit import export_crate
from pipeline.project.errors import GaitError
from tests.pipeline.project_copy import REPOSITORY, commit, dvc, run

RESULTS = Path("results", "digits")
REQUIRED = os.environ.get("GAIT_TEST_CRATE") == "required"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not (REPOSITORY / ".git").exists():
        pytest.skip("a crate has the date of a commit, and there is no history here")
    destination = tmp_path_factory.mktemp("crates") / "crate"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(REPOSITORY)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{destination.parent / 'mlflow.db'}")
        export_crate.write(RESULTS, destination)
    return destination


@pytest.fixture(scope="module")
def entities(made: Path) -> dict[str, Any]:
    graph = json.loads((made / export_crate.METADATA).read_text())["@graph"]
    found = {each["@id"]: each for each in graph}
    assert len(found) == len(graph), "an identity is given twice"
    return found


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if set(node) == {"@id"}:
            yield node["@id"]
        else:
            for value in node.values():
                yield from references(value)
    elif isinstance(node, list):
        for each in node:
            yield from references(each)


def test_every_reference_leads_to_an_entity(entities: dict[str, Any]) -> None:
    named = {each for entity in entities.values() for each in references(entity)}
    elsewhere = {each for each in named - entities.keys() if each.startswith("https://")}
    assert named - entities.keys() == elsewhere
    assert elsewhere == {
        "https://w3id.org/ro/crate/1.1",
        "https://bioschemas.org/profiles/FormalParameter/1.0-RELEASE",
    }


def test_every_file_is_described_with_its_checksum(made: Path, entities: dict[str, Any]) -> None:
    files = {path for path in made.rglob("*") if path.is_file()} - {made / export_crate.METADATA}
    described = {name for name, each in entities.items() if "File" in each["@type"]}
    assert described == {path.relative_to(made).as_posix() for path in files}
    for path in files:
        entity = entities[path.relative_to(made).as_posix()]
        assert entity["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert {each["@id"] for each in entities["./"]["hasPart"]} == described


def test_every_stage_that_dvc_knows_made_its_results(entities: dict[str, Any]) -> None:
    lock = YAML(typ="safe", pure=True).load(REPOSITORY / "dvc.lock")["stages"]
    stages = {name for name in lock if name.split("@")[1].split("-")[0] == "digits"}
    runs = {name for name in entities if name.startswith("#run-")}
    assert runs == {f"#run-{stage}" for stage in stages}
    table = [n for n in runs if "results/digits/summary.csv" in references(entities[n]["result"])]
    assert table == ["#run-evaluate@digits"]
    # What DVC alone has is named with DVC's own checksum.
    (model,) = (out["md5"] for out in lock["train@digits-digits-square-gait"]["outs"])
    if not (REPOSITORY / "models/digits").is_dir():
        entity = entities["#models/digits/digits/square/gait"]
        assert entity["identifier"] == f"md5:{model}"
    for name in runs:
        assert entities[entities[name]["instrument"]["@id"]]["@type"] == "SoftwareApplication"


def test_what_cannot_be_exported(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(REPOSITORY)
    with pytest.raises(GaitError, match="exists already"):
        export_crate.write(RESULTS, made)
    with pytest.raises(GaitError, match=r"has no summary\.csv"):
        export_crate.write(tmp_path, tmp_path / "crate")
    monkeypatch.chdir(tmp_path)
    shutil.copytree(REPOSITORY / RESULTS, tmp_path / RESULTS)
    with pytest.raises(GaitError, match=r"no dvc\.lock"):
        export_crate.write(RESULTS, tmp_path / "crate")
    assert not (tmp_path / "crate").exists()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The published results with a short dvc.lock, which has a stage of the user's own."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(REPOSITORY / RESULTS, tmp_path / RESULTS)
    shutil.copy(REPOSITORY / "profiles/digits.yaml", tmp_path / "params.yaml")
    (tmp_path / "dvc.yaml").write_text("stages: {}")
    stages = {name: {"cmd": "true"} for name in ("count@digits", "evaluate@digits")}
    (tmp_path / "dvc.lock").write_text(json.dumps({"stages": stages}))
    run(tmp_path, "git", "init", "--quiet")
    commit(tmp_path)
    return tmp_path


def test_a_stage_of_the_users_own_is_a_tool_too(project: Path) -> None:
    export_crate.write(RESULTS, project / "crate")
    found = {
        each["@id"]: each
        for each in json.loads((project / "crate" / export_crate.METADATA).read_text())["@graph"]
    }
    for stage in ("count@digits", "evaluate@digits"):
        assert found[found[f"#run-{stage}"]["instrument"]["@id"]]["@type"] == "SoftwareApplication"
    steps = [each["@id"] for each in found["dvc.yaml"]["step"]]
    assert steps == ["#step-evaluate", "#step-count"]


def test_a_model_that_the_results_are_not_of_is_left_out(project: Path) -> None:
    """As of a rule that params.yaml has no longer: dvc.lock and models/ have it still."""
    model = Path("models/digits/digits/square/former")
    model.mkdir(parents=True)
    (model / "config.json").write_text("{}")
    lock = json.loads((project / "dvc.lock").read_text())
    former = {"cmd": "true", "outs": [{"path": str(model)}]}
    lock["stages"]["train@digits-digits-square-former"] = former
    (project / "dvc.lock").write_text(json.dumps(lock))
    export_crate.write(RESULTS, project / "crate")
    assert not (project / "crate/models").exists()
    assert "former" not in (project / "crate" / export_crate.METADATA).read_text()


def test_a_crate_within_what_it_is_to_hold_is_refused(project: Path) -> None:
    with pytest.raises(GaitError, match=f"is in {RESULTS}, which is to be in the crate"):
        export_crate.write(RESULTS, RESULTS / "crate")
    assert not (RESULTS / "crate").exists()


def test_what_is_not_as_it_was_made_is_not_vouched_for(project: Path) -> None:
    params = project / "params.yaml"
    text = params.read_text()
    params.write_text(text.replace("epochs: 60", "epochs: 61"))
    with pytest.raises(GaitError, match=r"^params\.yaml is not what results/digits were made with"):
        export_crate.write(RESULTS, project / "crate")
    params.write_text(f"# The same settings.\n{text}")
    export_crate.write(RESULTS, project / "first")
    for name in (
        *("summary.csv", "summary.md", "seeds.csv", "report.html", "plots/final_accuracy.svg"),
        "sweep/learning_rate_and_orthogonality/trials.csv",
    ):
        whole = (project / RESULTS / name).read_bytes()
        (project / RESULTS / name).write_bytes(whole + b" ")
        with pytest.raises(GaitError, match=f"{name} has changed since it was made"):
            export_crate.write(RESULTS, project / "crate")
        (project / RESULTS / name).write_bytes(whole)
    model = project / "models/digits/digits/square/gait"
    model.mkdir(parents=True)
    for name in ("config.json", "history.csv", "network.safetensors"):
        (model / name).write_text("garbage")
        with pytest.raises(GaitError, match=r"^models/digits/digits/square/gait is not the model"):
            export_crate.write(RESULTS, project / "crate")
    assert not (project / "crate").exists()


def test_what_no_provenance_names_is_compared_with_dvc_lock(project: Path) -> None:
    lock = (REPOSITORY / "dvc.lock").read_text()
    stages = YAML(typ="safe").load(lock)["stages"]
    known = {"stages": {"evaluate@digits": stages["evaluate@digits"]}}
    (project / "dvc.lock").write_text(json.dumps(known))
    export_crate.write(RESULTS, project / "crate")
    metrics = RESULTS / "metrics"
    figures = sorted(metrics.glob("*.json"))[0]
    figures.write_text(figures.read_text().replace("0.9", "0.4"))
    with pytest.raises(GaitError, match=r"^results/digits/metrics is not what dvc\.lock records"):
        export_crate.write(RESULTS, project / "second")


@pytest.mark.parametrize("stages", [["evaluate@digits"], {"evaluate@digits": None}])
def test_a_lock_that_is_none_of_dvcs_is_one_sentence(project: Path, stages: object) -> None:
    (project / "dvc.lock").write_text(json.dumps({"stages": stages}))
    with pytest.raises(GaitError, match=r"^dvc\.lock is none of DVC's"):
        export_crate.write(RESULTS, project / "crate")


def test_what_an_editor_left_is_not_in_the_crate(project: Path) -> None:
    left = RESULTS / "plots" / "final_accuracy.svg~"
    left.touch()
    export_crate.write(RESULTS, project / "crate")
    assert (project / "crate" / left.with_suffix(".svg")).is_file()
    assert not (project / "crate" / left).exists()


def test_checksums_are_dvcs(tmp_path: Path) -> None:
    """Of a file, and of a folder whose names stand otherwise by their parts than as a whole."""
    shutil.copy(REPOSITORY / ".dvcignore", tmp_path)
    for name in ("a/b", "a-b", "a.b", "a_b", "ä"):
        (tmp_path / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / name).write_text(name)
    for passing in ("a/.DS_Store", "b~", ".c.tmp", ".d.swp", ".#e"):
        (tmp_path / "folder" / passing).touch()
    (tmp_path / "file").write_text("x")
    dvc(tmp_path, "init", "--no-scm", "--quiet")
    dvc(tmp_path, "add", "--quiet", "folder", "file")
    for name in ("folder", "file"):
        (recorded,) = YAML(typ="safe").load(tmp_path / f"{name}.dvc")["outs"]
        assert export_crate.checksum_of_dvc(tmp_path / name) == recorded["md5"]


def test_the_published_validator_takes_it(made: Path) -> None:
    program = shutil.which("rocrate-validator")
    if program is None and not REQUIRED:
        pytest.skip("no rocrate-validator here: `make test-crate` fetches it")
    assert program is not None
    command = [program, "--no-interactive", "validate", "--no-paging"]
    command += [
        "--profile-identifier",
        "provenance-run-crate",
        "--requirement-severity",
        "required",
    ]
    done = subprocess.run([*command, str(made)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
