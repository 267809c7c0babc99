"""YAML that every reader reads alike, and that keeps comments on its way through."""

from __future__ import annotations

import io
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.representer import RoundTripRepresenter


class _Representer(RoundTripRepresenter):
    """``null`` in so many letters, and floats that YAML 1.1 takes for floats: not ``1e-05``."""

    def float_(self, value: float) -> ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:float", float_text(value))

    def null(self, _: None) -> ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:null", "null")


_Representer.add_representer(float, _Representer.float_)
_Representer.add_representer(type(None), _Representer.null)


def round_trip() -> YAML:
    """A reader and writer that keeps comments, order, quotes and the form of numbers."""
    yaml = YAML(typ="rt")
    yaml.Representer = _Representer
    yaml.preserve_quotes = True
    yaml.width = 4096  # lines stay as long as they are
    return yaml


def dumps(document: Any) -> str:
    """The document as text."""
    text = io.StringIO()
    round_trip().dump(document, text)
    return text.getvalue()


def float_text(value: float) -> str:
    """All digits of a finite number, with a point: 0.001, 1.0e-5."""
    mantissa, exponent_sign, exponent = repr(value).partition("e")
    if not exponent_sign:
        return mantissa
    point = "" if "." in mantissa else ".0"
    return f"{mantissa}{point}e{int(exponent):+d}"
