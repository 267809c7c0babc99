"""docs/params.md and params.schema.json: every key of params.yaml, from what checks them."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from typing import Any

from gaitprop.errors import ArgumentError
from gaitprop.rules import rule_names
from pipeline.params.schema import Params, RuleSettings, settings_of_rule
from pipeline.params.search_space import NOT_SWEPT, SECTIONS

# What of a section follows from others where it is not given, and so is required of nobody.
_FILLED_IN = {"Sweep": ("dataset", "architecture", "rules"), "Params": ("sweep",)}
_SIGNS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
_HEAD = """\
# params.yaml: every setting

Each key with its type, what it may be, its default (a dash: it must be given) and what it decides.
`gait params` prints this page, of the code that is installed; `gait params --schema` prints
[params.schema.json](../params.schema.json), by which editors complete and check params.yaml while
it is written (the comment in its first line names it). Before any work starts, all keys that are
wrong by themselves are said at once, by line, and after that what does not go together; what only
the images tell, that there are fewer than `train_size` or `batch_size` asks for, is said by the
stage that reads them.

A profile of one's own is this file under a name of its own: change `profile`, save it as
profiles/NAME.yaml, and `gait profile NAME` brings it back; its results go to results/NAME.

A setting that a sweep may try has its name there in the last column.
"""


def json_schema() -> dict[str, Any]:
    """Params as a JSON Schema, for editors; what concerns several keys at once is not in it."""
    schema = Params.model_json_schema()
    for name, optional in _FILLED_IN.items():
        section = schema if name == "Params" else schema["$defs"][name]
        section["required"] = [key for key in section["required"] if key not in optional]
    _add_keys_of_single_rules(schema["$defs"][RuleSettings.__name__]["properties"])
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **_without_titles(schema)}


def _add_keys_of_single_rules(properties: dict[str, Any]) -> None:
    """What rules declare beside the keys of all, of packages' rules too."""
    for rule in rule_names():
        try:
            own = settings_of_rule(rule).model_json_schema()["properties"]
        except ArgumentError:
            continue  # A package that cannot be used is `gait doctor`'s to tell.
        for name in own.keys() - RuleSettings.model_fields.keys():
            facts = {**own[name], "description": f"{rule} alone: {own[name]['description']}"}
            if name in properties:
                told = f"{properties[name]['description']}; {facts['description']}"
                facts = {"type": facts["type"], "default": facts["default"], "description": told}
            properties[name] = facts


def as_json() -> str:
    """The content of params.schema.json."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def as_markdown() -> str:
    """The content of docs/params.md."""
    schema = json_schema()
    lines = [_HEAD, "## The file's own keys", "", *_table(schema, "")]
    for places, name in _sections(schema).items():
        section = schema["$defs"][name]
        heading = " and ".join(f"`{place}`" for place in places)
        lines += ["", f"## {heading}", "", inspect.cleandoc(section["description"]), ""]
        lines += _table(section, places[-1])
    return "\n".join(lines) + "\n"


def _sections(schema: dict[str, Any]) -> dict[tuple[str, ...], str]:
    """Where each section stands in params.yaml, in the order of the file."""
    places: dict[str, list[str]] = {}

    def visit(node: dict[str, Any], place: str) -> None:
        for key, value in node.get("properties", {}).items():
            for name, how in _references(value):
                inner = f"{place}{key}{how}"
                places.setdefault(name, []).append(inner)
                visit(schema["$defs"][name], f"{inner}.")

    visit(schema, "")
    return {tuple(where): name for name, where in places.items()}


def _references(node: dict[str, Any], how: str = "") -> Iterator[tuple[str, str]]:
    """Names of the sections that a key's value is made of, and how they stand below the key."""
    for kind in _kinds(node):
        if "$ref" in kind:
            yield kind["$ref"].rpartition("/")[2], how
        elif kind.get("type") == "array":
            yield from _references(kind["items"], f"{how}[]")
        elif kind.get("type") == "object":
            yield from _references(_values(kind), f"{how}.<name>")


def _kinds(node: dict[str, Any]) -> list[dict[str, Any]]:
    """The kinds of value that a key takes."""
    kinds: list[dict[str, Any]] = node.get("anyOf", node.get("oneOf", [node]))
    return kinds


def _values(node: dict[str, Any]) -> dict[str, Any]:
    """The kind of a mapping's values; empty for one that holds anything."""
    values = next(
        iter(node.get("patternProperties", {}).values()), node.get("additionalProperties")
    )
    return values if isinstance(values, dict) else {}


def _table(section: dict[str, Any], place: str) -> list[str]:
    rows = [
        "| key | type | allowed | default | what it decides | swept as |",
        "|---|---|---|---|---|---|",
    ]
    for key, value in section["properties"].items():
        cells = [
            f"`{key}`",
            _type(value),
            _allowed(value),
            _default(section, key, value),
            value["description"],
            _swept(f"{place}.{key}", value),
        ]
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return rows


def _swept(place: str, value: dict[str, Any]) -> str:
    """What a sweep calls a setting; nothing where none changes it."""
    for section, placed in (("rule", "rules.<name>."), ("architecture", "architectures.<name>.")):
        place = place.replace(placed, f"{section}.")
    swept = place.split(".")[0] in SECTIONS and place not in NOT_SWEPT
    return f"`{place}`" if swept and "[]" not in place and "$ref" not in value else ""


def _type(node: dict[str, Any]) -> str:
    names = {"string": "text", "boolean": "true or false"}
    words = []
    for kind in _kinds(node):
        if "$ref" in kind:
            words.append("section")
        elif kind.get("type") == "array":
            items = kind.get("items")
            words.append(f"list of {_type(items)}s" if items else "list")
        elif kind.get("type") == "object":
            words.append(f"mapping of names to {_type(_values(kind))}s")
        else:
            words.append(names.get(kind["type"], kind["type"]) if "type" in kind else "value")
    return " or ".join(words)


def _allowed(node: dict[str, Any]) -> str:
    said = []
    for kind in _kinds(node):
        if "enum" in kind:
            said.append(", ".join(f"`{value}`" for value in kind["enum"]))
        said += [f"{sign} {_text(kind[word])}" for word, sign in _SIGNS.items() if word in kind]
        if "pattern" in kind:
            said.append(f"`{kind['pattern']}`")
        if (low := kind.get("minItems")) is not None:
            said.append(f"{low} of them" if low == kind.get("maxItems") else f"at least {low}")
        if "items" in kind and (inner := _allowed(kind["items"])):
            said.append(f"each {inner}")
    return ", ".join(said)


def _default(section: dict[str, Any], key: str, value: dict[str, Any]) -> str:
    if key in section.get("required", []):
        return "–"
    if "default" not in value:
        return "its own defaults" if "$ref" in value else "as in `run`"
    if isinstance(value["default"], dict):
        return "its own defaults" if value["default"] else "`{}`"
    return f"`{_text(value['default'])}`"


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value)


def _without_titles(node: Any) -> Any:
    """Pydantic names every key once more, which says nothing."""
    if isinstance(node, dict):
        return {
            key: _without_titles(value)
            for key, value in node.items()
            if key != "title" or not isinstance(value, str)
        }
    return [_without_titles(each) for each in node] if isinstance(node, list) else node
