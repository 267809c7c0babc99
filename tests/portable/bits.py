"""What a few steps of every rule leave, as checksums: ``python tests/portable/bits.py [PART …]``.

Prints a JSON object, a checksum for each case. Equal output on two machines means equal bits:
of the initial weights, of every parameter after training, of losses, accuracies and diagnostics.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

import gaitprop
from gaitprop import InvertibleNetwork, numerics
from gaitprop.rules import find_rule
from gaitprop.training import (
    EpochRecord,
    TrainingData,
    TrainingSettings,
    evaluate,
    make_optimizer,
    train,
    train_step,
)

RULES = ("bp", "gait", "itp", "tp")
OTHERS = tuple(name for name in gaitprop.RULES if name not in RULES)
# Widths, seeds, batch, steps: narrow, middling and wide networks, square and tower.
SHAPES: dict[str, tuple[tuple[int, ...], int, int, int]] = {
    "64": ((64,) * 4, 2, 30, 4),
    "64-orthogonal": ((64,) * 4, 2, 30, 4),
    "tower": ((64, 64, 48, 20, 10), 2, 30, 4),
    "256": ((256,) * 3, 1, 60, 2),
    "tower-256": ((256, 256, 200, 10), 1, 60, 2),
    "784": ((784,) * 3, 1, 60, 2),
}
SETTINGS: dict[str, dict[str, Any]] = {
    # Its first step leaves weights so far from orthogonal that they are made smaller first.
    "64-orthogonal": {"learning_rate": 0.03, "constraint": "orthogonal"},
}
# Its singular values alone would take a processor in software a quarter of an hour.
WITHOUT_DIAGNOSTICS = ("784",)
# (shape, precision, rules); a processor in software takes fifty times as long.
PARTS = {
    "shortest": [("64", "float32", ("gait",)), ("64-orthogonal", "float32", ("gait",))],
    "short": [("64", "float32", ("bp", "itp", "tp")), ("tower", "float32", ("bp", "gait"))],
    "others": [("64", "float32", OTHERS)],
    "double": [
        ("64", "float64", ("bp", "gait")),
        ("64-orthogonal", "float64", ("bp",)),
        ("256", "float64", ("gait",)),
    ],
    "middling": [("256", "float32", RULES), ("tower-256", "float32", ("gait",))],
    "wide": [("784", "float32", ("gait",))],
}


def main(parts: Iterable[str]) -> None:
    """Prints the checksums of some parts, by default all."""
    numerics.use("portable")
    if why_not := numerics.why_not_portable():
        print(why_not, file=sys.stderr)
    print(json.dumps(dict(checksums(tuple(parts) or tuple(PARTS))), indent=1))


def checksums(parts: Iterable[str]) -> Iterator[tuple[str, str]]:
    """(rule, shape and precision; checksum) of each case of some parts."""
    for part in parts:
        for shape, precision, rules in PARTS[part]:
            for rule in rules:
                yield f"{rule} {shape} {precision}", trained(rule, shape, precision)


def trained(rule: str, shape: str, precision: str) -> str:
    """Of everything that a short training and an evaluation of one network give."""
    widths, seeds, batch, steps = SHAPES[shape]
    dtype = getattr(torch, precision)
    network = InvertibleNetwork(widths, seeds=range(seeds), dtype=dtype)
    digest = hashlib.sha256()
    _add(digest, network.parameters())
    samples = batch * steps
    images = _images(samples, widths[0]).to(dtype)
    labels = torch.arange(samples) % 10
    data = TrainingData(images, labels, images[:40], labels[:40], n_classes=10)
    settings = TrainingSettings(rule=rule, learning_rate=1e-3, epochs=1, batch_size=batch)
    settings = replace(settings, **SETTINGS.get(shape, {}))
    optimizer = make_optimizer(network, settings)
    if shape in WITHOUT_DIAGNOSTICS:
        find = find_rule(rule)
        for step in range(steps):
            part = slice(batch * step, batch * (step + 1))
            read = (images[part].expand(seeds, -1, -1), labels[part].expand(seeds, -1))
            _add(digest, train_step(network, optimizer, *read, 10, find, settings))
    else:
        for record in train(network, optimizer, data, settings):
            _add(digest, _figures(record))
    _add(digest, network.parameters())
    tested = evaluate(network, images, labels, 10)
    _add(digest, [tested.loss, tested.accuracy])
    return digest.hexdigest()[:16]


def _figures(record: EpochRecord) -> list[Tensor]:
    assert record.diagnostics is not None
    known = [each for each in (record.validation, record.training) if each is not None]
    looked = [each for each in record.diagnostics if each is not None]
    return [*(part for each in known for part in (each.loss, each.accuracy)), *looked]


def _images(samples: int, inputs: int) -> Tensor:
    steps = torch.arange(samples * inputs, dtype=torch.int64)
    return ((steps * 7_919 + steps * steps % 10_007) % 256 / 255).view(samples, inputs)


def _add(digest: hashlib._Hash, tensors: Iterable[Tensor]) -> None:
    for tensor in tensors:
        digest.update(bytes(tensor.contiguous().flatten().view(torch.uint8).tolist()))


if __name__ == "__main__":
    if "GAIT_TEST_THREADS" in os.environ:
        torch.set_num_threads(int(os.environ["GAIT_TEST_THREADS"]))
    main(sys.argv[1:])
