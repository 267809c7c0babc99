"""Weight mirrors: feedback weights that become the weights' transposes by listening to noise.

Akrout, Wilson, Humphreys, Lillicrap and Tweed, NeurIPS 2019, arXiv 1904.05391.
"""

from gaitprop.linalg import matmul
from gaitprop.rules.feedback import FeedbackRule, gaussian
from gaitprop.rules.hyperparameters import Hyperparameter, RuleFamily


def passes(layer, error, scale):
    """e_{l-1} = B_lᵀ (D_l∘e_l)."""
    return matmul(layer.local_error, layer.feedback["mirror"])


def draws(site, source):
    """Of one seed: B_l, a Gaussian matrix of the weight's shape."""
    return {"mirror": gaussian(site.weight.shape, source)}


def with_decay(decay):
    """The rule whose mirrors shrink by that much of their length while they learn."""

    def learns(lesson):
        """White noise ξ makes W_l ξ of itself: ⟨(W_l ξ) ξᵀ⟩ is W_l in the mean, B_l's goal."""
        noise = lesson.normal()
        response = matmul(noise, lesson.layer.weight.mT)
        seen = matmul(response.mT, noise) / noise.shape[-2]
        return {"mirror": decay * lesson.layer.feedback["mirror"] - seen}

    return FeedbackRule("weight_mirror", passes, draws, learns)


weight_mirror = RuleFamily(
    with_decay,
    {"decay": Hyperparameter(1.0, "of the mirrors, which go to W / decay", gt=0.0, le=10.0)},
)
