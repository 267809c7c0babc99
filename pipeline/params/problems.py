"""A params file as text: its tree as plain values, its problems by line."""

from __future__ import annotations

from typing import Any

from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError


def plain(node: Any) -> Any:
    """ruamel's tree as plain Python values: strict models accept no subclass of float or list."""
    if isinstance(node, CommentedMap):
        return {str(key): plain(value) for key, value in node.items()}
    if isinstance(node, CommentedSeq):
        return [plain(value) for value in node]
    for kind in (bool, int, float, str):
        if isinstance(node, kind):
            return kind(node)
    return node


def yaml_reason(error: YAMLError) -> str:
    """What is wrong with the text, and in which line if that is known."""
    if isinstance(error, MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}: {error.problem or error.context}"
    return str(error).splitlines()[0]


def line_of(document: CommentedMap, place: tuple[int | str, ...]) -> int:
    """The line, from 1, of the deepest part of a place that the file has."""
    node: Any = document
    line = 0
    for key in place:
        if not isinstance(node, CommentedMap | CommentedSeq):
            break
        try:
            line = node.lc.data[key][0]
            node = node[key]
        except (KeyError, IndexError, TypeError):
            break
    return line + 1
