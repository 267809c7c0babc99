"""Weight mirrors: feedback weights that become the weights' transposes by listening to noise.

Akrout, Wilson, Humphreys, Lillicrap and Tweed, NeurIPS 2019, arXiv 1904.05391.
"""

from gaitprop.linalg import matmul
from gaitprop.rules.feedback import FeedbackRule, gaussian


def passes(layer, error, scale):
    """e_{l-1} = B_lᵀ (D_l∘e_l)."""
    return matmul(layer.local_error, layer.feedback["mirror"])


def draws(site, source):
    """Of one seed: B_l, a Gaussian matrix of the weight's shape."""
    return {"mirror": gaussian(site.weight.shape, source)}


def learns(lesson):
    """White noise ξ makes W_l ξ of itself, so ⟨(W_l ξ) ξᵀ⟩ is W_l in the mean; B_l goes there."""
    noise = lesson.normal()
    response = matmul(noise, lesson.layer.weight.mT)
    seen = matmul(response.mT, noise) / noise.shape[-2]
    return {"mirror": lesson.layer.feedback["mirror"] - seen}


weight_mirror = FeedbackRule("weight_mirror", passes, draws, learns)
