"""Each seed's best epoch on the validation set, and its weights: early stopping, seed by seed.

A seed whose patience has run out is done, whatever the others still do: what is kept of it is what
a training of that seed alone keeps.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from gaitprop.errors import ArgumentError
from gaitprop.network import InvertibleNetwork


class BestEpochs:
    """Of every seed the epoch of the highest validation accuracy; of equal ones the lowest loss.

    The untrained network, epoch 0, is none of them.

    Args:
        network: to be trained.
        patience: so many epochs without a better one end a seed's training.
    """

    def __init__(self, network: InvertibleNetwork, patience: int) -> None:
        seeds = len(network.seeds)
        self._patience = patience
        self._epoch = torch.zeros(seeds, dtype=torch.int64, device="cpu")
        self._accuracy = torch.full((seeds,), -torch.inf, dtype=torch.float64, device="cpu")
        self._loss = torch.full((seeds,), torch.inf, dtype=torch.float64, device="cpu")
        self._parameters = [each.detach().clone() for each in network.tensors()]

    def check(self, network: InvertibleNetwork, patience: int | None) -> None:
        """Raises ArgumentError unless it was made for such a network, with this patience."""
        ours = [tuple(each.shape) for each in self._parameters]
        theirs = [tuple(each.shape) for each in network.tensors()]
        if (self._patience, ours) != (patience, theirs):
            raise ArgumentError(
                f"best is of patience {self._patience} and tensors of {ours}; allowed: what"
                f" make_best_epochs gave for patience {patience} and a network of {theirs}"
            )

    @property
    def epochs(self) -> Tensor:
        """(S,), int64: each seed's best epoch so far; 0 before the first."""
        return self._epoch.clone()

    @torch.no_grad()
    def see(self, epoch: int, accuracy: Tensor, loss: Tensor, network: InvertibleNetwork) -> None:
        """Keeps the weights of the seeds that are better after this epoch than ever before.

        Args:
            epoch: one after the last that was seen.
            accuracy: (S,), on the validation set.
            loss: (S,), of the same.
            network: as trained so far.
        """
        waiting = epoch - 1 - self._epoch < self._patience
        better = (accuracy > self._accuracy) | ((accuracy == self._accuracy) & (loss < self._loss))
        better &= waiting
        self._epoch[better] = epoch
        self._accuracy[better], self._loss[better] = accuracy[better], loss[better]
        chosen = better.to(network.device)
        for kept, now in zip(self._parameters, network.tensors(), strict=True):
            kept[chosen] = now[chosen]

    def over(self, epoch: int) -> bool:
        """Whether no seed is to be trained further."""
        return bool((epoch - self._epoch >= self._patience).all())

    @torch.no_grad()
    def restore(self, network: InvertibleNetwork) -> None:
        """Puts each seed's best weights, and what goes with them, into the network."""
        for kept, parameter in zip(self._parameters, network.tensors(), strict=True):
            parameter.copy_(kept)

    def state_dict(self) -> dict[str, Any]:
        """What ``load_state_dict`` goes on from; further epochs do not change it."""
        return {
            "epoch": self._epoch.clone(),
            "accuracy": self._accuracy.clone(),
            "loss": self._loss.clone(),
            "parameters": [each.cpu().clone() for each in self._parameters],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from what ``state_dict`` gave.

        Raises:
            ArgumentError: it is of other networks.
        """
        ours, theirs = (_shapes(each) for each in (self.state_dict(), state))
        if ours != theirs:
            raise ArgumentError(f"the state has {theirs}; allowed: {ours}")
        for name in ("epoch", "accuracy", "loss"):
            getattr(self, f"_{name}").copy_(state[name])
        for kept, saved in zip(self._parameters, state["parameters"], strict=True):
            kept.copy_(saved)


def _shapes(state: Mapping[str, Any]) -> dict[str, Any]:
    """Of all tensors of a state, by name."""

    def shapes(value: Any) -> Any:
        if isinstance(value, list):
            return [shapes(each) for each in value]
        return tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__

    return {name: shapes(value) for name, value in state.items()}
