"""Break the code, one place at a time, and see the tests notice: ``make mutants``.

Each mutation of mutations.toml replaces one text in a copy of the project, and the tests that
should notice run. It is killed where one does; it survives where none does, which is a hole in the
tests. A text that no longer occurs exactly once is an error too: the list has to follow the code.

    python -m tests.mutations               all of them
    python -m tests.mutations pipeline/     those of files whose path contains the word
"""

from __future__ import annotations

import importlib
import os
import shutil
import sys
import tempfile
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
COPIED = (
    *("gaitprop", "pipeline", "profiles", "results/digits", "results/verify", "watched"),
    *("tests/conftest.py", "tests/own_packages.py", "tests/gaitprop", "tests/pipeline"),
    *("dvc.yaml", "params.yaml", "pyproject.toml", "requirements.lock"),
)
# Imported once; a test run is a fork of this process and begins with them.
PRELOADED = ("mlflow.store.tracking.sqlalchemy_store", "mpmath", "pandas", "scipy.stats", "torch")


@dataclass(frozen=True)
class Mutation:
    """What is broken, in which file, how, and which tests should notice."""

    what: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


def mutations() -> list[Mutation]:
    """Those of mutations.toml, in its order."""
    table = tomllib.loads(Path(__file__).with_suffix(".toml").read_text())
    return [
        Mutation(what, file, old, new, tuple(of_file["tests"]))
        for file, of_file in table.items()
        for what, old, new in of_file["mutations"]
    ]


def main() -> int:
    """Runs the mutations; 0 if every one was killed."""
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    chosen = [mutation for mutation in mutations() if word in mutation.file]
    sources = {m.file: (REPOSITORY / m.file).read_text() for m in chosen}
    stale = [m for m in chosen if sources[m.file].count(m.old) != 1]
    for mutation in stale:
        print(f"no longer there, or not once: {mutation.old!r} in {mutation.file}")
    if stale:
        return 1
    for name in PRELOADED:
        importlib.import_module(name)
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        tree = Path(folder).resolve()
        _copy(tree)
        everything = sorted({name for m in chosen for name in m.tests})
        if (code := _run(tree, everything)) != pytest.ExitCode.OK:
            print(f"the tests do not pass on the code as it is (pytest: {code})")
            print((tree / "log").read_text())
            return 1
        outcomes = [_outcome(tree, mutation, sources[mutation.file]) for mutation in chosen]
    killed = outcomes.count("killed")
    print(f"{killed} of {len(chosen)} killed")
    return 0 if killed == len(chosen) else 1


def _outcome(tree: Path, mutation: Mutation, source: str) -> str:
    path = tree / mutation.file
    path.write_text(source.replace(mutation.old, mutation.new))
    started = time.monotonic()
    try:
        code = _run(tree, mutation.tests)
    finally:
        path.write_text(source)
    # Only a failing test kills: code that does not even import proves nothing.
    outcome = {pytest.ExitCode.OK: "SURVIVED", pytest.ExitCode.TESTS_FAILED: "killed"}.get(
        pytest.ExitCode(code), f"NO RESULT (pytest: {code})"
    )
    seconds = time.monotonic() - started
    print(f"{outcome:9s} {mutation.file}: {mutation.what} ({seconds:.1f} s)", flush=True)
    return outcome


def _copy(tree: Path) -> None:
    ignored = shutil.ignore_patterns("__pycache__")
    for part in COPIED:
        target = tree / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if (REPOSITORY / part).is_dir():
            shutil.copytree(REPOSITORY / part, target, symlinks=True, ignore=ignored)
        else:
            shutil.copy2(REPOSITORY / part, target)


def path_of(name: str) -> str:
    """Of a file of tests, or of one test in it: ``gaitprop/test_network::test_shapes``."""
    file, separator, test = name.partition("::")
    return f"tests/{file}.py{separator}{test}"


def _run(tree: Path, tests: tuple[str, ...] | list[str]) -> int:
    """Pytest's exit code, of a fork of this process that works in the tree."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        log = os.open(tree / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.chdir(tree)
        sys.path.insert(0, str(tree))
        # Bytecode is known by its source's size and second: a mutation may share both.
        sys.dont_write_bytecode = True
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        own = ("tests", "gaitprop", "pipeline")
        for name in [name for name in sys.modules if name.split(".")[0] in own]:
            del sys.modules[name]
        import gaitprop

        assert Path(gaitprop.__file__).is_relative_to(tree)
        options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--tb=line"]
        # What is preloaded imports a plugin of pytest.
        options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
        code = int(pytest.main([*options, *(path_of(name) for name in tests)]))
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
        code = int(pytest.ExitCode.INTERNAL_ERROR)
    sys.stdout.flush()
    os._exit(code)


if __name__ == "__main__":
    sys.exit(main())
