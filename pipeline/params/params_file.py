"""params.yaml, read: its content checked, every problem of the file reported at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError

from pipeline.params import problems, search_space
from pipeline.params.schema import Params
from pipeline.project.errors import GaitError

PARAMS_FILE = Path("params.yaml")


def load(path: Path = PARAMS_FILE) -> Params:
    """The checked content of a params file.

    Raises:
        GaitError: it is missing, is not YAML, or says something that is not allowed; every
            problem is listed with its line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise GaitError(
            f"{path} cannot be read ({reason}); run gait in the project's folder, and"
            " `gait profile digits` to have a new one"
        ) from None
    try:
        document = YAML(typ="rt").load(text)
    except YAMLError as error:
        raise GaitError(f"{path} is not YAML: {problems.yaml_reason(error)}") from None
    if not isinstance(document, CommentedMap):
        raise GaitError(f"{path} is not a mapping of settings; see profiles/digits.yaml for one")
    try:
        params = Params.model_validate(_plain(document))
    except ValidationError as error:
        raise GaitError(problems.explain(path, document, error.errors())) from None
    if found := search_space.problems(params):
        raise GaitError(problems.explain(path, document, found))
    return params


def _plain(node: Any) -> Any:
    """ruamel's tree as plain Python values: strict models accept no subclass of float or list."""
    if isinstance(node, CommentedMap):
        return {str(key): _plain(value) for key, value in node.items()}
    if isinstance(node, CommentedSeq):
        return [_plain(value) for value in node]
    for kind in (bool, int, float, str):
        if isinstance(node, kind):
            return kind(node)
    return node
