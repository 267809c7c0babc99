"""What params.yaml may say: every field typed, bounded and described; unknown keys are refused."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    SerializeAsAny,
    create_model,
    field_validator,
    model_validator,
)

from gaitprop import layers
from gaitprop.errors import ArgumentError
from gaitprop.rules import RULES, find_rule, hyperparameters_of, rule_names
from gaitprop.rules.feedback import FeedbackRule
from gaitprop.rules.hyperparameters import Hyperparameter
from pipeline.data.image_sets import ImageSet, image_set, set_names
from pipeline.params.section import Name, Section
from pipeline.params.sweep_section import Sweep, repeats
from pipeline.project.errors import GaitError
from pipeline.project.nearest_name import did_you_mean
from pipeline.project.paths import ModelKey

REFERENCE = "reference"
# Folders of results/ that are no profile's.
NO_PROFILES = ("performance", "published", "verify")
# Of a hyperparameter that a rule declares.
_KEY = re.compile(r"[a-z][a-z0-9_]{0,39}")
WITHOUT_GAMMA = (
    "bp",
    "tp",
    "difference_target_propagation",
    "direct_feedback_alignment",
    "feedback_alignment",
    "kolen_pollack",
    "sign_symmetry",
)


class Run(Section):
    """Which models are trained: every combination of these, and BP's reference for each pair."""

    datasets: list[str] = Field(
        min_length=1, description="image sets that models are trained on, by name"
    )
    architectures: list[Name] = Field(
        min_length=1, description="networks that are trained; keys of `architectures`"
    )
    rules: list[str] = Field(
        min_length=1, description="learning rules that are trained; keys of `rules`"
    )

    @model_validator(mode="after")
    def _known(self) -> Run:
        _refuse_unknown("datasets", self.datasets, set_names())
        for key in ("datasets", "architectures", "rules"):
            if repeats(names := getattr(self, key)):
                raise ValueError(f"{key} are {names}; allowed: each name once")
        return self


class Archives(Section):
    """Where image archives are kept and fetched from; changes no result, so no stage depends on it.

    The environment variables GAIT_DATA_ROOT and GAIT_DATA_MIRROR override it.
    """

    root: str = Field(
        default="data/archives", min_length=1, description="folder as torchvision lays it out"
    )
    mirror: str | None = Field(
        default=None,
        pattern=r"^https?://",
        description="address to fetch archives from in place of torchvision's own",
    )


class Data(Section):
    """How the training images are split."""

    validation_fraction: float = Field(
        gt=0,
        lt=1,
        description="share of the training images that is not trained on: it is watched every"
        " epoch, and chooses the best of a sweep",
    )
    split_seed: int = Field(
        ge=0, description="seed of that split, the same for every model and every seed"
    )
    train_size: int | None = Field(
        default=None,
        ge=1,
        description="so many images to train on, the first ones of that split; null: all of them."
        " Validation and test sets stay the same",
    )


class Convolution(Section):
    """One layer of patches: it gives channels · kernel_size² channels at every position."""

    channels: int = Field(ge=1, description="channels read of the layer below, the first ones")
    kernel_size: int = Field(ge=1, description="k, of patches of k x k")
    stride: int = Field(default=1, ge=1, description="step from one position to the next")
    padding: int = Field(default=0, ge=0, description="zeros on each side")


