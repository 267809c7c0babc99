"""What a layer reads of the layer below, r_l = R_l y_{l-1}, and how errors go back, R_lᵀ.

Units are flat: y is (…, batch, n), and where it has channels, as images and the outputs of
convolutions have, n = channels · height · width in this order, which is PyTorch's (a convolution's
output after ``flatten``). A layer multiplies rows: a sample gives one row for every position of its
kernel, so positions are further samples. A layer that is not a convolution has one position: it
sees the layer below as n channels of 1 x 1, of which it reads the first ones.

The convolution whose inverse this gives is that of arXiv 2102.11598; see docs/theory.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gaitprop.errors import ArgumentError


@dataclass(frozen=True)
class Reading:
    """The patches of the first ``channels`` channels, one row for every position of the kernel.

    Attributes:
        shape: channels, height and width of the layer below; (n, 1, 1) of flat units.
        channels: how many channels are read; the others are auxiliary.
        kernel_size: k; a row holds channels · k · k numbers, as ``torch.nn.functional.unfold``
            orders them.
        stride: step from one position to the next, in both directions.
        padding: zeros on each of the four sides.

    Raises:
        ArgumentError: no such patch is in the layer below.
    """

    shape: tuple[int, int, int]
    channels: int
    kernel_size: int = 1
    stride: int = 1
    padding: int = 0

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise ArgumentError(
                f"the shape to be read is {self.shape}; allowed: (channels, height, width), all at"
                " least 1"
            )
        available, *sides = self.shape
        if not isinstance(self.channels, int) or not 1 <= self.channels <= available:
            raise ArgumentError(
                f"channels is {self.channels}; allowed: 1 to {available}, what the layer below has"
            )
        for name in ("kernel_size", "stride", "padding"):
            if not isinstance(getattr(self, name), int):
                raise ArgumentError(f"{name} is {getattr(self, name)!r}; allowed: an integer")
        largest = min(sides) + 2 * self.padding
        limits = {
            "padding": (self.padding, 0, max(self.kernel_size - 1, 0)),
            "kernel_size": (self.kernel_size, 1, largest),
            "stride": (self.stride, 1, largest),
        }
        for name, (value, least, most) in limits.items():
            if not least <= value <= most:
                raise ArgumentError(
                    f"{name} is {value} on {sides[0]} x {sides[1]} with kernel_size"
                    f" {self.kernel_size} and padding {self.padding}; allowed: {least} to {most}"
                )

    @property
    def n_units(self) -> int:
        """How many units the layer below has, read or not."""
        channels, height, width = self.shape
        return channels * height * width

    @property
    def features(self) -> int:
        """How many numbers a row has: channels · k · k."""
        return self.channels * self.kernel_size**2

    @property
    def positions(self) -> tuple[int, int]:
        """How many positions the kernel has, down and across: the output's height and width."""
        _, *sides = self.shape
        down, across = (
            (side + 2 * self.padding - self.kernel_size) // self.stride + 1 for side in sides
        )
        return down, across

    @property
    def n_positions(self) -> int:
        """How many rows each sample gives."""
        down, across = self.positions
        return down * across

    def read(self, units: Tensor) -> Tensor:
        """R y: (…, batch, n_units) to (…, batch · positions, features), sample by sample."""
        if self._flat:
            return units if self.channels == self.n_units else units[..., : self.channels]
        images = units.reshape(-1, *self.shape)[:, : self.channels]
        patches = torch.nn.functional.unfold(
            images, self.kernel_size, padding=self.padding, stride=self.stride
        )
        return patches.mT.reshape(*units.shape[:-2], -1, self.features)

    def fold(self, rows: Tensor) -> Tensor:
        """Rᵀ r: (…, batch · positions, features) to (…, batch, n_units).

        Each unit gets the sum over the rows that hold it; one that no row holds gets 0.
        """
        if self._flat:
            return _with_zeros(rows, self.n_units)
        patches = rows.reshape(-1, self.n_positions, self.features).mT
        images = torch.nn.functional.fold(
            patches, self.shape[1:], self.kernel_size, padding=self.padding, stride=self.stride
        )
        return _with_zeros(images.reshape(*rows.shape[:-2], -1, images[0].numel()), self.n_units)

    def counts(self, like: Tensor) -> Tensor:
        """How many rows hold each unit, RᵀR's diagonal: (n_units,), of the dtype and device given.

        RᵀR is diagonal: a row holds a unit at most once, and nothing but zeros beside units.
        """
        return self.fold(like.new_ones(self.n_positions, self.features))[0]

    def units(self, rows: Tensor) -> Tensor:
        """A layer's outputs by unit: (…, batch · positions, m) to (…, batch, m · positions)."""
        if self._flat:
            return rows
        by_sample = rows.reshape(*rows.shape[:-2], -1, self.n_positions, rows.shape[-1])
        return by_sample.mT.flatten(-2)

    def rows(self, units: Tensor) -> Tensor:
        """The inverse of ``units``: (…, batch, m · positions) to (…, batch · positions, m)."""
        if self._flat:
            return units
        by_feature = units.reshape(*units.shape[:-1], -1, self.n_positions)
        return by_feature.mT.flatten(-3, -2)

    @property
    def _flat(self) -> bool:
        """Whether a row is a sample's units as they stand."""
        return self.shape[1:] == (1, 1) and self.kernel_size == 1


def first_units(count: int, width: int) -> Reading:
    """Reads the first ``count`` of ``width`` flat units, as a tower's layer does."""
    return Reading((width, 1, 1), count)


def _with_zeros(units: Tensor, width: int) -> Tensor:
    missing = width - units.shape[-1]
    return torch.nn.functional.pad(units, (0, missing)) if missing else units
