"""Params files that no editor writes get one sentence, soon."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.params import params_file
from pipeline.project.errors import GaitError
from tests.pipeline.project_copy import small_params

BOMB = "\n".join(
    ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BOMB, "it has more than 100,000 values"),
        ("a: " + "[" * 3000, "nested too deeply"),
        ("a: &a [*a]", "unknown key"),
        ("rules: &r\n  <<: *r", "cannot be read"),
        ("a: [" + "1," * 100_001 + "]", "it has more than 100,000 values"),
        (small_params().replace("epochs: 2", "epochs: " + "9" * 5000), "cannot be read"),
        (small_params().replace("epochs: 2", "epochs: " + "9" * 4000), "too large for any setting"),
        (small_params().replace("epochs: 2", "epochs: 0x" + "f" * 5000), "too large for any"),
    ],
    ids=[
        "aliases",
        "brackets",
        "of itself",
        "merged with itself",
        "a list",
        "digits",
        "fewer digits",
        "hexadecimal",
    ],
)
@pytest.mark.timeout(60)
def test_one_sentence(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(GaitError) as caught:
        params_file.load(path)
    assert str(path) in str(caught.value) and said in str(caught.value)
    assert len(str(caught.value)) < 1000