class Architecture(Section):
    """A network's shape, by `hidden_layers` (square) or by `widths` (tower).

    Below them there may be a `projection` or `convolutions`. A first layer whose width is not the
    input's is rectangular, and reads all inputs.
    """

    hidden_layers: int | None = Field(
        default=None, ge=0, le=1000, description="square: so many layers below the output layer"
    )
    projection: int | None = Field(
        default=None,
        ge=1,
        le=100_000,
        description="square, of this width: a rectangular first layer reads all inputs, and"
        " `hidden_layers` and the output layer follow",
    )
    widths: list[Annotated[int, Field(ge=1)]] | None = Field(
        default=None,
        min_length=1,
        description="tower: widths above the input or the convolutions; only the first may grow",
    )
    convolutions: list[Convolution] | None = Field(
        default=None, min_length=1, description="below `widths`, for images whose shape is known"
    )
    auxiliary_inputs: bool = Field(
        default=False,
        description="a tower's first layer is square, and leaves the other inputs unread",
    )
    activation: Literal["leaky_relu", "linear"] = Field(
        default="leaky_relu",
        description="f of every layer, the output's too; a rule inverts it at whatever value a"
        " target may have, so that ReLU (flat below 0), tanh and sigmoid (nothing beyond their"
        " ends) cannot be one",
    )
    negative_slope: float = Field(
        default=0.1,
        gt=0,
        le=1,
        description="the leaky ReLU's slope below zero; 1 is the linear network",
    )
    initialisation: Literal["orthogonal", "gaussian"] = Field(
        default="orthogonal", description="of the weights; biases start at 0"
    )

    @model_validator(mode="after")
    def _one_shape(self) -> Architecture:
        if (self.hidden_layers is None) == (self.widths is None):
            raise ValueError("give either hidden_layers (square) or widths (tower), and not both")
        for key, beside, others in (
            ("projection", "hidden_layers", ("widths",)),
            ("convolutions", "widths", ("hidden_layers",)),
            ("auxiliary_inputs", "widths", ("hidden_layers", "convolutions")),
        ):
            wrong = [other for other in others if getattr(self, other) is not None]
            if getattr(self, key) and wrong:
                raise ValueError(f"{key} is given with {wrong[0]}; allowed: {key} with {beside}")
        for below, above in itertools.pairwise(self.widths or []):
            if above > below:
                raise ValueError(
                    f"widths are {self.widths}: {above} follows {below}; allowed: widths that"
                    " never grow, since a layer's inverse needs all of its inputs back"
                )
        return self

    def on(self, images: ImageSet) -> layers.Architecture:
        """The layers on these images; ArgumentError if they do not fit."""
        if self.widths is None:
            assert self.hidden_layers is not None
            widths = [self.projection or images.inputs] * (self.hidden_layers + 2)
            if self.projection is not None:
                return layers.Architecture.of_widths([images.inputs, *widths])
            return layers.Architecture.of_widths(widths)
        if self.convolutions is None:
            widths = [images.inputs, *self.widths]
            return layers.Architecture.of_widths(widths, self.auxiliary_inputs)
        if images.shape is None:
            raise ArgumentError(
                f"convolutions on {images.name}, whose images have no known shape; allowed: image"
                " sets that say theirs (ImageSet.shape)"
            )
        kernels = [layers.Convolution(**each.model_dump()) for each in self.convolutions]
        dense = [layers.Dense(width) for width in self.widths]
        return layers.Architecture(images.shape, (*kernels, *dense))


class RuleSettings(Section):
    """How one rule's models are trained; a rule may have keys of its own beside these."""

    rule: str | None = Field(
        default=None,
        description="the learning rule of an entry under a name of one's own, so that one rule can"
        " be trained with several settings; null: the entry's name is the rule's",
    )
    learning_rate: float = Field(gt=0, le=10, description="the optimizer's step size")
    orthogonality: float = Field(
        ge=0,
        le=1e6,
        description="λ, the weight of the penalty on weights that are not orthogonal; 0: none",
    )
    penalty: Literal["off_diagonal", "full"] = Field(
        default="off_diagonal",
        description="what λ weighs; off_diagonal: columns that are orthogonal, of any length; full:"
        " ‖WᵀW − I‖², lengths too",
    )
    constraint: Literal["none", "orthogonal"] = Field(
        default="none",
        description="orthogonal: weights that are made orthogonal after every step; λ is not used",
    )
    gamma: float = Field(
        default=1e-3,
        ge=0,
        le=1,
        description="γ, the size of a target's perturbation; 0: the limit; rules without"
        " small targets have none",
    )
    feedback_learning_rate: float | None = Field(
        default=None,
        ge=0,
        le=10,
        description="of feedback that a rule learns; 0: none is learned; null: the learning_rate",
    )
    weight_decay: float | None = Field(
        default=None,
        ge=0,
        le=1e6,
        description="of this rule's models, also of feedback that it learns; null: training's",
    )
    output_gain: float | None = Field(
        default=None,
        gt=0,
        le=1000,
        description="what the outputs are multiplied by in the loss, so that layers that keep"
        " lengths can have large logits; null: 1",
    )


_COMMON = RuleSettings.model_fields.keys()


