"""Learning rules for torch's own models: modules whose ``backward`` is a rule.

``InvertibleLinear`` and ``InvertibleConv2d`` are layers like torch's, activation included; any
loss, optimizer and training loop works with them. The rules are the engine's, of
``gaitprop.rules``. See docs/torch.md.
"""

from gaitprop.nn.convert import Conversion, convert
from gaitprop.nn.functional import invertible_conv2d, invertible_linear
from gaitprop.nn.layers import InvertibleConv2d, InvertibleLinear
from gaitprop.nn.orthogonal import orthogonal_, orthogonality_penalty

__all__ = [
    "Conversion",
    "InvertibleConv2d",
    "InvertibleLinear",
    "convert",
    "invertible_conv2d",
    "invertible_linear",
    "orthogonal_",
    "orthogonality_penalty",
]
