"""What can go wrong in the library; every message says what was received and what is allowed."""


class GaitpropError(Exception):
    """Base of the library's own exceptions."""


class ArgumentError(GaitpropError, ValueError):
    """An argument's value or shape is not allowed."""


class SingularLayerError(GaitpropError, ArithmeticError):
    """A layer's weight matrix has no inverse, so a rule that inverts the layer is undefined."""


class DivergenceError(GaitpropError, ArithmeticError):
    """Training left the finite numbers."""