def settings_of_rule(rule: str) -> type[RuleSettings]:
    """The settings that a rule has: those of every rule, and the hyperparameters that it declares.

    Raises ArgumentError if there is no such rule, its package cannot be used, or it declares what
    is no name for a setting.
    """
    own = hyperparameters_of(rule)
    for name in own:
        if not _KEY.fullmatch(name) or hasattr(RuleSettings, name) or name in _COMMON:
            raise ArgumentError(
                f"the rule {rule!r} declares a hyperparameter {name!r}; allowed: small letters,"
                " digits and _, and no key that every rule has"
            )
    return _with(rule, tuple(own.items())) if own else RuleSettings


@cache
def _with(rule: str, own: tuple[tuple[str, Hyperparameter], ...]) -> type[RuleSettings]:
    fields: dict[str, Any] = {}
    for name, each in own:
        bounds: dict[str, Any] = each.bounds()
        facts = Field(default=each.default, description=each.description, **bounds)
        fields[name] = (type(each.default), facts)
    return create_model(f"Settings of {rule}", __base__=RuleSettings, **fields)


class Adam(Section):
    """Constants of Adam and AdamW; the published code's second decay is 0.99."""

    beta1: float = Field(default=0.9, ge=0, lt=1, description="decay of the gradient's mean")
    beta2: float = Field(default=0.99, ge=0, lt=1, description="decay of the gradient's square")
    epsilon: float = Field(default=1e-8, gt=0, le=1, description="added to the denominator")


class Schedule(Section):
    """The learning rate over the epochs, of every rule alike."""

    kind: Literal["constant", "cosine", "step"] = Field(
        default="constant",
        description="cosine: half a period, from the rule's learning rate in the first epoch to 0"
        " after the last; step: times `factor` every `interval` epochs",
    )
    interval: int = Field(
        default=10, ge=1, le=100_000, description="of step: epochs between two steps"
    )
    factor: float = Field(default=0.1, gt=0, le=1, description="of step: what it multiplies by")


class Training(Section):
    """What all models share."""

    epochs: int = Field(ge=1, le=100_000, description="passes over the training images")
    batch_size: int = Field(
        ge=1,
        description="images of one seed in a step; a last, smaller batch of an epoch is left out",
    )
    seeds: list[Annotated[int, Field(ge=0, lt=2**31)]] = Field(
        min_length=1, description="one network each, with its own initialisation and shuffling"
    )
    optimizer: Literal["adam", "adamw", "sgd"] = Field(
        default="adam", description="of all models, on the gradients of each rule"
    )
    adam: Adam = Field(default_factory=Adam, description="constants of adam and adamw")
    schedule: Schedule = Field(
        default_factory=Schedule, description="the learning rate over the epochs"
    )
    momentum: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="of sgd: the share of its last step that is taken again",
    )
    weight_decay: float = Field(
        default=0.0,
        ge=0,
        le=1e6,
        description="added to the gradient (adam, sgd) or taken from the parameters (adamw)",
    )
    loss: Literal["squared_error", "cross_entropy"] = Field(
        default="squared_error", description="on the class outputs, in training and in the tables"
    )
    patience: int | None = Field(
        default=None,
        ge=1,
        le=100_000,
        description="early stopping: so many epochs without a better validation accuracy end a"
        " seed's training, and its best epoch's weights are kept (curves go on until every seed has"
        " ended); null: every epoch is trained, and the last one's are kept",
    )
    orthogonality_interval: int = Field(
        default=1,
        ge=1,
        le=1000,
        description="steps from one application of the regularizer, with so many times λ, to the"
        " next; above 1 is faster, and not the published rule",
    )
    probe_size: int = Field(
        default=128,
        ge=1,
        description="training images on which alignment with BP is measured; trains nothing",
    )
    diagnostics_interval: int = Field(
        default=1,
        ge=1,
        description="epochs between two looks at alignment and layers; trains nothing",
    )
    precision: Literal["float32", "float64"] = Field(
        default="float32", description="of weights and of all that is computed"
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto",
        description="where it is computed; auto: a GPU where there is one, with other rounding",
    )
    numerics: Literal["portable", "fast"] = Field(
        default="portable",
        description="portable: the same bits on every x86-64 processor and any number of threads;"
        " fast: PyTorch's own, the same bits on one kind of processor alone",
    )
    threads: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="CPU threads, which change no bit in portable numerics; null: PyTorch's choice",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Training:
        if repeats(self.seeds):
            raise ValueError(f"seeds are {self.seeds}; allowed: each seed once")
        if self.momentum and self.optimizer != "sgd":
            raise ValueError(
                f"momentum is {self.momentum} with optimizer {self.optimizer}; allowed: 0, or"
                " optimizer sgd"
            )
        return self


