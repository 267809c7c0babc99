"""A YAML document as plain values, of which there are no more than settings can have."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from ruamel.yaml.comments import CommentedMap, CommentedSeq

# Far above any settings: aliases of aliases make millions of values of a kilobyte of text, and one
# of itself makes no end of them.
MOST_VALUES = 100_000
# What no float can hold.
MOST_BITS = 1024


class TooLargeError(Exception):
    """More than any settings hold."""


def plain(node: Any) -> Any:
    """ruamel's tree as plain Python values: strict models accept no subclass of float or list.

    Raises:
        TooLargeError: there are more than ``MOST_VALUES``, or an integer of more than
            ``MOST_BITS``.
    """
    return _plain(node, itertools.count(1))


def _plain(node: Any, count: Iterator[int]) -> Any:
    if next(count) > MOST_VALUES:
        raise TooLargeError(
            f"it has more than {MOST_VALUES:,} values, of which aliases may make many"
        )
    if isinstance(node, CommentedMap):
        return {str(key): _plain(value, count) for key, value in node.items()}
    if isinstance(node, CommentedSeq):
        return [_plain(value, count) for value in node]
    if isinstance(node, int) and node.bit_length() > MOST_BITS:
        raise TooLargeError("it has an integer that is too large for any setting")
    for kind in (bool, int, float, str):
        if isinstance(node, kind):
            return kind(node)
    return node
