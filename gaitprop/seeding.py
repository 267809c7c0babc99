"""Random generators by name: a draw depends on (seed, purpose, index), and on nothing else.

No generator is shared, so the order in which things happen cannot change a number: seeds trained
together, one after the other, or resumed in the middle draw the same values.
"""

from __future__ import annotations

import hashlib

import torch


def generator(seed: int, purpose: str, index: int = 0) -> torch.Generator:
    """A fresh CPU generator for one purpose.

    Args:
        seed: the run's seed, any integer.
        purpose: what is drawn, e.g. ``"initialisation"`` or ``"shuffling"``.
        index: which draw of that purpose, e.g. the epoch.
    """
    digest = hashlib.sha256(f"{seed}/{purpose}/{index}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