def _entry(named: tuple[str, Any]) -> Any:
    """An entry of `rules` by what its rule declares; as it is where that cannot be known."""
    name, entry = named
    if not isinstance(entry, dict):
        return entry
    rule = entry.get("rule") or name
    if not isinstance(rule, str):
        return entry
    if rule not in rule_names():
        # Its own keys would be called unknown, and hide that the rule is.
        if not entry.keys() <= _COMMON:
            raise ArgumentError(_no_rule(rule))
        return entry
    try:
        kind = settings_of_rule(rule)
    except ArgumentError:
        # Whoever trains with it will be told; others need it only for keys of its own.
        if entry.keys() <= _COMMON:
            return entry
        raise
    return kind.model_validate(entry)


class Params(Section):
    """The whole of params.yaml."""

    profile: Name = Field(description="results go to `results/<profile>`")
    run: Run = Field(description="which models are trained")
    archives: Archives = Field(
        default_factory=Archives, description="where images come from; changes no result"
    )
    data: Data = Field(description="how the training images are split")
    architectures: dict[Name, Architecture] = Field(
        min_length=1, description="networks, by names of your own"
    )
    reference: RuleSettings = Field(description="BP that the others are compared to")
    rules: dict[Name, Annotated[SerializeAsAny[RuleSettings], BeforeValidator(_entry)]] = Field(
        min_length=1, description="settings of each rule, by its name or by one of your own"
    )
    training: Training = Field(description="what all models share")
    sweep: Sweep = Field(description="what `gait sweep` tries; changes nothing of `gait repro`")

    @model_validator(mode="before")
    @classmethod
    def _sweep_what_is_trained(cls, document: Any) -> Any:
        """The sweep takes from `run` what it does not say itself."""
        if not isinstance(document, dict) or not isinstance(document.get("sweep", {}), dict):
            return document
        run = document.get("run")
        # What `run` lacks is reported there, once.
        chosen = {
            "dataset": _names(run, "datasets")[0],
            "architecture": _names(run, "architectures")[0],
            "rules": _names(run, "rules"),
        }
        return {**document, "sweep": {**chosen, **document.get("sweep", {})}}

    @field_validator("rules", mode="before")
    @classmethod
    def _with_their_names(cls, rules: Any) -> Any:
        """For ``_entry``, since what an entry may say depends on its name."""
        return {name: (name, rules[name]) for name in rules} if isinstance(rules, dict) else rules

    @field_validator("profile")
    @classmethod
    def _own_folder(cls, profile: str) -> str:
        if profile in NO_PROFILES:
            raise ValueError(
                f"received {profile}; allowed: another name, since results/{profile} is taken"
            )
        return profile

    @model_validator(mode="after")
    def _consistent(self) -> Params:
        self._known_rules()
        if self.data.train_size is not None and self.data.train_size < self.training.batch_size:
            raise ValueError(
                f"data.train_size: received {self.data.train_size}; allowed: at least"
                f" training.batch_size, {self.training.batch_size}"
            )
        _refuse_unknown("run.architectures", self.run.architectures, self.architectures)
        _refuse_without_section("run.rules", self.run.rules, self.rules)
        _refuse_unknown("sweep.dataset", [self.sweep.dataset], set_names())
        _refuse_unknown("sweep.architecture", [self.sweep.architecture], self.architectures)
        _refuse_without_section("sweep.rules", self.sweep.rules, self.rules)
        for name in dict.fromkeys((*self.run.rules, *self.sweep.rules)):
            find_rule(self.rule_of(name))
        pairs = set(itertools.product(self.run.datasets, self.run.architectures))
        for dataset, name in sorted(pairs | {(self.sweep.dataset, self.sweep.architecture)}):
            try:
                images = image_set(dataset)
            except GaitError as error:
                raise ValueError(str(error)) from error
            try:
                widths = self.architectures[name].on(images).widths
            except ArgumentError as error:
                raise ValueError(f"architectures.{name} on {dataset}: {error}") from error
            if widths[-1] < images.classes:
                raise ValueError(
                    f"architectures.{name} has {widths[-1]} outputs, but {dataset} has"
                    f" {images.classes} classes; allowed: an output for each class, or more"
                )
        return self

    def _known_rules(self) -> None:
        for name, settings in self.rules.items():
            if settings.rule is None and name not in rule_names():
                raise ValueError(f"rules.{name}: {_no_rule(name)}")
        if self.reference.rule not in (None, "bp"):
            raise ValueError(
                f"reference.rule: is {self.reference.rule}; allowed: bp, or none given"
            )
        for name, settings in self.rules.items():
            if settings.rule is None or settings.rule == name:
                continue
            _refuse_unknown(f"rules.{name}.rule", [settings.rule], rule_names())
            if name in (REFERENCE, *rule_names()):
                raise ValueError(
                    f"rules.{name}.rule: is {settings.rule}; allowed: an entry under another name,"
                    f" since {name} is a model itself"
                )

    @model_validator(mode="after")
    def _settings_of_rules_that_have_them(self) -> Params:
        for name in (REFERENCE, *self.rules):
            settings, rule_name = self.settings_of(name), self.rule_of(name)
            used = rule_name in RULES or name in {*self.run.rules, *self.sweep.rules}
            rule = find_rule(rule_name) if used else None
            learns = isinstance(rule, FeedbackRule) and rule.learns is not None
            if settings.feedback_learning_rate is not None and rule is not None and not learns:
                raise ValueError(
                    f"feedback_learning_rate of {name} is {settings.feedback_learning_rate};"
                    " allowed: null, or a rule that learns its feedback"
                )
        return self

    @model_validator(mode="after")
    def _orthogonal_from_the_start(self) -> Params:
        constrained = [
            model for model in self.models() if self.settings_of(model).constraint == "orthogonal"
        ]
        for model, name in itertools.product(constrained, self.run.architectures):
            initialisation = self.architectures[name].initialisation
            if initialisation != "orthogonal":
                raise ValueError(
                    f"constraint of {model} is orthogonal, but initialisation of"
                    f" architectures.{name} is {initialisation}; allowed: orthogonal"
                )
        return self

    def models(self) -> list[str]:
        """Names of the models of one data set and architecture: the reference and each rule."""
        return [REFERENCE, *self.run.rules]

    def model_keys(self) -> list[ModelKey]:
        """Every model of the profile, in the order of params.yaml."""
        every = itertools.product(self.run.datasets, self.run.architectures, self.models())
        return [ModelKey(self.profile, *each) for each in every]

    def rule_of(self, model: str) -> str:
        """The learning rule that trains a model."""
        entry = self.rules.get(model)
        own = model if entry is None or entry.rule is None else entry.rule
        return "bp" if model == REFERENCE else own

    def gamma_of(self, model: str) -> float | None:
        """A model's γ; None where its rule has none, or is a package's and none is given for it."""
        rule, settings = self.rule_of(model), self.settings_of(model)
        given = rule in RULES or "gamma" in settings.model_fields_set
        return settings.gamma if given and rule not in WITHOUT_GAMMA else None

    def settings_of(self, model: str) -> RuleSettings:
        """How a model is trained."""
        return self.reference if model == REFERENCE else self.rules[model]


def _names(section: Any, key: str) -> list[str]:
    names = section.get(key) if isinstance(section, dict) else None
    good = isinstance(names, list) and names and all(isinstance(name, str) for name in names)
    return names if good and names else ["missing"]


def _no_rule(name: str) -> str:
    known = rule_names()
    return (
        f"unknown {name!r}{did_you_mean(name, known)}; allowed: {', '.join(known)}, one of a"
        " package once it is installed, or a name of your own with one of these as its `rule`"
    )


def _refuse_without_section(what: str, names: Sequence[str], rules: Mapping[str, Any]) -> None:
    lacking = [name for name in names if name not in rules and name in rule_names()]
    own = "".join(f", or a section rules.{name}" for name in lacking)
    _refuse_unknown(what, names, rules, own)


def _refuse_unknown(what: str, names: Any, allowed: Any, more: str = "") -> None:
    unknown = [name for name in names if name not in allowed]
    if unknown:
        named = ", ".join(f"{name!r}{did_you_mean(name, allowed)}" for name in unknown)
        raise ValueError(f"{what}: unknown {named}; allowed: {', '.join(allowed)}{more}")
