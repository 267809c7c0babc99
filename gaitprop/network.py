"""The invertible network: parameters, forward, inverse.

Layer l (1…L) computes y_l = f(W_l R_l y_{l-1} + b_l), R_l what it reads of the layer below (see
``gaitprop.reading``). In a *square* network all widths are equal. In a *tower* they shrink: a layer
reads the first n_l units of the layer below, and the others, the *auxiliary* units, feed nothing
forward but keep what makes the layer below invertible. A *convolution* reads patches, and has the
same square W_l at every position. The first layer's W_1 may be rectangular: it is never inverted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gaitprop.activations import Activation, make_activation
from gaitprop.arguments import check_device, whole_number, whole_numbers
from gaitprop.errors import ArgumentError, of_layer, of_seeds
from gaitprop.layers import Architecture
from gaitprop.linalg import affine, solve_rows
from gaitprop.numerics import one_thread
from gaitprop.rules.feedback import Feedback
from gaitprop.seeding import generator
from gaitprop.surroundings import drawn_on_the_cpu, own_precision

PRECISIONS = (torch.float32, torch.float64)


class Rows(NamedTuple):
    """A layer as it passed: a row for each position of each sample.

    Attributes:
        read: r_l, (S, batch · positions, features).
        outputs: y_l, (S, batch · positions, outputs of a position).
    """

    read: Tensor
    outputs: Tensor


class InvertibleNetwork:
    """Parameters of one network, or of S networks of one shape trained side by side.

    Attributes:
        architecture: the layers; gives each layer's ``readings``.
        widths: (n_0, n_1, …, n_L), the input's width first; of a convolution n_l counts the units
            of all positions.
        weights: L tensors, layer 1 first, contiguous: (S, n_l, n_l), of a convolution
            (S, c·k², c·k²); the first layer's may be rectangular, (S, n_1, n_0).
        biases: L tensors, one number for each row of the weight: (S, n_l).
        activation: the element-wise function of every layer.
        seeds: the S seeds.
        feedback: what a rule keeps with the network, if any; see ``gaitprop.feedback``.

    Args:
        layers: the input's width, then each layer's, which never grow from layer 1 on; or an
            ``Architecture``, which may have convolutions.
        activation: ``"leaky_relu"`` or ``"linear"``.
        negative_slope: the leaky ReLU's slope below zero, in (0, 1].
        orthogonal: draw orthogonal weights (uniform over the orthogonal group; of a rectangular
            matrix its rows or columns, whichever are shorter in number, are orthonormal) if true,
            else independent Gaussian ones of variance 1/n, n the inputs of a unit. Biases start
            at 0.
        seeds: one network is drawn for each; seed s gives the same network whatever the others.
        auxiliary_inputs: with widths, a first layer narrower than the input reads its first n_1
            units alone, by a square matrix. Else a first layer reads all of its inputs.
        dtype: ``torch.float32`` or ``torch.float64``.
        device: where the parameters live; they are drawn on the CPU, so every device gets the same.

    Raises:
        ArgumentError: widths grow or are not positive, no or repeated seeds, unknown activation,
            another dtype, a device that is not there.

    Example:
        >>> from gaitprop.layers import Architecture, Convolution, Dense
        >>> layers = (Convolution(1, kernel_size=3, stride=2, padding=1), Dense(144), Dense(10))
        >>> InvertibleNetwork(Architecture((1, 8, 8), layers))
        InvertibleNetwork(
          1 x 8 x 8 inputs
          1: Convolution(channels=1, kernel_size=3, stride=2, padding=1, outputs=None), \
9 x 4 x 4 units, weight (9, 9)
          2: Dense(width=144), weight (144, 144)
          3: Dense(width=10), reads 10 of 144 units, weight (10, 10)
          leaky_relu of slope 0.1, seeds (0,), float32, cpu
        )
    """

    def __init__(
        self,
        layers: Sequence[int] | Architecture,
        activation: str = "leaky_relu",
        negative_slope: float = 0.1,
        orthogonal: bool = True,
        seeds: Sequence[int] = (0,),
        *,
        auxiliary_inputs: bool = False,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        if not isinstance(layers, Architecture):
            layers = Architecture.of_widths(layers, auxiliary_inputs)
        elif auxiliary_inputs:
            raise ArgumentError(
                "auxiliary_inputs is given beside an Architecture; allowed: beside widths, or in"
                " the Architecture"
            )
        self.architecture = layers
        self.activation: Activation = make_activation(activation, negative_slope)
        self.seeds: tuple[int, ...] = _different(seeds)
        if dtype not in PRECISIONS:
            raise ArgumentError(f"dtype is {dtype}; allowed: torch.float32 or torch.float64")
        shapes = self.architecture.weight_shapes
        with drawn_on_the_cpu():
            drawn = [_draw(shapes, orthogonal, seed) for seed in self.seeds]
            # stack() copies into row-major order: QR returns column-major matrices, and the fused
            # Adam would pair such a parameter with its gradient in the wrong order, silently.
            stacked = [torch.stack(layer).to(dtype) for layer in zip(*drawn, strict=True)]
        try:
            place = torch.device(device)
            self.weights = [weight.to(place).contiguous() for weight in stacked]
        except (RuntimeError, AssertionError, TypeError) as error:
            # Of a device that is not there PyTorch says so in many ways.
            why = str(error).splitlines()[0]
            raise ArgumentError(
                f"device is {str(device)!r}; allowed: one that computes here ({why})"
            ) from None
        self.biases = [weight.new_zeros(weight.shape[:-1]) for weight in self.weights]
        self.feedback: Feedback | None = None

    @classmethod
    def from_parameters(
        cls,
        weights: Sequence[Tensor],
        biases: Sequence[Tensor],
        activation: str = "leaky_relu",
        negative_slope: float = 0.1,
        input_width: int | None = None,
        seeds: Sequence[int] | None = None,
        architecture: Architecture | None = None,
    ) -> InvertibleNetwork:
        """A network of given parameters, layer 1 first; the tensors are copied.

        Args:
            weights: L tensors (n_l, n_l) or, for S networks, (S, n_l, n_l); the first one may be
                rectangular, (n_1, n_0).
            biases: L tensors (n_l,) or (S, n_l).
            activation: as in the constructor.
            negative_slope: as in the constructor.
            input_width: n_0; what the first weight reads where it is not given. A larger one means
                auxiliary inputs, which it does not read.
            seeds: recorded with the parameters; 0…S−1 where not given.
            architecture: the layers, of which the parameters have the shapes; dense layers where
                not given.

        Raises:
            ArgumentError: shapes, dtypes or devices do not fit together, or seeds are no different
                whole numbers, one for each network.
        """
        weights, biases = list(weights), list(biases)
        if strange := [each for each in (*weights, *biases) if not isinstance(each, Tensor)]:
            raise ArgumentError(
                f"weights or biases hold a {type(strange[0]).__name__}; allowed: tensors"
            )
        if not weights or len(weights) != len(biases):
            raise ArgumentError(
                f"received {len(weights)} weights and {len(biases)} biases; allowed: one of each a"
                " layer, at least one layer"
            )
        if any(weight.dim() < 2 for weight in weights):
            raise ArgumentError(
                f"weights are of shapes {[tuple(weight.shape) for weight in weights]}; allowed:"
                " matrices, (n, n) or (S, n, n)"
            )
        leading = weights[0].shape[:-2]
        network = cls.__new__(cls)
        if architecture is None:
            network.architecture = _dense(weights, input_width)
        elif len(architecture.layers) != len(weights):
            raise ArgumentError(
                f"received {len(weights)} weights for {len(architecture.layers)} layers; allowed:"
                " one a layer"
            )
        else:
            network.architecture = architecture
        shapes = network.architecture.weight_shapes
        given = zip(shapes, weights, biases, strict=True)
        for layer, ((n, m), weight, bias) in enumerate(given, start=1):
            if weight.shape != (*leading, n, m) or bias.shape != (*leading, n) or len(leading) > 1:
                allowed = "(n, n) with (n), or (S, n, n) with (S, n)"
                if architecture is not None or n != m:
                    allowed = f"({n}, {m}) with ({n}), or (S, {n}, {m}) with (S, {n})"
                raise ArgumentError(
                    f"layer {layer}: weight {tuple(weight.shape)} with bias {tuple(bias.shape)};"
                    f" allowed: {allowed}, one S for all layers"
                )
            for each in (weight, bias):
                check_device(f"parameters of layer {layer}", each, weights[0].device)
            if weight.dtype not in PRECISIONS or {weight.dtype, bias.dtype} != {weights[0].dtype}:
                raise ArgumentError(
                    f"layer {layer}: weight of {weight.dtype}, bias of {bias.dtype}; allowed:"
                    " float32 or float64, one for all parameters"
                )
        network.activation = make_activation(activation, negative_slope)
        count = leading[0] if leading else 1
        network.seeds = _different(range(count) if seeds is None else seeds)
        if len(network.seeds) != count:
            raise ArgumentError(f"{len(network.seeds)} seeds for {count} networks")
        network.weights = [w.detach().clone(memory_format=torch.contiguous_format) for w in weights]
        network.biases = [b.detach().clone(memory_format=torch.contiguous_format) for b in biases]
        network.feedback = None
        return network

    @property
    def widths(self) -> tuple[int, ...]:
        """(n_0, n_1, …, n_L)."""
        return self.architecture.widths

    @property
    def depth(self) -> int:
        """L, the number of layers that have weights."""
        return len(self.weights)

    @property
    def dtype(self) -> torch.dtype:
        """The parameters' dtype."""
        return self.weights[0].dtype

    @property
    def device(self) -> torch.device:
        """Where the parameters live."""
        return self.weights[0].device

    def parameters(self) -> list[Tensor]:
        """The tensors themselves: every weight, then every bias, layer 1 first."""
        return [*self.weights, *self.biases]

    def kept(self) -> list[Tensor]:
        """The tensors themselves that a rule keeps, layer 1 first."""
        return [] if self.feedback is None else self.feedback.tensors()

    def tensors(self) -> list[Tensor]:
        """All that training may change: the parameters, then what a rule keeps."""
        return [*self.parameters(), *self.kept()]

    def __call__(self, inputs: Tensor) -> Tensor:
        """The outputs y_L alone, (S, batch, n_L); inputs as for ``forward``."""
        return self.forward(inputs)[-1]

    def forward(self, inputs: Tensor) -> list[Tensor]:
        """All activations [y_0, y_1, …, y_L].

        Args:
            inputs: (batch, n_0), the same for every seed, or (S, batch, n_0).

        Returns:
            y_l of shape (S, batch, n_l) (without S for a network without a seed dimension).

        Raises:
            ArgumentError: the inputs' shape, dtype or device does not fit the network.
        """
        return self.forward_by_rows(inputs)[0]

    def forward_by_rows(self, inputs: Tensor) -> tuple[list[Tensor], list[Rows]]:
        """The same, and each layer's rows, layer 1 first, which convolutions take long to make."""
        activations, rows = [self._checked(inputs)], []
        layers = zip(self.architecture.readings, self.weights, self.biases, strict=True)
        with own_precision():
            for reading, weight, bias in layers:
                read = reading.read(activations[-1])
                rows.append(Rows(read, self.activation.value(affine(read, weight, bias))))
                activations.append(reading.units(rows[-1].outputs))
        return activations, rows

    def invert_layer(self, layer: int, outputs: Tensor) -> Tensor:
        """W_l⁻¹ (f⁻¹(y_l) − b_l), the rows that layer l has read: R_l y_{l-1}.

        Args:
            layer: l, 1…L.
            outputs: y_l, (S, batch, n_l).

        Returns:
            (S, batch · positions, features): of a layer that is no convolution the first n_l units
            of the layer below.

        Raises:
            ArgumentError: W_l is rectangular, there is no such layer, or the outputs do not fit it.
            SingularLayerError: W_l has no inverse.
        """
        if not 1 <= whole_number("layer", layer) <= self.depth:
            raise ArgumentError(f"layer is {layer}; allowed: 1 to {self.depth}")
        weight, bias = self.weights[layer - 1], self.biases[layer - 1]
        if not isinstance(outputs, Tensor):
            raise ArgumentError(f"outputs are a {type(outputs).__name__}; allowed: a tensor")
        leading, width = weight.shape[:-2], self.widths[layer]
        own = outputs.shape[:-2] == leading and outputs.shape[-1:] == (width,)
        if not own or outputs.dim() != len(leading) + 2 or outputs.dtype != self.dtype:
            allowed = ", ".join(map(str, [*leading, "batch", width]))
            raise ArgumentError(
                f"outputs of layer {layer} are {outputs.dtype} of shape {tuple(outputs.shape)};"
                f" allowed: {self.dtype} of shape ({allowed})"
            )
        check_device("outputs", outputs, self.device)
        n, m = weight.shape[-2:]
        if n != m:
            raise ArgumentError(
                f"layer {layer} has a weight of {n} x {m}; allowed: layers with a square weight,"
                " since no other has an inverse"
            )
        rows = self.architecture.readings[layer - 1].rows(outputs)
        with own_precision(), of_layer(layer), of_seeds(self.seeds):
            return solve_rows(weight, self.activation.inverse(rows) - bias.unsqueeze(-2))

    def inverse(self, outputs: Tensor, auxiliary: Sequence[Tensor] | None = None) -> Tensor:
        """The inputs that give these outputs.

        A unit that several positions of a convolution read is the mean of what they give.

        Args:
            outputs: y_L, (S, batch, n_L).
            auxiliary: for each layer 1…L the units below that it does not read, as
                ``auxiliary_units`` returns them; not needed by a square network.

        Returns:
            (S, batch, n_0).

        Raises:
            ArgumentError: auxiliary units are missing or do not fit, or layer 1 is rectangular.
            SingularLayerError: a layer has no inverse.
        """
        units = outputs
        if auxiliary is not None and len(auxiliary) != self.depth:
            raise ArgumentError(
                f"auxiliary is of {len(auxiliary)} layers; allowed: of all {self.depth}"
            )
        for layer in range(self.depth, 0, -1):
            rows = self.invert_layer(layer, units)
            reading = self.architecture.readings[layer - 1]
            counts = reading.counts(rows)
            unread = counts == 0
            missing = int(unread.sum())
            units = reading.fold(rows) / counts.clamp(min=1)
            if missing:
                wanted = (*units.shape[:-1], missing)
                if auxiliary is None or tuple(auxiliary[layer - 1].shape) != wanted:
                    raise ArgumentError(
                        f"layer {layer} leaves {missing} auxiliary units below it: pass them"
                        " (auxiliary_units(activations)) to invert a tower"
                    )
                units[..., unread] = auxiliary[layer - 1]
        return units

    def auxiliary_units(self, activations: Sequence[Tensor]) -> list[Tensor]:
        """For each layer l the units y_{l-1} that it does not read; no layer above does."""
        return [
            units[..., reading.counts(units) == 0]
            for reading, units in zip(self.architecture.readings, activations[:-1], strict=True)
        ]

    def __repr__(self) -> str:
        slope = self.activation.slope
        function = "linear" if slope == 1.0 else f"leaky_relu of slope {slope:g}"
        lines = [
            " x ".join(map(str, self.architecture.input_shape)) + " inputs",
            *self.architecture.lines(),
            f"{function}, seeds {self.seeds}, {str(self.dtype).removeprefix('torch.')},"
            f" {self.device}",
        ]
        return "\n  ".join(["InvertibleNetwork(", *lines]) + "\n)"

    def _checked(self, inputs: Tensor) -> Tensor:
        leading = self.weights[0].shape[:-2]
        if not isinstance(inputs, Tensor):
            raise ArgumentError(f"inputs are a {type(inputs).__name__}; allowed: a tensor")
        own_batch = inputs.dim() == len(leading) + 2 and inputs.shape[:-2] == leading
        if inputs.shape[-1:] != self.widths[:1] or not (inputs.dim() == 2 or own_batch):
            of_seeds = f" or ({leading[0]}, batch, {self.widths[0]})" if leading else ""
            raise ArgumentError(
                f"inputs are of shape {tuple(inputs.shape)}; allowed: (batch, {self.widths[0]})"
                f"{of_seeds}"
            )
        if inputs.dtype != self.dtype:
            raise ArgumentError(f"inputs are {inputs.dtype}; the network's are {self.dtype}")
        check_device("inputs", inputs, self.device)
        return inputs if own_batch else inputs.expand(*leading, *inputs.shape)


