"""A state is of its moment, goes back whole, and is known for damaged when it is."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gaitprop import InvertibleNetwork, layer_gradients
from gaitprop.training import make_best_epochs, make_optimizer, train
from pipeline.training import model_files, state_file
from pipeline.training.state_file import DamagedStateError
from tests.gaitprop.learned import LEARNED, WIDTHS, data, same, settings, trained

NOTES = {"epochs": [1, 2], "name": None}


def a_training() -> tuple[InvertibleNetwork, torch.optim.Optimizer]:
    network = InvertibleNetwork((6, 6, 4), seeds=(0, 1))
    return network, torch.optim.Adam(network.parameters(), lr=0.1)


def steps(network: InvertibleNetwork, optimizer: torch.optim.Optimizer, numbers: range) -> None:
    for number in numbers:
        draw = torch.Generator().manual_seed(number)
        for parameter in network.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=draw)
        optimizer.step()


def test_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    whole, optimizer = a_training()
    steps(whole, optimizer, range(3))
    state = state_file.snapshot(whole, optimizer, 3)
    # What comes after does not change what was taken.
    steps(whole, optimizer, range(3, 6))
    state_file.write(tmp_path / "state.pt", state, NOTES)
    network, optimizer = a_training()
    saved = state_file.read(tmp_path / "state.pt", network.device)
    assert saved is not None
    assert (saved["epoch"], saved["notes"]) == (3, NOTES)
    state_file.restore(saved, network, optimizer)
    steps(network, optimizer, range(3, 6))
    for ours, theirs in zip(network.parameters(), whole.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_what_was_gone_on_from_stays_as_it_is(optimizer: str) -> None:
    """Who is stopped within the first epoch after it saves it once more."""
    chosen = settings(optimizer=optimizer, momentum=0.5, patience=2, epochs=4)
    network = InvertibleNetwork(WIDTHS, seeds=(0, 1))
    before, best = make_optimizer(network, chosen), make_best_epochs(network, chosen)
    list(train(network, before, data(), replace(chosen, epochs=2), best=best))
    state = state_file.snapshot(network, before, 2, best)
    kept = pickle.dumps(state)
    going_on = make_optimizer(network, chosen)
    state_file.restore(state, network, going_on, best)
    list(train(network, going_on, data(), chosen, 2, best=best))
    assert pickle.dumps(state) == kept


@pytest.mark.parametrize("place", [0, 40, -1])
def test_one_bit_is_enough_to_be_damaged(tmp_path: Path, place: int) -> None:
    network, optimizer = a_training()
    state = state_file.snapshot(network, optimizer, 1)
    state_file.write(tmp_path / "state.pt", state, NOTES)
    content = bytearray((tmp_path / "state.pt").read_bytes())
    content[place] ^= 1
    (tmp_path / "state.pt").write_bytes(content)
    with pytest.raises(DamagedStateError, match="it is not what was written there"):
        state_file.read(tmp_path / "state.pt", network.device)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_training_goes_on_from_a_state(tmp_path: Path, optimizer: str) -> None:
    chosen = settings(optimizer=optimizer, momentum=0.5 if optimizer == "sgd" else 0.0)
    first, again = InvertibleNetwork(WIDTHS, seeds=(4, 2)), InvertibleNetwork(WIDTHS, seeds=(4, 2))
    made = make_optimizer(first, chosen)
    for record in train(first, made, data(), chosen):
        if record.epoch == 2:
            taken = state_file.snapshot(first, made, 2)
            state_file.write(tmp_path / "state.pt", taken, NOTES)
    made = make_optimizer(again, chosen)
    state = state_file.read(tmp_path / "state.pt", again.device)
    assert state is not None
    state_file.restore(state, again, made)
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
