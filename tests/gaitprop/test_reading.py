"""What layers read, against plain loops; its transpose, by the definition of one."""

from __future__ import annotations

import pytest
import torch

from gaitprop import ArgumentError
from gaitprop.reading import Reading, first_units

READINGS = [
    first_units(5, 5),
    first_units(3, 5),
    Reading((3, 5, 4), 2, 3, 1, 1),
    Reading((1, 6, 6), 1, 3, 2, 0),
    Reading((2, 5, 7), 2, 2, 2, 1),
    Reading((4, 3, 3), 4, 1),
    Reading((2, 3, 3), 1, 3),
    Reading((3, 1, 1), 3, 3, 1, 1),
    Reading((3, 5, 5), 2, 1, 5),
]
LEADING = [(2,), (3, 2)]


def by_loops(reading: Reading, units: torch.Tensor) -> torch.Tensor:
    """One sample at a time: (n_units,) to (positions, features)."""
    channels, height, width = reading.shape
    image, pad, size = units.view(channels, height, width), reading.padding, reading.kernel_size
    rows = []
    for top in range(-pad, height + pad - size + 1, reading.stride):
        for left in range(-pad, width + pad - size + 1, reading.stride):
            rows.append(
                [
                    image[c, y, x].item() if 0 <= y < height and 0 <= x < width else 0.0
                    for c in range(reading.channels)
                    for y in range(top, top + size)
                    for x in range(left, left + size)
                ]
            )
    return torch.tensor(rows, dtype=units.dtype)


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("leading", LEADING)
@pytest.mark.parametrize("reading", READINGS)
def test_reads_what_loops_read(reading: Reading, leading: tuple[int, ...]) -> None:
    units = draw(*leading, reading.n_units)
    rows = reading.read(units)
    assert rows.shape == (*leading[:-1], leading[-1] * reading.n_positions, reading.features)
    samples = units.view(-1, reading.n_units)
    expected = torch.cat([by_loops(reading, sample) for sample in samples])
    assert torch.equal(rows.reshape(-1, reading.features), expected)


@pytest.mark.parametrize("leading", LEADING)
@pytest.mark.parametrize("reading", READINGS)
def test_fold_is_the_transpose(reading: Reading, leading: tuple[int, ...]) -> None:
    """⟨R y, r⟩ = ⟨y, Rᵀ r⟩ for all y and r, sample by sample."""
    units = draw(*leading, reading.n_units)
    rows = draw(*leading[:-1], leading[-1] * reading.n_positions, reading.features, seed=1)
    folded = reading.fold(rows)
    assert folded.shape == units.shape
    products = (reading.read(units) * rows).reshape(*leading, -1).sum(-1)
    torch.testing.assert_close((units * folded).sum(-1), products, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("reading", READINGS)
def test_reading_then_folding_counts(reading: Reading) -> None:
    units = draw(3, reading.n_units)
    expected = reading.counts(units) * units
    torch.testing.assert_close(reading.fold(reading.read(units)), expected, rtol=1e-14, atol=0)


@pytest.mark.parametrize("leading", LEADING)
@pytest.mark.parametrize("reading", READINGS)
def test_outputs_are_laid_out_as_pytorchs_convolution_lays_them(
    reading: Reading, leading: tuple[int, ...]
) -> None:
    weight = draw(4, reading.features, seed=2)
    units = draw(*leading, reading.n_units)
    size = (reading.kernel_size,) * 2
    expected = torch.nn.functional.conv2d(
        units.view(-1, *reading.shape)[:, : reading.channels],
        weight.view(4, reading.channels, *size),
        stride=reading.stride,
        padding=reading.padding,
    )
    assert expected.shape[-2:] == reading.positions
    rows = reading.read(units) @ weight.mT
    outputs = reading.units(rows)
    torch.testing.assert_close(outputs, expected.reshape(*leading, -1), rtol=1e-12, atol=1e-12)
    assert torch.equal(reading.rows(outputs), rows)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (((3, 5), 1), ["(3, 5)", "(channels, height, width)"]),
        (((3, 0, 5), 1), ["(3, 0, 5)", "at least 1"]),
        (((3, 5, 5), 4), ["channels is 4", "1 to 3"]),
        (((3, 5, 5), 0), ["channels is 0", "1 to 3"]),
        (((3, 5, 5), 1.5), ["channels is 1.5", "1 to 3"]),
        (((3, 5, 4), 3, 2.0), ["kernel_size is 2.0; allowed: an integer"]),
        (((3, 5, 4), 3, 2, (1, 1)), ["stride is (1, 1); allowed: an integer"]),
        (((3, 5, 4), 3, 2, 1, "same"), ["padding is 'same'; allowed: an integer"]),
        (((3, 5, 4), 3, 5), ["kernel_size is 5", "5 x 4", "1 to 4"]),
        (((3, 5, 4), 3, 0), ["kernel_size is 0", "1 to 4"]),
        (((3, 5, 4), 3, 3, 0), ["stride is 0", "1 to 4"]),
        (((3, 5, 4), 3, 3, 1, 3), ["padding is 3", "0 to 2"]),
        (((3, 5, 4), 3, 3, 1, -1), ["padding is -1", "0 to 2"]),
    ],
)
def test_what_cannot_be_read_is_refused(arguments: tuple, words: list[str]) -> None:
    with pytest.raises(ArgumentError) as caught:
        Reading(*arguments)
    for word in words:
        assert word in str(caught.value)
