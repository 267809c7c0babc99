"""One thread for these tests: their matrices are small, and threads that wait cost more than they
bring on a shared machine. Portable numerics from the start, which is what experiments use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from gaitprop import numerics


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    numerics.use("portable", 1)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
