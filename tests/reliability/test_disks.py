"""Disks that are full or read-only, files that are damaged: real file systems, mounted for it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from tests.pipeline.preloaded import Preloaded
from tests.pipeline.trained import MODEL, STATE, check_nothing_left, check_one_history, files, runs

EPOCHS = 20
TRAIN = ("train", "digits", "square", "gait")


def mount(*arguments: str) -> bool:
    done = subprocess.run(["mount", *arguments], capture_output=True, check=False)
    return done.returncode == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if not mount("-t", "tmpfs", "-o", "size=24m", "gait-test", str(folder)):
        pytest.skip("this machine lets nobody mount a small file system here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def reference(uninterrupted: Callable[[int], dict[str, bytes]]) -> dict[str, bytes]:
    return uninterrupted(EPOCHS)


def fill(disk: Path, leave: int = 0) -> Path:
    """Takes all room but so many bytes."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"\0" * 4096)
    os.truncate(filler, max(filler.stat().st_size - leave, 0))
    return filler


def one_sentence(output: str) -> str:
    said = [line for line in output.splitlines() if line.startswith("gait: ")]
    assert len(said) == 1 and "Traceback" not in output, output
    return said[0]


def test_full_at_the_start(
    small_disk: Path, new_project: Callable[..., Path], helper: Preloaded, tmp_path: Path
) -> None:
    folder = new_project(small_disk / "project", EPOCHS)
    filler = fill(small_disk)
    output = helper.run(folder, *TRAIN, log=tmp_path / "gait.log", code=2)
    one_sentence(output)
    assert not (folder / MODEL).exists()
    filler.unlink()
    helper.run(folder, *TRAIN)
    check_one_history(folder, EPOCHS)


@pytest.mark.parametrize("leave", [0, 4096, 40_000, 150_000])
def test_full_in_the_middle(
    small_disk: Path,
    new_project: Callable[..., Path],
    helper: Preloaded,
    reference: dict[str, bytes],
    leave: int,
    tmp_path: Path,
) -> None:
    """It ends well, or says why not; then there is room again, and the same command ends well."""
    folder = new_project(small_disk / "project", EPOCHS)
    process = helper.start(folder, *TRAIN, log=tmp_path / "gait.log", GAIT_STATE_INTERVAL_S="0")
    while not (folder / STATE / "state.pt").exists():
        assert process.running()
        time.sleep(0.002)
    filler = fill(small_disk, leave)
    code = process.wait()
    filler.unlink()
    assert "Traceback" not in process.output
    if code:
        assert code == 2
        assert "No space left on device" in one_sentence(process.output)
    # All of it or nothing.
    assert not (folder / MODEL).exists() or files(folder) == reference
    if code or (folder / STATE / "undelivered").exists():
        helper.run(folder, *TRAIN)
    assert files(folder) == reference
    if code:
        check_one_history(folder, EPOCHS)
    check_nothing_left(folder)


def test_read_only(
    small_disk: Path, new_project: Callable[..., Path], helper: Preloaded, tmp_path: Path
) -> None:
    folder = new_project(small_disk / "project", EPOCHS)
    assert mount("-o", "remount,ro", str(small_disk))
    for command in (TRAIN, ("download",), ("sweep",)):
        output = helper.run(folder, *command, log=tmp_path / "gait.log", code=2)
        assert "Read-only file system" in one_sentence(output)
    assert mount("-o", "remount,rw", str(small_disk))
    helper.run(folder, *TRAIN)
    check_nothing_left(folder)


@pytest.mark.parametrize("name", ["network.safetensors", "history.csv", "config.json"])
@pytest.mark.parametrize("damage", ["truncated", "empty", "scrambled"])
def test_damaged_models_are_not_evaluated(
    trained: Path, helper: Preloaded, name: str, damage: str
) -> None:
    path = trained / MODEL / name
    content = path.read_bytes()
    damaged = {
        "truncated": content[: len(content) // 3],
        "empty": b"",
        "scrambled": bytes(byte ^ 0x55 for byte in content),
    }
    try:
        path.write_bytes(damaged[damage])
        output = helper.run(trained, "evaluate", code=2)
    finally:
        path.write_bytes(content)
    assert str(MODEL) in one_sentence(output)
    assert not (trained / "results").exists()


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory, new_project: Callable[..., Path], helper: Preloaded
) -> Path:
    folder = new_project(tmp_path_factory.mktemp("trained") / "project")
    params = folder / "params.yaml"
    params.write_text(params.read_text().replace("rules: [bp, gait]", "rules: [gait]"))
    for model in ("reference", "gait"):
        helper.run(folder, "train", "digits", "square", model)
    return folder


def test_no_room_for_the_artifacts(
    small_disk: Path,
    tmp_path: Path,
    new_project: Callable[..., Path],
    helper: Preloaded,
    reference: dict[str, bytes],
) -> None:
    """What MLflow got half of is sent again when there is room, and then whole."""
    folder = new_project(tmp_path / "project", EPOCHS)
    (folder / "mlartifacts").symlink_to(small_disk)
    filler = fill(small_disk, leave=len(reference["network.safetensors"]) // 2 // 4096 * 4096)
    output = helper.run(folder, *TRAIN, GAIT_MLFLOW_PATIENCE_S="2")
    assert "MLflow lacks the end of this training" in output
    assert "No space left on device" in output and "Traceback" not in output
    assert files(folder) == reference
    assert logged(folder, reference) not in ({}, reference), "nothing was written in part"
    filler.unlink()
    # Another model's training brings it along.
    helper.run(folder, "train", "digits", "square", "reference")
    assert logged(folder, reference) == reference
    check_nothing_left(folder)


def logged(folder: Path, names: Iterable[str]) -> dict[str, bytes]:
    """The files of those names that MLflow has of the model."""
    (run,) = (
        run
        for run in runs(folder)
        if run.data.tags["gait.level"] == "model" and run.data.tags["gait.model"] == "gait"
    )
    artifacts = folder / "mlartifacts" / run.info.run_id / "artifacts"
    return {name: (artifacts / name).read_bytes() for name in names if (artifacts / name).exists()}