def _different(seeds: Iterable[int]) -> tuple[int, ...]:
    """The seeds, of which there is one at least, and none twice."""
    found = whole_numbers("seeds", seeds)
    if not found or len(set(found)) != len(found):
        raise ArgumentError(f"seeds are {list(found)}; allowed: one or more different integers")
    return found


def _dense(weights: Sequence[Tensor], input_width: int | None) -> Architecture:
    """Of the widths that the weights have; a larger input has auxiliary units."""
    layer_widths = [weight.shape[-2] for weight in weights]
    read = weights[0].shape[-1]
    width = read if input_width is None else input_width
    if read != layer_widths[0] and width != read:
        raise ArgumentError(
            f"input_width is {width} for a first weight of {layer_widths[0]} x {read}; allowed:"
            f" {read}"
        )
    return Architecture.of_widths([width, *layer_widths], auxiliary_inputs=read == layer_widths[0])


def _draw(shapes: Sequence[tuple[int, int]], orthogonal: bool, seed: int) -> list[Tensor]:
    """One float64 matrix a layer; a rectangular first one has a generator of its own."""
    (rows, columns), *others = shapes
    square = [n for n, _ in others]
    if rows == columns:
        return _initial_weights([rows, *square], orthogonal, seed)
    return [
        _rectangular(rows, columns, orthogonal, generator(seed, "rectangular layer")),
        *_initial_weights(square, orthogonal, seed),
    ]


