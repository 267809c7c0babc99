"""docs/params.md and params.schema.json say what the code checks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import BaseModel
from ruamel.yaml import YAML

from pipeline.params import schema, search_space, settings_reference, sweep_section
from pipeline.params.section import Section

REPOSITORY = Path(__file__).parents[3]
FILES = [REPOSITORY / "params.yaml", *sorted((REPOSITORY / "profiles").glob("*.yaml"))]


def sections() -> list[type[BaseModel]]:
    found = [each for module in (schema, sweep_section) for each in vars(module).values()]
    kinds = {each for each in found if isinstance(each, type) and issubclass(each, Section)}
    return sorted(kinds - {Section}, key=lambda kind: kind.__name__)


@pytest.mark.parametrize(
    ("file", "made"),
    [
        ("docs/params.md", settings_reference.as_markdown),
        ("params.schema.json", settings_reference.as_json),
    ],
)
def test_files_are_as_the_code_makes_them(file: str, made: Any) -> None:
    assert (REPOSITORY / file).read_text() == made(), "run `make docs`"


@pytest.mark.parametrize("section", sections(), ids=lambda kind: kind.__name__)
def test_every_key_says_what_it_decides_and_is_on_the_page(section: type[BaseModel]) -> None:
    page = settings_reference.as_markdown()
    for name, field in section.model_fields.items():
        assert field.description, f"{section.__name__}.{name}"
        assert f"| `{name}` |" in page


def test_the_page_names_everything_that_a_sweep_may_try() -> None:
    page = settings_reference.as_markdown()
    known = search_space.known_names(search_space.SECTIONS)
    assert [name for name in known if f"| `{name}` |" not in page] == []
    assert all(f"`{name}`" not in page for name in search_space.NOT_SWEPT)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_editors_find_the_schema_and_it_takes_our_files(path: Path) -> None:
    text = path.read_text()
    name = text.splitlines()[0].removeprefix("# yaml-language-server: $schema=")
    found = json.loads((path.parent / name).read_text())
    jsonschema.validate(YAML(typ="safe").load(text), found, jsonschema.Draft202012Validator)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("batch_size: 30", "batchsize: 30"),
        ("batch_size: 30", "batch_size: 0"),
        ("activation: leaky_relu", "activation: relu"),
        ("    orthogonality: 0.1\n    gamma", "    lambda: 0.1\n    gamma"),
    ],
)
def test_editors_see_what_is_wrong(old: str, new: str) -> None:
    text = FILES[0].read_text()
    assert text.count(old) == 1
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(
            YAML(typ="safe").load(text.replace(old, new)), settings_reference.json_schema()
        )
