"""YAML of others is a mapping, or one sentence says what it is."""

from __future__ import annotations

import pytest

from pipeline.project.errors import GaitError
from pipeline.project.yaml_mapping import mapping


@pytest.mark.parametrize(
    ("text", "found"), [("", {}), ("# none", {}), ("a: {b: 1}", {"a": {"b": 1}})]
)
def test_a_mapping(text: str, found: dict[str, object]) -> None:
    assert mapping(text, "dvc.lock") == found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "dvc.lock is not YAML (while parsing"),
        ("a: !!python/object:os.system b", "dvc.lock is not YAML ("),
        ("- a", "dvc.lock is no mapping"),
        ("5", "dvc.lock is no mapping"),
    ],
)
def test_what_is_none(text: str, said: str) -> None:
    with pytest.raises(GaitError) as caught:
        mapping(text, "dvc.lock")
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)
