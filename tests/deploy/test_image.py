"""What the Dockerfile says elsewhere too: versions, owners, and what may enter the image."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from docker.utils import exclude_paths

from pipeline.project.source import Source, source

REPOSITORY = Path(__file__).parents[2]
DOCKERFILE = (REPOSITORY / "Dockerfile").read_text()


def test_uv_is_the_makefiles() -> None:
    in_image = re.search(r"^ARG UV_VERSION=(.+)$", DOCKERFILE, re.MULTILINE)
    in_makefile = re.search(
        r"^UV := uv==(.+)$", (REPOSITORY / "Makefile").read_text(), re.MULTILINE
    )
    assert in_image and in_makefile
    assert in_image[1] == in_makefile[1]


def test_the_build_context_is_code_and_settings(tmp_path: Path) -> None:
    for stray in (
        ".env",
        "mlflow.db",
        "data/x",
        ".git/config",
        "deploy/.env",
        "pipeline/__pycache__/a",
    ):
        (tmp_path / stray).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / stray).touch()
    for wanted in ("gaitprop/a.py", "pipeline/b.py", ".dvc/config", "params.yaml"):
        (tmp_path / wanted).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / wanted).touch()
    lines = (REPOSITORY / ".dockerignore").read_text().splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    sent = {path for path in exclude_paths(str(tmp_path), patterns) if (tmp_path / path).is_file()}
    assert sent == {"gaitprop/a.py", "pipeline/b.py", ".dvc/config", "params.yaml"}


def test_what_is_copied_exists() -> None:
    lines = (REPOSITORY / ".dockerignore").read_text().splitlines()
    named = [line[1:] for line in lines if line.startswith("!")]
    assert len(named) > 5
    assert [name for name in named if not (REPOSITORY / name).exists()] == []


def test_the_script_that_tries_it_parses() -> None:
    script = REPOSITORY / "deploy" / "check_image.sh"
    subprocess.run(["bash", "-n", script], check=True)


def test_the_images_commit_stands_in_for_a_history(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GAIT_COMMIT", raising=False)
    assert source() == Source("none", clean=False)
    monkeypatch.setenv("GAIT_COMMIT", "abc1234")
    assert source() == Source("abc1234", clean=False)
    assert "GAIT_COMMIT=${COMMIT}" in DOCKERFILE
