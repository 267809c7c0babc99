"""The list of mutations follows the code: every text is there once, every test exists."""

from __future__ import annotations

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
