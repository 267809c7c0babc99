"""How a network is trained: every choice that is not the network or the data."""

from __future__ import annotations

from dataclasses import dataclass

from gaitprop.arguments import check_number, whole_number
from gaitprop.constraints import check_constraint
from gaitprop.errors import ArgumentError
from gaitprop.gradients import check_rule_settings
from gaitprop.losses import Loss, find_loss
from gaitprop.regularizer import check_penalty
from gaitprop.rules import Rule, find_rule

_COUNTS = (
    "epochs",
    "batch_size",
    "probe_size",
    "diagnostics_interval",
    "orthogonality_interval",
    "schedule_interval",
    "patience",
)
_NUMBERS = (
    "learning_rate",
    "feedback_learning_rate",
    "orthogonality",
    "gamma",
    "beta1",
    "beta2",
    "epsilon",
    "output_gain",
    "momentum",
    "weight_decay",
    "schedule_factor",
)
_OR_NONE = ("patience", "feedback_learning_rate")
OPTIMIZERS = ("adam", "adamw", "sgd")
SCHEDULES = ("constant", "cosine", "step")


@dataclass(frozen=True)
class TrainingSettings:
    """How a network is trained.

    Attributes:
        rule: a name in ``gaitprop.RULES``, or of an installed package's rule; or a function.
        learning_rate: the optimizer's, above 0.
        orthogonality: λ of the orthogonality penalty, at least 0; of square layers.
        orthogonality_interval: the penalty is applied in every so-manieth step of the whole
            training, from the first on, with as many times the weight; 1 is in every step.
        gamma: γ of GAIT-prop and ITP, 0 to 1.
        epochs: passes over the training set.
        batch_size: samples of one seed in a step; a last, smaller batch of an epoch is left out
            (the next epoch's shuffling brings its samples back).
        beta1: Adam's decay of the gradient's mean, in [0, 1).
        beta2: Adam's decay of the gradient's square; the published code's 0.99 is the default.
        epsilon: Adam's ε, at least 0.
        probe_size: alignment with BP is measured on the first so many training samples.
        diagnostics_interval: the diagnostics are taken every so many epochs, and before the first
            and after the last.
        loss: in ``gaitprop.losses.LOSSES``.
        output_gain: what outputs are multiplied by in the loss, above 0; see ``find_loss``.
        penalty: in ``gaitprop.regularizer.PENALTIES``; what ``orthogonality`` weighs.
        constraint: in ``gaitprop.constraints.CONSTRAINTS``; ``orthogonal`` makes the square layers'
            weights orthogonal to rounding after every step. They must be at the start, and have no
            penalty, which would be 0.
        optimizer: in ``gaitprop.settings.OPTIMIZERS``.
        momentum: SGD's, in [0, 1).
        weight_decay: of the optimizer, at least 0: added to the gradient (Adam, SGD) or taken from
            the parameters (AdamW).
        schedule: of the learning rate over the epochs, in ``SCHEDULES``; ``cosine``: half a period,
            from all of it in the first epoch to 0 after the last; ``step``: times
            ``schedule_factor`` every ``schedule_interval`` epochs.
        schedule_interval: epochs, of ``step``.
        schedule_factor: of ``step``, above 0, at most 1.
        patience: so many epochs without a better validation accuracy end a seed's training, and its
            best epoch's weights are kept; None: all epochs are trained, the last one's are kept.
        feedback_learning_rate: of what the rule keeps and learns; 0: it stays as it is; None: the
            same as of the weights.
    """

    rule: str | Rule = "gait"
    learning_rate: float = 1e-4
    orthogonality: float = 0.1
    orthogonality_interval: int = 1
    gamma: float = 1e-3
    epochs: int = 1
    batch_size: int = 60
    beta1: float = 0.9
    beta2: float = 0.99
    epsilon: float = 1e-8
    probe_size: int = 128
    diagnostics_interval: int = 1
    loss: str | Loss = "squared_error"
    output_gain: float = 1.0
    penalty: str = "off_diagonal"
    constraint: str = "none"
    optimizer: str = "adam"
    momentum: float = 0.0
    weight_decay: float = 0.0
    schedule: str = "constant"
    schedule_interval: int = 10
    schedule_factor: float = 0.1
    patience: int | None = None
    feedback_learning_rate: float | None = None


def check_settings(settings: TrainingSettings) -> None:
    """Raises ArgumentError unless every choice is allowed."""
    _check_kinds(settings)
    find_rule(settings.rule)
    check_rule_settings(settings.gamma, settings.orthogonality)
    find_loss(settings.loss, settings.output_gain)
    check_penalty(settings.penalty)
    check_constraint(settings.constraint)
    if settings.optimizer not in OPTIMIZERS:
        raise ArgumentError(
            f"optimizer is {settings.optimizer!r}; allowed: {', '.join(OPTIMIZERS)}"
        )
    if settings.schedule not in SCHEDULES:
        raise ArgumentError(f"schedule is {settings.schedule!r}; allowed: {', '.join(SCHEDULES)}")
    if not 0.0 < settings.schedule_factor <= 1.0:
        raise ArgumentError(
            f"schedule_factor is {settings.schedule_factor!r}; allowed: above 0, at most 1"
        )
    rate, of_feedback = settings.learning_rate, settings.feedback_learning_rate
    if not 0.0 < rate < float("inf"):
        raise ArgumentError(f"learning_rate is {rate!r}; allowed: above 0, finite")
    if of_feedback is not None and not 0.0 <= of_feedback < float("inf"):
        raise ArgumentError(
            f"feedback_learning_rate is {of_feedback!r}; allowed: 0 or more, finite"
        )
    for name in ("beta1", "beta2", "momentum"):
        if not 0.0 <= getattr(settings, name) < 1.0:
            raise ArgumentError(f"{name} is {getattr(settings, name)!r}; allowed: 0 to below 1")
    for name in ("epsilon", "weight_decay"):
        if not 0.0 <= getattr(settings, name) < float("inf"):
            raise ArgumentError(
                f"{name} is {getattr(settings, name)!r}; allowed: 0 or more, finite"
            )
    for name in _COUNTS:
        count = getattr(settings, name)
        if count is not None and count < 1:
            raise ArgumentError(f"{name} is {count}; allowed: at least 1")


def _check_kinds(settings: TrainingSettings) -> None:
    """Raises ArgumentError unless numbers are numbers: what is none could not be compared."""
    for names, check in ((_COUNTS, whole_number), (_NUMBERS, check_number)):
        for name in names:
            value = getattr(settings, name)
            if value is not None or name not in _OR_NONE:
                check(name, value)
