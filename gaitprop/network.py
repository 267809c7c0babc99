"""The invertible network: square weight matrices, auxiliary units, parameters, forward, inverse.

Layer l (1…L) computes y_l = f(W_l y_{l-1}[:n_l] + b_l). In a *square* network all widths are
equal. In a *tower* they shrink: a layer reads the first n_l units of the layer below, and the
others, the *auxiliary* units, feed nothing forward but keep what makes the layer below invertible.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from gaitprop.activations import Activation, make_activation
from gaitprop.errors import ArgumentError
from gaitprop.linalg import affine, solve_rows
from gaitprop.numerics import one_thread
from gaitprop.seeding import generator


class InvertibleNetwork:
    """Parameters of one network, or of S networks of one shape trained side by side.

    Attributes:
        widths: (n_0, n_1, …, n_L), the input's width first.
        weights: L tensors, layer 1 first, (S, n_l, n_l), contiguous.
        biases: L tensors, (S, n_l).
        activation: the element-wise function of every layer.
        seeds: the S seeds.

    Args:
        widths: the input's width, then each layer's; a width never exceeds the one before it.
        activation: ``"leaky_relu"`` or ``"linear"``.
        negative_slope: the leaky ReLU's slope below zero, in (0, 1].
        orthogonal: draw orthogonal weights (uniform over the orthogonal group) if true, else
            independent Gaussian ones of variance 1/n. Biases start at 0.
        seeds: one network is drawn for each; seed s gives the same network whatever the others.
        dtype: ``torch.float32`` or ``torch.float64``.
        device: where the parameters live; they are drawn on the CPU, so every device gets the same.

    Raises:
        ArgumentError: widths grow or are not positive, no or repeated seeds, unknown activation.
    """

    def __init__(
        self,
        widths: Sequence[int],
        activation: str = "leaky_relu",
        negative_slope: float = 0.1,
        orthogonal: bool = True,
        seeds: Sequence[int] = (0,),
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        self.widths = check_widths(widths)
        self.activation: Activation = make_activation(activation, negative_slope)
        self.seeds: tuple[int, ...] = tuple(int(seed) for seed in seeds)
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise ArgumentError(f"seeds are {list(seeds)}; allowed: one or more different integers")
        drawn = [_initial_weights(self.widths[1:], orthogonal, seed) for seed in self.seeds]
        # stack() copies into row-major order: QR returns column-major matrices, and the fused
        # Adam would pair such a parameter with its gradient in the wrong order, silently.
        self.weights = [
            torch.stack(layer).to(device=device, dtype=dtype).contiguous()
            for layer in zip(*drawn, strict=True)
        ]
        self.biases = [weight.new_zeros(weight.shape[:-1]) for weight in self.weights]

    @classmethod
    def from_parameters(
        cls,
        weights: Sequence[Tensor],
        biases: Sequence[Tensor],
        activation: str = "leaky_relu",
        negative_slope: float = 0.1,
        input_width: int | None = None,
        seeds: Sequence[int] | None = None,
    ) -> InvertibleNetwork:
        """A network of given parameters, layer 1 first; the tensors are copied.

        Args:
            weights: L tensors (n_l, n_l) or, for S networks, (S, n_l, n_l).
            biases: L tensors (n_l,) or (S, n_l).
            activation: as in the constructor.
            negative_slope: as in the constructor.
            input_width: n_0; the first layer's width where it is not given.
            seeds: recorded with the parameters; 0…S−1 where not given.

        Raises:
            ArgumentError: the shapes or dtypes do not fit together.
        """
        if not weights or len(weights) != len(biases):
            raise ArgumentError(
                f"received {len(weights)} weights and {len(biases)} biases; allowed: one of each a"
                " layer, at least one layer"
            )
        leading = weights[0].shape[:-2]
        for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True), start=1):
            n = weight.shape[-1]
            if weight.shape != (*leading, n, n) or bias.shape != (*leading, n) or len(leading) > 1:
                raise ArgumentError(
                    f"layer {layer}: weight {tuple(weight.shape)} with bias {tuple(bias.shape)};"
                    " allowed: (n, n) with (n), or (S, n, n) with (S, n), one S for all layers"
                )
            if weight.dtype not in (torch.float32, torch.float64) or bias.dtype != weights[0].dtype:
                raise ArgumentError(
                    f"layer {layer}: weight of {weight.dtype}, bias of {bias.dtype}; allowed:"
                    " float32 or float64, one for all parameters"
                )
        network = cls.__new__(cls)
        layer_widths = [weight.shape[-1] for weight in weights]
        network.widths = check_widths([input_width or layer_widths[0], *layer_widths])
        network.activation = make_activation(activation, negative_slope)
        count = leading[0] if leading else 1
        network.seeds = tuple(seeds) if seeds is not None else tuple(range(count))
        if len(network.seeds) != count:
            raise ArgumentError(f"{len(network.seeds)} seeds for {count} networks")
        network.weights = [w.detach().clone(memory_format=torch.contiguous_format) for w in weights]
        network.biases = [b.detach().clone(memory_format=torch.contiguous_format) for b in biases]
        return network

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

    def forward(self, inputs: Tensor) -> list[Tensor]:
        """All activations [y_0, y_1, …, y_L].

        Args:
            inputs: (batch, n_0), the same for every seed, or (S, batch, n_0).

        Returns:
            y_l of shape (S, batch, n_l) (without S for a network without a seed dimension).

        Raises:
            ArgumentError: the inputs' shape or dtype does not fit the network.
        """
        activations = [self._checked(inputs)]
        for weight, bias in zip(self.weights, self.biases, strict=True):
            below = activations[-1][..., : weight.shape[-1]]
            activations.append(self.activation.value(affine(below, weight, bias)))
        return activations

    def invert_layer(self, layer: int, outputs: Tensor) -> Tensor:
        """g_l(y_l) = W_l⁻¹ (f⁻¹(y_l) − b_l), the units that layer l has read.

        Args:
            layer: l, 1…L.
            outputs: y_l, (S, batch, n_l).

        Raises:
            SingularLayerError: W_l has no inverse.
        """
        weight, bias = self.weights[layer - 1], self.biases[layer - 1]
        return solve_rows(weight, self.activation.inverse(outputs) - bias.unsqueeze(-2))

    def inverse(self, outputs: Tensor, auxiliary: Sequence[Tensor] | None = None) -> Tensor:
        """The inputs that give these outputs.

        Args:
            outputs: y_L, (S, batch, n_L).
            auxiliary: for each layer 1…L the units below that it does not read,
                y_{l-1}[n_l:], as ``auxiliary_units`` returns them; not needed by a square network.

        Returns:
            (S, batch, n_0).

        Raises:
            ArgumentError: auxiliary units are missing.
            SingularLayerError: a layer has no inverse.
        """
        units = outputs
        for layer in range(self.depth, 0, -1):
            units = self.invert_layer(layer, units)
            missing = self.widths[layer - 1] - self.widths[layer]
            if missing:
                if auxiliary is None or auxiliary[layer - 1].shape[-1] != missing:
                    raise ArgumentError(
                        f"layer {layer} leaves {missing} auxiliary units below it: pass them"
                        " (auxiliary_units(activations)) to invert a tower"
                    )
                units = torch.cat([units, auxiliary[layer - 1]], dim=-1)
        return units

    def auxiliary_units(self, activations: Sequence[Tensor]) -> list[Tensor]:
        """y_{l-1}[n_l:] for each layer l: what ``forward`` computed and no layer above reads."""
        return [activations[layer][..., n:] for layer, n in enumerate(self.widths[1:])]

    def _checked(self, inputs: Tensor) -> Tensor:
        leading = self.weights[0].shape[:-2]
        own_batch = inputs.dim() == len(leading) + 2 and inputs.shape[:-2] == leading
        if inputs.shape[-1:] != self.widths[:1] or not (inputs.dim() == 2 or own_batch):
            of_seeds = f" or ({leading[0]}, batch, {self.widths[0]})" if leading else ""
            raise ArgumentError(
                f"inputs are of shape {tuple(inputs.shape)}; allowed: (batch, {self.widths[0]})"
                f"{of_seeds}"
            )
        if inputs.dtype != self.dtype:
            raise ArgumentError(f"inputs are {inputs.dtype}; the network's are {self.dtype}")
        return inputs if own_batch else inputs.expand(*leading, *inputs.shape)


def check_widths(widths: Sequence[int]) -> tuple[int, ...]:
    """The widths as a tuple, after checking that such a network exists.

    Raises:
        ArgumentError: fewer than two widths, one below 1, or one larger than the one before it.
    """
    checked = tuple(int(width) for width in widths)
    if len(checked) < 2 or min(checked) < 1:
        raise ArgumentError(
            f"widths are {list(widths)}; allowed: the input's width and one for each layer, all"
            " at least 1"
        )
    for below, above in itertools.pairwise(checked):
        if above > below:
            raise ArgumentError(
                f"widths are {list(checked)}: {above} follows {below}; allowed: widths that never"
                " grow, since a layer's inverse needs all of its inputs back"
            )
    return checked


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
