"""A bridge from GAIT-prop to backpropagation: damped inverses."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from gaitprop.arguments import check_number
from gaitprop.errors import ArgumentError
from gaitprop.linalg import gram, matmul, solve_rows
from gaitprop.rules.hyperparameters import Hyperparameter, RuleFamily
from gaitprop.rules.layer import LayerView

# Far beyond, float32 would not hold the matrix.
_MOST = 1e30


# An object and no function within one: it can be pickled, compared and read.
@dataclass(frozen=True)
class Damped:
    """The rule of this μ: e_{l-1} = (1 + μ) (W_lᵀW_l + μI)⁻¹ W_lᵀ Δ, Δ as GAIT-prop's.

    Δ = (f⁻¹(y_l) − f⁻¹(y_l − s D_l²∘e_l)) / s, which is D_l∘e_l but for units across the kink.
    μ = 0 is GAIT-prop, W⁻¹Δ. With μ → ∞ it becomes W_lᵀΔ, backpropagation (γ = 0). The factor 1 + μ
    makes that the limit, not its direction alone, and gives W_lᵀ for every μ where W_l is
    orthogonal: the theorem holds all along the bridge. μ > 0 bounds what a small singular value
    σ does: σ / (σ² + μ) in the place of 1 / σ.

    Levenberg, Quarterly of Applied Mathematics 2 (1944): damped least squares. GAIT-prop: arXiv
    2006.06438; the damped pseudo-inverse in target propagation: Meulemans et al., arXiv 2006.14331.

    Attributes:
        damping: μ.

    Raises:
        ArgumentError: μ is no number of 0 to 1e30.
    """

    damping: float

    def __post_init__(self) -> None:
        check_number("damping", self.damping)
        if not 0.0 <= self.damping <= _MOST:
            raise ArgumentError(f"damping is {self.damping!r}; allowed: 0 to {_MOST:g}")

    def __call__(self, layer: LayerView, error: Tensor, scale: float) -> Tensor:
        """The error of what the layer reads."""
        activation = layer.activation
        direction = activation.times_derivative(layer.local_error, layer.outputs)
        difference = activation.inverse_difference(layer.outputs, direction, scale)
        if self.damping == 0.0:
            return layer.solve(difference)
        # Divided by 1 + μ, the matrix is near I where W is near orthogonal, whatever μ.
        matrix = gram(layer.weight)
        matrix.diagonal(dim1=-2, dim2=-1).add_(self.damping)
        return solve_rows(matrix / (1.0 + self.damping), matmul(difference, layer.weight))


damped = RuleFamily(
    Damped,
    {"damping": Hyperparameter(1.0, "μ; 0: gait; without end: BP", ge=0.0, le=1e9)},
)
"""What ``Damped`` makes, by name."""
