"""A history is read back as it was written."""

from __future__ import annotations

from pathlib import Path

import pytest

from gaitprop import InvertibleNetwork
from gaitprop.training import make_optimizer, train
from pipeline.training import history
from tests.gaitprop.learned import WIDTHS, data, settings


@pytest.mark.parametrize(
    ("rule", "layers"), [("gait_learned_inverse", ["2", "3"]), ("gait", []), ("tp", [])]
)
def test_models_that_learn_inverses_have_columns_of_their_defect(
    rule: str, layers: list[str]
) -> None:
    network = InvertibleNetwork(WIDTHS, seeds=(0, 1))
    chosen = settings(rule=rule, epochs=1)
    records = train(network, make_optimizer(network, chosen), data(), chosen)
    *_, last = [history.rows(record, (0, 1)) for record in records]
    expected = [f"inverse_defect_layer_{layer}" for layer in layers]
    for row in last:
        names = list(row)
        assert [name for name in names if name.startswith("inverse")] == expected
        assert names.index("bp_cosine_layer_1") < names.index("bp_cosine_layer_3")
        assert names[-1] == (expected or ["defect_of_errors_layer_3"])[-1]


def test_every_number_is_read_to_its_last_bit(tmp_path: Path) -> None:
    """By pandas' own parser, which missed some of these until pandas 3."""
    written = [(0.1 * number) ** 7 / 3 for number in range(1, 2000)]
    history.write(tmp_path / "history.csv", [{"epoch": 1, "train_loss": x} for x in written])
    assert history.read(tmp_path / "history.csv").train_loss.tolist() == written
