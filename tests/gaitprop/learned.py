"""A rule that keeps two tensors and learns both, and trainings by it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from gaitprop import InvertibleNetwork
from gaitprop.rules.feedback import FeedbackRule, Lesson, Site
from gaitprop.rules.layer import LayerView
from gaitprop.training import TrainingData, TrainingSettings, make_optimizer, train


def passes(layer: LayerView, error: Tensor, scale: float) -> Tensor:
    return layer.local_error @ layer.feedback["back"] + layer.feedback["shift"].unsqueeze(-2)


def draws(site: Site, source: torch.Generator) -> dict[str, Tensor]:
    n = len(site.weight)
    drawn = torch.randn(n, n, dtype=torch.float64, generator=source) / n**0.5
    return {"back": drawn, "shift": 0.1 * site.weight[0]}


def learns(lesson: Lesson) -> Mapping[str, Tensor]:
    """Towards the weights, with noise: in the weights' order and against it."""
    noise = lesson.normal()
    towards = lesson.layer.feedback["back"] - lesson.layer.weight + 0.01 * noise.mT @ noise
    return {"back": towards.mT.contiguous().mT, "shift": lesson.inputs.mean(-2)}


LEARNED = FeedbackRule("learned", passes, draws, learns)
FIXED = replace(LEARNED, name="fixed", learns=None)
# A number for each layer, of shape ().
GAIN = FeedbackRule(
    "gain",
    lambda layer, _, __: layer.feedback["gain"][..., None, None] * layer.local_error,
    lambda site, _: {"gain": site.weight.norm()},
    lambda lesson: {"gain": lesson.inputs.mean((-2, -1))},
)
WIDTHS = (8, 16, 16, 16)


def data() -> TrainingData:
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.rand(96, 8, generator=generator), torch.arange(96) % 3
    return TrainingData(images[:64], labels[:64], images[64:], labels[64:], 3)


def settings(**changed: object) -> TrainingSettings:
    chosen = TrainingSettings(LEARNED, 1e-2, 0.0, epochs=3, batch_size=16)
    return replace(chosen, feedback_learning_rate=1e-3, **changed)  # type: ignore[arg-type]


def same(ours: InvertibleNetwork, theirs: InvertibleNetwork) -> bool:
    tensors = zip(
        [*ours.parameters(), *ours.kept()], [*theirs.parameters(), *theirs.kept()], strict=True
    )
    return all(torch.equal(one, other) for one, other in tensors)


def trained(seeds: tuple[int, ...], **changed: object) -> InvertibleNetwork:
    network = InvertibleNetwork(WIDTHS, seeds=seeds)
    chosen = settings(**changed)
    list(train(network, make_optimizer(network, chosen), data(), chosen))
    return network
