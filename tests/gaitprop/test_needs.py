"""What rules need: as docs/theory.md says, and as a rule of one's own shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from torch import Tensor

from gaitprop.errors import ArgumentError
from gaitprop.linalg import matmul
from gaitprop.rules import RULES
from gaitprop.rules.layer import LayerView
from gaitprop.rules.needs import Needs, needs_of

THEORY = Path(__file__).parents[2] / "docs" / "theory.md"
TITLES = {
    "BP": "bp",
    "GAIT-prop": "gait",
    "ITP": "itp",
    "TP": "tp",
    "damped": "damped",
    "GAIT-prop, learned inverse": "gait_learned_inverse",
    "GAIT-prop, learned from the transpose": "gait_learned_from_transpose",
    "difference target propagation": "difference_target_propagation",
    "Kolen–Pollack": "kolen_pollack",
    "feedback alignment": "feedback_alignment",
    "direct feedback alignment": "direct_feedback_alignment",
    "sign symmetry": "sign_symmetry",
}


def stated() -> dict[str, Needs]:
    """The table of docs/theory.md; what is needed at the start alone is not asked here."""
    table = THEORY.read_text().split("| | transpose | inverse | learns feedback")[1]
    found = {}
    for line in table.split("\n\n")[0].splitlines()[2:]:
        titles, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        transpose, inverse, learns, random, output = cells
        needs = Needs(
            weights=transpose not in ("", "at the start"),
            inverse=inverse == "yes",
            feedback=bool(learns or random),
            learning=bool(learns),
            output_error=bool(output),
        )
        whole = [titles] if titles in TITLES else re.split(", ", titles)
        found |= {TITLES[title]: needs for title in whole}
    return found


def test_every_rule_needs_what_the_theory_says() -> None:
    assert {name: needs_of(name) for name in RULES} == stated()


def test_a_rule_of_ones_own_is_watched() -> None:
    def own(layer: LayerView, error: Tensor, scale: float) -> Tensor:
        return layer.solve(matmul(layer.local_error, layer.weight))

    needs = needs_of(own)
    assert needs == Needs(True, True, False, False, False)
    assert str(needs) == "weights, inverse"


def test_a_rule_that_needs_nothing() -> None:
    assert str(needs_of(lambda layer, _, __: layer.local_error)) == "nothing"


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(ArgumentError, match="rule is 'back'"):
        needs_of("back")
