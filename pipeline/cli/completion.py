"""Names that the shell completes; read without the imports that take seconds.

A file that cannot be read completes nothing: a shell is no place for its error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any


def profiles() -> list[str]:
    """Those that `gait profile` can put into params.yaml."""
    return sorted(path.stem for path in Path("profiles").glob("*.yaml"))


def datasets() -> list[str]:
    """Of params.yaml and of the profiles."""
    files = [Path("params.yaml"), *Path("profiles").glob("*.yaml")]
    return sorted({name for file in files for name in _run(file, "datasets")})


def _chosen(key: str) -> Callable[[], list[str]]:
    """Those that params.yaml trains."""
    return lambda: list(_run(Path("params.yaml"), key))


own_datasets = _chosen("datasets")
architectures = _chosen("architectures")
rules = _chosen("rules")


def models() -> list[str]:
    """The reference, and a model a rule."""
    return ["reference", *rules()]


def _run(path: Path, key: str) -> Iterator[str]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    with suppress(OSError, UnicodeDecodeError, YAMLError, KeyError, TypeError):
        content: Any = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
        yield from map(str, content["run"][key])
