"""Two processes with half of the batch each: the gradients of one with all of it; shards."""

from __future__ import annotations

import faulthandler
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.multiprocessing.spawn import spawn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from gaitprop import ArgumentError
from gaitprop.nn import InvertibleLinear, orthogonal_
from tests.gaitprop.nn.models import gradients, small_batch, small_model

TIMEOUT = timedelta(seconds=120)


def half(rank: int, folder: str) -> None:
    """What each process does; results go to the folder."""
    # One that hangs says where, and ends.
    faulthandler.dump_traceback_later(2 * TIMEOUT.total_seconds(), exit=True)
    torch.set_num_threads(1)
    store = dist.FileStore(f"{folder}/store", 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2, timeout=TIMEOUT)
    images, labels = small_batch()
    part = slice(3 * rank, 3 * rank + 3)
    # The second starts from other parameters, and gets the first's.
    model = DistributedDataParallel(small_model("gait", seed=rank))
    found = gradients(model, cross_entropy(model(images[part]), labels[part]))
    torch.save(found, f"{folder}/{rank}.pt")
    sharded = nn.Sequential(InvertibleLinear(4, 4))
    fully_shard(sharded, mesh=init_device_mesh("cpu", (2,)))
    with pytest.raises(ArgumentError, match=r"^0\.weight is spread over processes, a DTensor"):
        orthogonal_(sharded)
    # What still holds the group when Python frees it waits, now and then, for gloo's threads,
    # which wait for Python.
    del model
    dist.destroy_process_group()


def test_distributed_data_parallel(tmp_path: Path) -> None:
    spawn(half, (str(tmp_path),), nprocs=2)
    model = small_model("gait")
    images, labels = small_batch()
    expected = gradients(model, cross_entropy(model(images), labels))
    for rank in range(2):
        received = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for ours, theirs in zip(received, expected, strict=True):
            assert (ours - theirs).norm() < 1e-5 * theirs.norm()
