"""A state is of its moment, goes back whole, and is known for damaged when it is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gaitprop import InvertibleNetwork
from pipeline.training import training_state
from pipeline.training.training_state import DamagedStateError

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
    state = training_state.snapshot(whole, optimizer, 3, NOTES)
    # What comes after does not change what was taken.
    steps(whole, optimizer, range(3, 6))
    training_state.write(tmp_path / "state.pt", state)
    network, optimizer = a_training()
    restored = training_state.load(tmp_path / "state.pt", network, optimizer)
    assert restored == (3, NOTES)
    steps(network, optimizer, range(3, 6))
    for ours, theirs in zip(network.parameters(), whole.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("place", [0, 40, -1])
def test_one_bit_is_enough_to_be_damaged(tmp_path: Path, place: int) -> None:
    network, optimizer = a_training()
    training_state.save(tmp_path / "state.pt", network, optimizer, 1)
    content = bytearray((tmp_path / "state.pt").read_bytes())
    content[place] ^= 1
    (tmp_path / "state.pt").write_bytes(content)
    with pytest.raises(DamagedStateError, match="it is not what was written there"):
        training_state.load(tmp_path / "state.pt", network, optimizer)
