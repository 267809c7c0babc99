"""The section `sweep` of params.yaml: which configurations are tried, how, and on what."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from pipeline.params.section import Name, Section


class Distribution(Section):
    """Values to draw from, both ends included: exactly one kind of three."""

    uniform: list[float] | None = Field(
        default=None, min_length=2, max_length=2, description="between the two, all as likely"
    )
    loguniform: list[float] | None = Field(
        default=None,
        min_length=2,
        max_length=2,
        description="between the two, all orders of magnitude as likely",
    )
    integer: list[int] | None = Field(
        default=None, min_length=2, max_length=2, description="whole numbers between the two"
    )

    @model_validator(mode="after")
    def _one_interval(self) -> Distribution:
        given = [kind for kind in type(self).model_fields if getattr(self, kind) is not None]
        if len(given) != 1:
            raise ValueError(
                f"received {', '.join(given) or 'nothing'}; allowed: one of uniform, loguniform"
                " and integer, each as [lowest, highest]"
            )
        low, high = self.ends
        if self.integer is not None and max(-low, high) >= 2**53:  # Beyond it floats skip numbers.
            raise ValueError(f"integer is [{low}, {high}]; allowed: ends below 2**53 in size")
        if not low < high:
            raise ValueError(f"{given[0]} is [{low}, {high}]; allowed: [lowest, highest]")
        if self.loguniform is not None and low <= 0:
            raise ValueError(f"loguniform is [{low}, {high}]; allowed: ends above 0")
        if self.integer is None and high - low <= 1e-6 * max(-low, high):
            # So few floats lie between that a search may look for one more trial without end.
            allowed = "ends that differ by more than a millionth of their size"
            raise ValueError(f"{given[0]} is [{low}, {high}]; allowed: {allowed}")
        return self

    @property
    def ends(self) -> tuple[float, float]:
        """The lowest and the highest value."""
        low, high = self.uniform or self.loguniform or self.integer or (0.0, 0.0)
        return low, high


def _list_or_distribution(value: Any) -> str | None:
    if isinstance(value, list):
        return "list"
    return "distribution" if isinstance(value, dict | Distribution) else None


Dimension = Annotated[
    Annotated[list[Any], Field(min_length=1), Tag("list")]
    | Annotated[Distribution, Tag("distribution")],
    Discriminator(
        _list_or_distribution,
        custom_error_type="dimension",
        custom_error_message="Allowed: a list of values, or a mapping such as {uniform: [0, 1]}",
    ),
]


class Resources(Section):
    """What one trial occupies."""

    cpus: int = Field(default=1, ge=1, le=1024, description="cores, and PyTorch's threads")
    gpus: float = Field(default=0.0, ge=0, le=64, description="0.5: two trials share a GPU")

    @model_validator(mode="after")
    def _share_or_whole(self) -> Resources:
        if self.gpus > 1 and not self.gpus.is_integer():
            raise ValueError(f"gpus is {self.gpus}; allowed: a share up to 1, or a whole number")
        return self


class Sweep(Section):
    """What `gait sweep` tries; of `run`'s data sets and architectures the first, unless said."""

    name: Name = Field(
        default="learning_rate_and_orthogonality",
        description="results go to `results/<profile>/sweep/<name>`",
    )
    dataset: str = Field(description="an image set, by name")
    architecture: Name = Field(description="one of `architectures`")
    rules: list[str] = Field(min_length=1, description="each is swept on its own")
    search: Literal["grid", "random", "optuna"] = Field(
        default="grid",
        description="grid: every combination; random: draws; optuna: by what came before",
    )
    space: dict[str, Dimension] = Field(
        default={
            "rule.learning_rate": [1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2],
            "rule.orthogonality": [0.0, 1e-2, 0.1, 1.0, 10.0, 100.0, 1000.0],
        },
        min_length=1,
        description="settings by their dotted names, each with a list of values or a distribution",
    )
    fixed: dict[str, Any] = Field(
        default={}, description="what else differs from the experiment as params.yaml has it"
    )
    trials: int = Field(
        default=24,
        ge=1,
        le=100_000,
        description="of each rule, for random and optuna; no configuration twice",
    )
    seed: int = Field(default=0, ge=0, lt=2**31, description="of the draws of random and optuna")
    early_stopping: Literal["none", "asha"] = Field(
        default="none", description="asha: trials that are behind after some epochs are stopped"
    )
    resources: Resources = Field(default_factory=Resources, description="what one trial occupies")

    @model_validator(mode="after")
    def _consistent(self) -> Sweep:
        if repeats(self.rules):
            raise ValueError(f"rules are {self.rules}; allowed: each rule once")
        for name, dimension in self.space.items():
            if name in self.fixed:
                raise ValueError(f"{name} is in both space and fixed; allowed: one of them")
            if isinstance(dimension, Distribution):
                if self.search == "grid":
                    raise ValueError(
                        f"search is grid, but {name} is a distribution; allowed: a list of values,"
                        " or search: random or optuna"
                    )
            elif repeats(dimension):
                raise ValueError(f"{name} is {dimension}; allowed: each value once")
            elif None in dimension:
                raise ValueError(f"{name} has null; allowed: values that a table can show")
        if self.early_stopping == "asha" and "training.epochs" in self.space:
            raise ValueError(
                "early_stopping is asha, which compares trials epoch by epoch, and training.epochs"
                " is swept; allowed: one of them"
            )
        return self


def repeats(values: list[Any]) -> bool:
    """Whether one of them is there twice; 1 is 1.0."""
    try:
        return len(set(values)) < len(values)
    except TypeError:  # Lists and mappings, of which nobody tries thousands.
        return any(value in values[:at] for at, value in enumerate(values))
