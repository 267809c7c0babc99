"""Against the updates that the published code computed: 24 cases, every layer, weights and biases.

The published code keeps the transposes, y = x W + b, and stores minus the gradient.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gaitprop.losses import squared_error
from tests.gaitprop.oracles import Array, Case, literal, relative
from tests.gaitprop.rounding import (
    assert_within,
    forward_bounds,
    gradient_bounds,
    regularizer_bound,
)

VECTORS = Path(__file__).with_name("vectors")
NAMES = [
    f"{kind}_{activation}_{weights}_reg{orthogonality}"
    for kind in ("square2", "square3", "tower4")
    for activation in ("leaky", "linear")
    for weights in ("orth", "free")
    for orthogonality in ("0.0", "0.1")
]
U = np.finfo(float).eps / 2


@cache
def load(name: str) -> tuple[dict[str, Array], Case, dict[str, Any]]:
    with np.load(VECTORS / f"{name}.npz") as archive:
        stored = dict(archive)
    meta = json.loads(str(stored["meta"]))
    layers = range(len(meta["sizes"]) - 1)
    case = Case(
        tuple(meta["sizes"]),
        [np.ascontiguousarray(stored[f"W{i}"].T) for i in layers],
        [stored[f"b{i}"] for i in layers],
        stored["x"],
        stored["labels"].astype(np.int64),
        meta["n_classes"],
        1.0 if meta["linear"] else meta["negative_slope"],
    )
    return stored, case, meta


def test_all_the_cases_are_tested() -> None:
    assert sorted(path.stem for path in VECTORS.glob("*.npz")) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_activations(name: str) -> None:
    stored, case, _ = load(name)
    activations = case.network().forward(torch.tensor(case.inputs))
    bounds = forward_bounds(case, literal(case, "tp", 1.0), U)
    assert len(activations) == case.depth + 1
    for i, (received, bound) in enumerate(zip(activations, bounds, strict=True)):
        assert (np.abs(received.numpy() - stored[f"y{i}"]) <= 2 * bound).all(), f"y{i}"


@pytest.mark.parametrize("name", NAMES)
def test_target(name: str) -> None:
    """One-hot on the class outputs, the output itself elsewhere: the error is what is left."""
    stored, case, _ = load(name)
    outputs = stored[f"y{case.depth}"]
    error = squared_error(torch.tensor(outputs), torch.tensor(case.labels), case.n_classes)
    assert np.array_equal(error.numpy(), outputs - stored["target"])


@pytest.mark.parametrize("rule", ["bp", "tp"])
@pytest.mark.parametrize("name", NAMES)
def test_rules_that_do_not_amplify(name: str, rule: str) -> None:
    stored, case, meta = load(name)
    gradients = case.gradients(rule, meta["gamma"], meta["ortho_reg"])
    for i, (weight, bias) in enumerate(gradients):
        assert relative(weight, -stored[f"{rule}_dW{i}"].T) < 1e-10, f"layer {i + 1} weights"
        assert relative(bias, -stored[f"{rule}_db{i}"]) < 1e-10, f"layer {i + 1} biases"


@pytest.mark.parametrize("name", NAMES)
def test_gait_prop(name: str) -> None:
    """Within the sum of two bounds: the published code's rounding (γ^-k) and the library's."""
    stored, case, meta = load(name)
    gamma, orthogonality = meta["gamma"], meta["ortho_reg"]
    trace = literal(case, "gait", gamma, digits=50)
    theirs = gradient_bounds(case, trace, "gait", gamma, published=True)
    ours = gradient_bounds(case, trace, "gait", gamma)
    received = case.gradients("gait", gamma, orthogonality)
    for i, weight in enumerate(case.weights):
        regularizer = 2 * regularizer_bound(weight, orthogonality, U)
        bound = (theirs[i][0] + ours[i][0] + regularizer, theirs[i][1] + ours[i][1])
        expected = (-stored[f"gait_dW{i}"].T, -stored[f"gait_db{i}"])
        assert_within(received[i], expected, bound, f"layer {i + 1}")
        # The bound is tight enough to mean something, at the published code's noisiest too.
        assert np.linalg.norm(bound[0]) < 0.02 * np.linalg.norm(expected[0])
