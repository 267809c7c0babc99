"""params.yaml, read: its content checked, every problem of the file reported at once."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError
from ruamel.yaml.scalarbool import ScalarBoolean

from pipeline.params import problems, search_space
from pipeline.params.schema import Params
from pipeline.project.errors import GaitError
from pipeline.project.files import text_of

PARAMS_FILE = Path("params.yaml")
# Far above any settings: aliases of aliases make millions of values of a kilobyte of text, and one
# of itself makes no end of them.
_MOST_VALUES = 100_000
# What no float can hold.
_MOST_BITS = 1024


def load(path: Path = PARAMS_FILE) -> Params:
    """The checked content of a params file; GaitError lists every problem with its line."""
    advice = "; run gait in the project's folder, and `gait profile digits` to have a new one"
    return read(text_of(path, advice), str(path))


def read(text: str, path: str) -> Params:
    """The checked content of a text; raises as ``load``, and calls it ``path``."""
    try:
        document = YAML(typ="rt").load(text)
    except YAMLError as error:
        raise GaitError(f"{path} is not YAML: {problems.yaml_reason(error)}") from None
    except RecursionError:
        raise GaitError(f"{path} cannot be read: its brackets are nested too deeply") from None
    except Exception as error:
        # An integer with thousands of digits, which Python does not read; a merge of a mapping
        # with itself, on which the parser stumbles.
        raise GaitError(f"{path} cannot be read ({error})") from None
    if not isinstance(document, CommentedMap):
        raise GaitError(f"{path} is not a mapping of settings; see profiles/digits.yaml for one")
    try:
        params = Params.model_validate(_plain(document, itertools.count(1)))
    except OverflowError as error:
        raise GaitError(f"{path} cannot be read: {error}") from None
    except ValidationError as error:
        raise GaitError(problems.explain(path, document, error.errors())) from None
    if found := search_space.problems(params):
        raise GaitError(problems.explain(path, document, found))
    return search_space.in_full(params)


def _plain(node: Any, count: Iterator[int]) -> Any:
    """ruamel's tree as plain Python values: strict models accept no subclass of float or list.

    Raises OverflowError for more than any settings hold.
    """
    if next(count) > _MOST_VALUES:
        raise OverflowError(
            f"it has more than {_MOST_VALUES:,} values, of which aliases may make many"
        )
    if isinstance(node, CommentedMap):
        return {str(key): _plain(value, count) for key, value in node.items()}
    if isinstance(node, CommentedSeq):
        return [_plain(value, count) for value in node]
    if isinstance(node, ScalarBoolean):  # One with an anchor, which is no bool.
        return bool(node)
    if isinstance(node, int) and node.bit_length() > _MOST_BITS:
        raise OverflowError("it has an integer that is too large for any setting")
    for kind in (bool, int, float, str):
        if isinstance(node, kind):
            return kind(node)
    return node
