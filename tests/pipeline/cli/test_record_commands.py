"""What commands on records say to people and to programs."""

from __future__ import annotations

import json

import pandas

from pipeline.audit import reproduce_differences
from pipeline.audit.reproduce import Outcome
from pipeline.cli import record_commands


def test_a_difference_to_a_recorded_zero_is_json() -> None:
    old, new = (pandas.DataFrame({"seed": [0], "test_loss": [loss]}) for loss in (0.0, 0.5))
    outcome = Outcome("d/s/gait", reproduce_differences.of_tables(old, new, ["seed"]))
    text = json.dumps(record_commands._plain(outcome), allow_nan=False)
    (difference,) = json.loads(text)["differences"]
    assert (difference["absolute"], difference["relative"]) == (0.5, None)
