"""Which layers a network has: descriptions, and what follows from them (readings, shapes)."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from gaitprop.arguments import whole_number, whole_numbers
from gaitprop.errors import ArgumentError
from gaitprop.reading import Reading, first_units


@dataclass(frozen=True)
class Dense:
    """A layer of ``width`` units, which reads the first ``width`` units of the layer below.

    The first layer reads all of its inputs instead, by a rectangular matrix where they are more or
    fewer: no error goes below it, so nothing of it is ever inverted.
    """

    width: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "width", whole_number("width", self.width))


@dataclass(frozen=True)
class Convolution:
    """One square matrix at every position, from patches of k x k to as many channels.

    Attributes:
        channels: c, how many channels of the layer below are read, the first ones; the layer gives
            c · k · k channels.
        kernel_size: k.
        stride: step from one position to the next.
        padding: zeros on each side.
        outputs: how many channels the layer gives; another number than c · k · k is for the first
            layer alone, whose matrix may be rectangular.
    """

    channels: int
    kernel_size: int
    stride: int = 1
    padding: int = 0
    outputs: int | None = None

    def __post_init__(self) -> None:
        for name, value in list(vars(self).items()):
            if name != "outputs" or value is not None:
                object.__setattr__(self, name, whole_number(name, value))


Layer = Dense | Convolution


@dataclass(frozen=True)
class Architecture:
    """Layers one above the other, the input's shape first.

    Attributes:
        input_shape: (n_0,), or (channels, height, width) of images, which a network receives flat.
        layers: layer 1 first.
        auxiliary_inputs: a first ``Dense`` layer reads only as many inputs as it has units, by a
            square matrix, and leaves the others unread, as a tower's other layers do.

    Raises:
        ArgumentError: the layers do not fit one on the other.
    """

    input_shape: tuple[int, ...]
    layers: tuple[Layer, ...]
    auxiliary_inputs: bool = False

    def __post_init__(self) -> None:
        shape = whole_numbers("input_shape", self.input_shape)
        object.__setattr__(self, "input_shape", shape)
        object.__setattr__(self, "layers", tuple(self.layers))
        if strange := [each for each in self.layers if not isinstance(each, Dense | Convolution)]:
            raise ArgumentError(f"a layer is {strange[0]!r}; allowed: Dense or Convolution")
        if len(self.input_shape) not in (1, 3) or min(self.input_shape) < 1:
            raise ArgumentError(
                f"input_shape is {self.input_shape}; allowed: (units,) or (channels, height,"
                " width), all at least 1"
            )
        if not self.layers:
            raise ArgumentError("there are no layers; allowed: at least one")
        for layer, (reading, outputs) in enumerate(self._each, start=1):
            if outputs < 1:
                raise ArgumentError(f"layer {layer} has {outputs} outputs; allowed: at least 1")
            if layer > 1 and outputs != reading.features:
                raise ArgumentError(
                    f"layer {layer} would have a matrix of {outputs} x {reading.features}; allowed:"
                    " a square one, but for layer 1, which is never inverted"
                )

    @classmethod
    def of_widths(cls, widths: Sequence[int], auxiliary_inputs: bool = False) -> Architecture:
        """Dense layers of these widths, the input's first.

        Raises:
            ArgumentError: fewer than two widths, one below 1, or one above the first layer's that
                is larger than the one before it.
        """
        checked = whole_numbers("widths", widths)
        if len(checked) < 2 or min(checked) < 1:
            raise ArgumentError(
                f"widths are {list(widths)}; allowed: the input's width and one for each layer, all"
                " at least 1"
            )
        # A first layer that reads all inputs may be wider than they are.
        for below, above in itertools.pairwise(checked[0 if auxiliary_inputs else 1 :]):
            if above > below:
                raise ArgumentError(
                    f"widths are {list(checked)}: {above} follows {below}; allowed: widths that"
                    " never grow from the first layer on, since a layer's inverse needs all of its"
                    " inputs back"
                )
        return cls(checked[:1], tuple(map(Dense, checked[1:])), auxiliary_inputs)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Architecture:
        """What ``as_plain`` was of, also after a way through JSON.

        Raises:
            ArgumentError: it is of no architecture.
        """
        try:
            layers = tuple(
                Convolution(**layer) if "channels" in layer else Dense(**layer)
                for layer in plain["layers"]
            )
            return cls(tuple(plain["input_shape"]), layers, plain["auxiliary_inputs"])
        except (KeyError, TypeError) as error:
            raise ArgumentError(
                f"received {plain!r}; allowed: what as_plain gives of an architecture ({error})"
            ) from None

    def as_plain(self) -> dict[str, Any]:
        """Lists, dictionaries, numbers: for files, and for ``from_plain``."""
        return {
            "input_shape": list(self.input_shape),
            "layers": [asdict(layer) for layer in self.layers],
            "auxiliary_inputs": self.auxiliary_inputs,
        }

    @cached_property
    def readings(self) -> tuple[Reading, ...]:
        """R_1…R_L."""
        return tuple(reading for reading, _ in self._each)

    @cached_property
    def widths(self) -> tuple[int, ...]:
        """(n_0, n_1, …, n_L): how many units the input and each layer have, over all positions."""
        above = (outputs * reading.n_positions for reading, outputs in self._each)
        return (self.readings[0].n_units, *above)

    @cached_property
    def weight_shapes(self) -> tuple[tuple[int, int], ...]:
        """(outputs, features) of every layer's matrix; square but for the first layer's."""
        return tuple((outputs, reading.features) for reading, outputs in self._each)

    def lines(self) -> list[str]:
        """What each layer is, for people: one line a layer."""
        found = []
        each = zip(self.layers, self._each, strict=True)
        for number, (layer, (reading, outputs)) in enumerate(each, start=1):
            facts, what = [f"{number}: {layer}"], "units"
            if isinstance(layer, Convolution):
                what = "channels"
                facts.append(f"{outputs} x {' x '.join(map(str, reading.positions))} units")
            if reading.channels < reading.shape[0]:
                facts.append(f"reads {reading.channels} of {reading.shape[0]} {what}")
            found.append(", ".join([*facts, f"weight ({outputs}, {reading.features})"]))
        return found

    @cached_property
    def _each(self) -> list[tuple[Reading, int]]:
        """Every layer's reading, and how many outputs it has at a position."""
        found: list[tuple[Reading, int]] = []
        shape = self.input_shape if len(self.input_shape) == 3 else (*self.input_shape, 1, 1)
        for number, layer in enumerate(self.layers, start=1):
            try:
                reading, outputs = self._read(layer, (shape[0], shape[1], shape[2]), number)
            except ArgumentError as error:
                raise ArgumentError(f"layer {number}, {layer}: {error}") from None
            found.append((reading, outputs))
            shape = (outputs, *reading.positions)
        return found

    def _read(self, layer: Layer, shape: tuple[int, int, int], number: int) -> tuple[Reading, int]:
        channels, height, width = shape
        if isinstance(layer, Convolution):
            reading = Reading(shape, layer.channels, layer.kernel_size, layer.stride, layer.padding)
            return reading, reading.features if layer.outputs is None else layer.outputs
        below = channels * height * width
        if number == 1 and not self.auxiliary_inputs:
            return first_units(below, below), layer.width
        if not 1 <= layer.width <= below:
            raise ArgumentError(
                f"the layer below has {below} units; allowed: a width of 1 to {below}, since a"
                " layer's inverse needs all of its inputs back"
            )
        return first_units(layer.width, below), layer.width
