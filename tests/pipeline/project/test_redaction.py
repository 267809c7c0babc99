"""What may be a password is shown by no command, wherever in an address it stands."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.project.redaction import shown, without_password
from tests.pipeline.preloaded import Preloaded

SECRET = "s3cr3t"  # pragma: allowlist secret
NOBODY = "127.0.0.1:9"


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (f"http://user:{SECRET}@host:1/x", "http://host:1/x"),
        (f"https://{SECRET}@host", "https://host"),
        (f"http://user:a@{SECRET}@host/x", "http://host/x"),
        (f"postgresql://u:a {SECRET}@host/db", "postgresql://host/db"),
        (f"postgresql://u:a/{SECRET}@host/db", "postgresql://host/db"),
        (f"postgresql://u:a?{SECRET}@host/db", "postgresql://host/db"),
        (f"http://u:a#{SECRET}@host", "http://host"),
        (f"postgresql://host/db?a=1&password={SECRET}", "postgresql://host/db?a=***&password=***"),
        (f"http://host/x?{SECRET}", "http://host/x?***"),
        (f"http://[{SECRET}@host", "http://***"),
        (f"ray://u:{SECRET}@host:10001", "ray://host:10001"),
        ("http://host:5000/a/b", "http://host:5000/a/b"),
        ("http://b/c@d", "http://b/c@d"),
        ("sqlite:////a@b/c.db", "sqlite:////a@b/c.db"),
        ("file:///a/b@c", "file:///a/b@c"),
        ("a/folder@x", "a/folder@x"),
    ],
)
def test_an_address(address: str, expected: str) -> None:
    assert shown(address) == expected
    assert without_password(f"at {address} or (later) on", address) == (
        f"at {expected} or (later) on"
    )


def test_addresses_that_others_quote(monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"at http://u:{SECRET}@a/ and https://{SECRET}@b: nobody"
    assert without_password(text) == "at http://a/ and https://b: nobody"
    text = f"at postgresql://u:a {SECRET}@host/db: nobody"
    assert without_password(text) == "at postgresql://host/db: nobody"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"postgresql://u:a {SECRET}@host/db")
    # A part of it alone.
    assert without_password(f"FATAL: 'a {SECRET}' is not it") == "FATAL: '***' is not it"
    assert without_password(f"of postgresql://u:a {SECRET}@host/db.") == "of postgresql://host/db."


STORES = (
    f"http://user:{SECRET}@{NOBODY}",
    f"http://user:a@{SECRET}@{NOBODY}",
    f"http://{NOBODY}/?password={SECRET}",
)
MODEL = ("digits", "square", "gait")
COMMANDS = (
    ("train", *MODEL),
    ("ui",),
    ("doctor",),
    ("register",),
    ("reproduce", "0" * 32),
    ("provenance", "results/digits/summary.md"),
    ("evaluate",),
    ("report",),
    ("sweep",),
    ("sweep", "--address", f"ray://u:a@{SECRET}@{NOBODY}"),
)


# Each command with one of the addresses, all of which are shown alike: see above.
@pytest.mark.parametrize("number", range(len(STORES)), ids=STORES)
def test_every_command_with_a_store_that_is_away(
    tmp_path: Path, reported: Path, helper: Preloaded, number: int
) -> None:
    store, commands = STORES[number], COMMANDS[number :: len(STORES)]
    project = shutil.copytree(reported, tmp_path / "project")
    # A sweep that is complete asks no store.
    shutil.rmtree(project / "results" / "digits" / "sweep")
    for command in commands:
        process = helper.start(project, *command, MLFLOW_TRACKING_URI=store)
        process.wait()
        assert process.output, command
        assert SECRET not in process.output, (command, process.output)


@pytest.mark.parametrize("store", [f"postgresql://u:{SECRET}@x", f"postgresql://u:a {SECRET}@x"])
def test_a_database(
    tmp_path: Path, new_project: Callable[..., Path], helper: Preloaded, store: str
) -> None:
    project = new_project(tmp_path / "project")
    command = ("sweep", "--address", "x:1")
    said = helper.run(project, *command, code=2, MLFLOW_TRACKING_URI=store)
    assert "the store is postgresql://x; start one" in said


def test_a_mirror(tmp_path: Path, new_project: Callable[..., Path], helper: Preloaded) -> None:
    project = new_project(tmp_path / "project")
    for mirror in (f"http://u:{SECRET}@{NOBODY}", f"ftp://u:a {SECRET}@x"):
        said = helper.run(project, "download", "mnist", code=2, GAIT_DATA_MIRROR=mirror)
        assert SECRET not in said
    params = (project / "params.yaml").read_text()
    secret = f'mirror: "ftp://u:a {SECRET}@x"'
    # Refused for what it is, and for being there twice.
    for text in (params.replace("mirror: null", secret), f"{params}archives:\n  {secret}\n"):
        assert secret in text
        (project / "params.yaml").write_text(text)
        assert SECRET not in helper.run(project, "download", "mnist", code=2)
