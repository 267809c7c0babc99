"""Feedback alignment: fixed random matrices in the place of the weights' transposes.

Lillicrap, Cownden, Tweed and Akerman, Nature Communications 7, 13276 (2016).
"""

from functools import cache

import torch

from gaitprop.seeding import generator


@cache
def matrices(seeds, number, n, dtype, device):
    """A Gaussian matrix a seed, (S, n, n), the same whenever layer `number` asks."""
    sources = [generator(seed, "feedback", number) for seed in seeds]
    drawn = [torch.randn(n, n, dtype=torch.float64, generator=source) for source in sources]
    return (torch.stack(drawn) / n**0.5).to(device, dtype)


def feedback(layer):
    """What stands in for the layer's weights on the way down."""
    weight = layer.weight
    n = weight.shape[-1]
    drawn = matrices(layer.seeds, layer.number, n, weight.dtype, weight.device)
    return drawn.view_as(weight)


def feedback_alignment(layer, error, scale):
    """e_{l-1} = B_lᵀ (D_l∘e_l)."""
    return layer.local_error @ feedback(layer)
