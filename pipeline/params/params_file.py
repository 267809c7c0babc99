"""params.yaml, read: its content checked, every problem of the file reported at once."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import YAMLError

from pipeline.params import problems, search_space
from pipeline.params.plain_values import TooLargeError, plain
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
    return read(text, str(path))


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
        params = Params.model_validate(plain(document))
    except TooLargeError as error:
        raise GaitError(f"{path} cannot be read: {error}") from None
    except ValidationError as error:
        raise GaitError(problems.explain(path, document, error.errors())) from None
    if found := search_space.problems(params):
        raise GaitError(problems.explain(path, document, found))
    return search_space.in_full(params)
