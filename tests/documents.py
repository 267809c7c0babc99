"""Pages that are followed to the letter: their commands, their settings, and what they show."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from ruamel.yaml import YAML

from pipeline.results.equivalence import Equivalence, paired_test
from tests.pipeline.project_copy import REPOSITORY, run

NUMBER = re.compile(r"[-+]?\d[\d.]*(e[-+]?\d+)?|\b(inf|nan)\b")
CHECKSUM = re.compile(r"\b[0-9a-f]{12,}\b|\b[0-9a-f]{8,}…")


def published(path: str) -> str:
    """A file as committed: a machine whose numerics are not portable may have made another since.

    Without a history, the file as it stands.
    """
    if not (REPOSITORY / ".git").exists():
        return (REPOSITORY / path).read_text(encoding="utf-8")
    return run(REPOSITORY, "git", "show", f"HEAD:{path}")


def summary(profile: str) -> dict[str, dict[str, str]]:
    """A published table, row by row, by model."""
    table = csv.DictReader(io.StringIO(published(f"results/{profile}/summary.csv")))
    return {row["model"]: row for row in table}


def without(text: str, figures: Iterable[str]) -> str:
    """The text less each figure, whole, where it stands next: figures are in the text's order."""
    place = 0
    for figure in figures:
        found = re.compile(rf"(?<![\d.,]){re.escape(figure)}(?!\d)").search(text, place)
        assert found is not None, f"{figure!r} is not in {text[place : place + 1000]!r}"
        place = found.start()
        text = text[:place] + text[found.end() :]
    return text


def published_script() -> ModuleType:
    """examples/published_networks.py, which is no module of a package."""
    module = ModuleType("published_networks")
    text = (REPOSITORY / "examples/published_networks.py").read_text(encoding="utf-8")
    exec(compile(text, "published_networks.py", "exec"), module.__dict__)
    return module


def published_models(name: str) -> dict[str, dict[str, Any]]:
    """What examples/published_networks.py made of each model."""
    models = json.loads(published(f"results/published/{name}.json"))["models"]
    assert isinstance(models, dict)
    return models


def points(value: float) -> str:
    """A share in percentage points, with its sign."""
    return f"{100 * value:+.2f}".replace("-", "−")


def interval(test: Equivalence) -> str:
    """Mean and 90 % interval, in percentage points."""
    return f"{points(test.mean)} ({points(test.low)} to {points(test.high)})"


def published_difference(name: str, ours: str, theirs: str = "BP reference") -> Equivalence:
    """Of two models of ``published_models`` on the test set, paired by seed."""
    accuracies = (published_models(name)[each]["test_accuracy"] for each in (ours, theirs))
    return paired_test([mine - other for mine, other in zip(*accuracies, strict=True)])


def difference(
    profile: str,
    ours: str,
    theirs: str = "reference",
    metric: str = "test_accuracy",
    beside: str | None = None,
) -> str:
    """Of two models of published profiles, as ``interval`` says."""
    return interval(of_test(profile, ours, theirs, metric, beside))


def of_test(
    profile: str,
    ours: str,
    theirs: str = "reference",
    metric: str = "test_accuracy",
    beside: str | None = None,
) -> Equivalence:
    """Of two models, paired by seed: of one published profile, or the second of one ``beside`` it.

    By each seed's results; claims.json has the same of those it judges.
    """
    mine = by_seed(profile, ours, metric)
    others = by_seed(beside or profile, theirs, metric)
    return paired_test([value - others[seed] for seed, value in mine.items()])


def by_seed(profile: str, model: str, metric: str = "test_accuracy") -> dict[str, float]:
    """A figure of each seed of a published model."""
    table = csv.DictReader(io.StringIO(published(f"results/{profile}/seeds.csv")))
    return {row["seed"]: float(row[metric]) for row in table if row["model"] == model}


def blocks(text: str) -> list[tuple[str, str, str]]:
    """(file, language, content) of each block of code; file is empty unless the page names one."""
    found = re.findall(r"(?:<!-- file: (\S+) -->\n`\S+`:\n\n)?```(\w+)\n(.*?)```", text, re.DOTALL)
    return [(name, language, content) for name, language, content in found]


def shell(project: Path, script: str, code: int = 0, **environment: str) -> str:
    """Runs a script in the project, whose own environment comes first."""
    path = os.pathsep.join([str(project / ".venv/bin"), os.path.dirname(sys.executable)])
    command = f'export PATH="{path}:$PATH"; set -e; {script}'
    # The project's own code, whose environment this is.
    own = {"UV_OFFLINE": "1", "PYTHONPATH": str(project), **environment}
    return run(project, "bash", "-c", command, code=code, **own)


def put_into_params(project: Path, fragment: str, shorter: Mapping[str, str]) -> None:
    """Does what the page's YAML says, in less time."""
    for old, new in shorter.items():
        fragment = fragment.replace(old, new)
    yaml = YAML()
    params = yaml.load(project / "params.yaml")
    _merge(params, YAML(typ="safe").load(fragment))
    yaml.dump(params, project / "params.yaml")


def differences(shown: str, said: str) -> list[str]:
    """The pieces between `…` of what is shown that are not in what was said, in that order.

    Numbers and checksums may be others, and so may be white space and the rules of tables.
    """
    said = _shape(said)
    missing = []
    place = 0
    for piece in filter(None, map(str.strip, _shape(shown).split("…"))):
        found = said.find(piece, place)
        if found < 0:
            missing.append(piece)
        else:
            place = found + len(piece)
    return missing


def _shape(text: str) -> str:
    text = CHECKSUM.sub("ID", text)
    return " ".join(NUMBER.sub("N", re.sub("[─-╿]", " ", text)).split())


def _merge(into: Any, fragment: Any) -> None:
    for key, value in fragment.items():
        # A space is what the page shows, and nothing of the one that was there.
        if key != "space" and isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value
