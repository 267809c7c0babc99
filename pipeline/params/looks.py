"""A model's own colour, dashes and marker, in every figure of models and in MLflow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.params.schema import REFERENCE, Params


@dataclass(frozen=True)
class Look:
    """How a model is drawn: colour, dashes and marker each tell it apart."""

    colour: str
    dashes: Any
    marker: str


# The paper's in Okabe and Ito's colours, which do not depend on the reader's kind of colour vision;
# for as many as all rules there are no such colours: dashes and markers tell these apart, too.
LOOKS = {
    REFERENCE: Look("#000000", "solid", "s"),
    "bp": Look("#0072B2", (0, (5, 1.5)), "^"),
    "gait": Look("#D55E00", "solid", "o"),
    "itp": Look("#009E73", (0, (5, 1.5, 1, 1.5)), "v"),
    "tp": Look("#CC79A7", (0, (1, 1.2)), "D"),
    "damped": Look("#A0522D", (0, (6, 2)), "p"),
    "gait_learned_inverse": Look("#7766DD", (0, (2, 1)), "h"),
    "gait_learned_from_transpose": Look("#AA4466", (0, (4, 1, 1, 1)), "<"),
    "difference_target_propagation": Look("#999933", (0, (3, 1, 1, 1, 1, 1)), ">"),
    "feedback_alignment": Look("#44AA99", (0, (7, 1)), "d"),
    "direct_feedback_alignment": Look("#117733", (0, (1, 2)), "8"),
    "sign_symmetry": Look("#BB9900", (0, (2, 2)), "H"),
    "kolen_pollack": Look("#6699CC", (0, (9, 1, 1, 1)), "X"),
}

_OTHER_LOOKS = (
    Look("#E69F00", (0, (3, 1)), "P"),
    Look("#56B4E9", (0, (8, 2)), "."),
    Look("#7F7F7F", (0, (5, 1, 1, 1, 1, 1)), "*"),
    Look("#332288", (0, (2, 3)), "<"),
    Look("#882255", (0, (7, 1, 2, 1)), "d"),
    Look("#CC6677", (0, (4, 2)), ">"),
    Look("#AA4499", (0, (3, 3)), "h"),
    Look("#661100", (0, (1, 3)), "X"),
)


def look_of(params: Params, model: str) -> Look:
    """A model's own look, the same in every figure of models."""
    return look_among(list(params.rules), model)


def look_among(names: Sequence[str], name: str) -> Look:
    """The look of one of some models or rules; those without one of their own take turns."""
    if name in LOOKS:
        return LOOKS[name]
    turn, place = divmod(
        [other for other in names if other not in LOOKS].index(name), len(_OTHER_LOOKS)
    )
    # Colours come again with other dashes and markers.
    shape = _OTHER_LOOKS[(place + turn) % len(_OTHER_LOOKS)]
    return Look(_OTHER_LOOKS[place].colour, shape.dashes, shape.marker)
