"""What a rule keeps is part of a state, and of a model's files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gaitprop import InvertibleNetwork, layer_gradients
from gaitprop.training import make_optimizer, train
from pipeline.training import model_files, training_state
from tests.gaitprop.learned import LEARNED, WIDTHS, data, same, settings, trained


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_training_goes_on_from_a_state(tmp_path: Path, optimizer: str) -> None:
    chosen = settings(optimizer=optimizer, momentum=0.5 if optimizer == "sgd" else 0.0)
    first, again = InvertibleNetwork(WIDTHS, seeds=(4, 2)), InvertibleNetwork(WIDTHS, seeds=(4, 2))
    made = make_optimizer(first, chosen)
    for record in train(first, made, data(), chosen):
        if record.epoch == 2:
            training_state.save(tmp_path / "state.pt", first, made, 2)
    made = make_optimizer(again, chosen)
    state = training_state.read(tmp_path / "state.pt", again.device)
    assert state is not None
    training_state.restore(state, again, made)
    list(train(again, made, data(), chosen, first_epoch=2))
    assert same(first, again)
    # And not because the state left alone what it should restore.
    untrained = InvertibleNetwork(WIDTHS, seeds=(4, 2))
    make_optimizer(untrained, chosen)
    assert not torch.equal(first.kept()[0], untrained.kept()[0])


def test_a_models_file_has_it(tmp_path: Path) -> None:
    network = trained((4, 2))
    model_files.save_network(tmp_path / "network.safetensors", network)
    loaded = model_files.load_network(tmp_path / "network.safetensors")
    assert same(network, loaded)
    batch = data()
    ours, theirs = (
        layer_gradients(each, batch.images, batch.labels, 3, rule=LEARNED)
        for each in (network, loaded)
    )
    assert torch.equal(ours[0].weight, theirs[0].weight)
