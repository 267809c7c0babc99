"""Wrong params and wrong words, drawn at random: one message, exit code 2, nothing left behind.

`make fuzz` draws thousands (GAIT_FUZZ_CASES), `make test` a few.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from pipeline.params import params_file
from pipeline.project.errors import GaitError
from tests.pipeline.project_copy import REPOSITORY, gait_here, small_params

CASES = int(os.environ.get("GAIT_FUZZ_CASES", "25"))
fuzzed = settings(
    max_examples=CASES,
    deadline=None,
    database=None,
    derandomize="GAIT_FUZZ_CASES" not in os.environ,
    suppress_health_check=list(HealthCheck),
)
# What YAML can say: every kind of scalar, odd numbers, and nested things of them.
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=True, allow_infinity=True),
    st.text(max_size=20),
    st.sampled_from(["", "~", "gait", "1e-3", "../x", "\x00", "${profile}", "!!python/object:x"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)
# Words that users type, at places where they do not belong, and words that nobody types.
WORDS = st.one_of(
    st.sampled_from(
        [
            *(
                "train",
                "evaluate",
                "plot",
                "report",
                "download",
                "profile",
                "provenance",
                "reproduce",
            ),
            *("verify", "sweep", "best", "digits", "mnits", "square", "gait", "bp", "reference"),
            *("--json", "--all", "--check", "--force", "--port", "--device", "--dry-run", "-1"),
            *("results/digits", "params.yaml", "/dev/null", "/", "..", "", " ", "ä", "🙂"),
        ]
    ),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12),
)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with params and profiles, and nothing else; every test is in it."""
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "profiles").symlink_to(REPOSITORY / "profiles")
    (folder / "params.yaml").write_text(small_params())
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in ("GAIT_DATA_ROOT", "GAIT_DATA_MIRROR"):
            patch.delenv(name, raising=False)
        # A port of this machine on which nobody listens: no store is made, no server asked.
        patch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        patch.setenv("GAIT_DATA_MIRROR", "http://127.0.0.1:9/")
        yield folder


def places(node: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every key and element of a document."""
    items: Any = ()
    if isinstance(node, dict):
        items = node.items()
    elif isinstance(node, list):
        items = enumerate(node)
    found = [place] if place else []
    return found + [each for key, value in items for each in places(value, (*place, key))]


def document() -> Any:
    return YAML(typ="safe").load(small_params())


PLACES = places(document())


def files(folder: Path) -> set[str]:
    # Locks of the store hold nothing.
    return {str(path) for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"}


def check_refused(folder: Path, code: int, said: str, before: set[str], what: Any) -> None:
    assert code == 2, (what, code, said)
    assert "Traceback" not in said, (what, said)
    assert said.strip(), what
    assert files(folder) == before, what


@fuzzed
@given(place=st.sampled_from(PLACES), value=VALUES, action=st.sampled_from(["set", "drop", "add"]))
def test_params_that_are_edited(
    project: Path, place: tuple[Any, ...], value: Any, action: str
) -> None:
    content = document()
    node = content
    for key in place[:-1]:
        node = node[key]
    if action == "drop":
        del node[place[-1]]
    elif action == "add" and isinstance(node, dict):
        node["a key that nobody knows"] = value
    else:
        node[place[-1]] = value
    text = io.StringIO()
    with contextlib.suppress(Exception):
        YAML(typ="safe").dump(content, text)
    check_params(project, text.getvalue())


@fuzzed
@given(
    start=st.integers(0, len(small_params())), length=st.integers(0, 60), insert=st.text(max_size=9)
)
def test_params_as_text(project: Path, start: int, length: int, insert: str) -> None:
    text = small_params()
    check_params(project, text[:start] + insert + text[start + length :])


@fuzzed
@given(content=st.binary(max_size=200))
def test_params_of_any_bytes(project: Path, content: bytes) -> None:
    check_params(project, content)


def check_params(project: Path, content: str | bytes) -> None:
    """Params are good, or refused; training then ends at the data, which is missing."""
    path = project / "params.yaml"
    raw = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    path.write_bytes(raw)
    before = files(project)
    try:
        params_file.load(path)
        good = True
    except GaitError:
        good = False
    code, output, problems = gait_here("train", "digits", "square", "gait")
    said = output + problems
    check_refused(project, code, said, before, raw)
    if good:
        assert "run `gait download`" in said or "unknown" in said or "allowed" in said, said
    else:
        assert "params.yaml" in said, (raw, said)


@fuzzed
@given(
    command=st.sampled_from(
        [
            "train",
            "download",
            "profile",
            "provenance",
            "reproduce",
            "evaluate",
            "plot",
            "report",
            "x",
        ]
    ),
    words=st.lists(WORDS, max_size=4),
)
def test_arguments(project: Path, command: str, words: list[str]) -> None:
    path = project / "params.yaml"
    path.write_text(small_params())
    before = files(project)
    arguments = [command, *words]
    code, output, problems = gait_here(*arguments)
    said = output + problems
    assert "Traceback" not in said, (arguments, said)
    assert code in (0, 2), (arguments, code, said)
    if code == 2:
        check_refused(project, code, said, before, arguments)
    else:
        # What little works in an empty folder.
        asked_for_help = "--help" in words
        assert asked_for_help or command in ("profile", "download"), (arguments, said)
        for left in files(project) - before:
            Path(left).unlink()
