"""What to say of a name that is not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

# What else settings are called, and what they are called here.
_OTHER_WORDS = {
    "lambda": "orthogonality",
    "λ": "orthogonality",
    "γ": "gamma",
    "lr": "learning_rate",
    "eta": "learning_rate",
    # One number for all layers, as `hidden_layers` has it; `widths` are a tower's.
    "width": "projection",
    "hidden_size": "projection",
    "depth": "hidden_layers",
    "layers": "hidden_layers",
    "nonlinearity": "activation",
    "initialization": "initialisation",
    "early_stopping": "patience",
    "scheduler": "schedule",
    "criterion": "loss",
    "dtype": "precision",
    "subset": "train_size",
}


def did_you_mean(received: str, allowed: Iterable[str]) -> str:
    """`` (did you mean 'mnist'?)``, or nothing where no allowed name is near; see ``nearest``."""
    near = nearest(received, allowed)
    return f" (did you mean {near!r}?)" if near is not None else ""


def nearest(received: str, allowed: Iterable[str]) -> str | None:
    """The allowed name that may be meant, if one is near; each may be dotted.

    Another word for a setting leads to the setting.
    """
    before, dot, word = received.lower().rpartition(".")
    meant = before + dot + usual_name(word)
    near = difflib.get_close_matches(meant, allowed, n=1)
    return near[0] if near else None


def usual_name(word: str) -> str:
    """What a setting is called here that others call so."""
    return _OTHER_WORDS.get(word.lower(), word)