def _rectangular(rows: int, columns: int, orthogonal: bool, source: torch.Generator) -> Tensor:
    """Rows orthonormal if there are fewer of them than columns, else columns."""
    if not orthogonal:
        gaussian = torch.randn(rows, columns, dtype=torch.float64, generator=source)
        return gaussian / math.sqrt(columns)
    longer, shorter = max(rows, columns), min(rows, columns)
    gaussian = torch.randn(longer, shorter, dtype=torch.float64, generator=source)
    with one_thread():
        q, r = torch.linalg.qr(gaussian)
    drawn: Tensor = q * r.diagonal().sign()
    return drawn if rows > columns else drawn.mT


def _initial_weights(layer_widths: Sequence[int], orthogonal: bool, seed: int) -> list[Tensor]:
    """One float64 matrix a layer, all drawn in turn from the seed's own generator."""
    source = generator(seed, "initialisation")
    weights = []
    for n in layer_widths:
        gaussian = torch.randn(n, n, dtype=torch.float64, generator=source)
        if orthogonal:
            # On several threads LAPACK's bits would depend on how many there are.
            with one_thread():
                q, r = torch.linalg.qr(gaussian)
            # The signs make it uniform over the orthogonal group (Mezzadri, math-ph/0609050).
            weights.append(q * r.diagonal().sign())
        else:
            weights.append(gaussian / n**0.5)
    return weights
