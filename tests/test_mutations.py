"""The list of mutations follows the code: every text is there once, every test exists."""

from __future__ import annotations

import re

import pytest

from tests import mutations


@pytest.mark.parametrize("mutation", mutations.mutations(), ids=lambda m: f"{m.file}: {m.what}")
def test_is_up_to_date(mutation: mutations.Mutation) -> None:
    source = (mutations.REPOSITORY / mutation.file).read_text()
    assert source.count(mutation.old) == 1
    compile(source.replace(mutation.old, mutation.new), mutation.file, "exec")
    for name in mutation.tests:
        file, _, test = mutations.path_of(name).partition("::")
        text = (mutations.REPOSITORY / file).read_text()
        assert not test or f"def {test}(" in text


def test_the_copy_has_what_its_tests_import() -> None:
    copied = [mutations.REPOSITORY / name for name in mutations.COPIED]
    files = {
        file for name in copied for file in (name, *name.rglob("*.py")) if file.suffix == ".py"
    }
    tests = [file for file in files if file.is_relative_to(mutations.REPOSITORY / "tests")]
    assert len(tests) > 50
    for file in tests:
        for module in re.findall(r"^from (tests\.[\w.]+) import", file.read_text(), re.MULTILINE):
            source = mutations.REPOSITORY.joinpath(*module.split("."))
            found = source / "__init__.py" if source.is_dir() else source.with_suffix(".py")
            assert found in files or source in copied or source.parent in copied, (file, module)
