"""What is watched in training, against the oracles; layers on their way to losing their inverse."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gaitprop import InvertibleNetwork, SingularLayerError, layer_gradients
from gaitprop.diagnostics import (
    alignment_with_bp,
    close_to_singular,
    condition_numbers,
    defects_of_errors,
    diagnose,
    inverse_defects,
    orthogonality_defects,
)
from gaitprop.linalg import solve_rows
from gaitprop.rules.feedback import FeedbackRule
from tests.gaitprop import plain
from tests.gaitprop.learned import LEARNED, trained
from tests.gaitprop.oracles import autograd_gradients, literal, random_case
from tests.gaitprop.plain import ARCHITECTURES

DTYPES = (torch.float32, torch.float64)


def with_singular_values(values: list[float], dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    """(n, n), random otherwise."""
    source = torch.Generator().manual_seed(seed)
    shape = (2, len(values), len(values))
    left, right = torch.linalg.qr(torch.randn(shape, generator=source, dtype=torch.float64))[0]
    return (left @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ right).to(dtype)


@pytest.mark.parametrize("rule", ["gait", "itp", "tp"])
@pytest.mark.parametrize("widths", [(6, 6, 6, 6), (9, 9, 7, 4)])
def test_alignment_is_the_oracles(rule: str, widths: tuple[int, ...]) -> None:
    """BP by autograd, the rule by its literal formula with 60 digits."""
    case = random_case(widths, weights="near", batch=20)
    expected = literal(case, rule, 1e-3, digits=60).gradients
    alignment = alignment_with_bp(
        case.network(),
        torch.tensor(case.inputs),
        torch.tensor(case.labels),
        case.n_classes,
        rule,
        1e-3,
    )
    for layer, (bp, own) in enumerate(zip(autograd_gradients(case, 0.0), expected, strict=True)):
        size, bp_size = np.linalg.norm(own[0]), np.linalg.norm(bp[0])
        cosine = (own[0] * bp[0]).sum() / (size * bp_size)
        assert alignment.cosine[layer].item() == pytest.approx(cosine, rel=1e-9)
        assert alignment.relative_norm[layer].item() == pytest.approx(size / bp_size, rel=1e-9)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_defects_of_errors_by_single_errors(name: str) -> None:
    """Every row of D∘e by itself, E as a matrix; errors by BP's own chain of layers."""
    network = plain.a_network(ARCHITECTURES[name], bend=0.1)
    batch = plain.a_batch(ARCHITECTURES[name])
    weights = [weight[0].clone() for weight in network.weights]
    biases = [bias[0] for bias in network.biases]
    units = plain.forward(network, weights, biases, batch.inputs.requires_grad_())
    classes = units[-1].flatten(1)[:, : batch.n_classes]
    target = torch.nn.functional.one_hot(batch.labels, batch.n_classes)
    errors = torch.autograd.grad((classes - target).square().sum() / 2, units[1:])
    batch.inputs.requires_grad_(False)
    received = defects_of_errors(network, *batch)[0]
    for layer, (error, weight) in enumerate(zip(errors, weights, strict=True)):
        local = error.where(units[layer + 1] > 0, 0.1 * error)
        above = sizes = 0.0
        for sample in local.flatten(2):
            for position in range(sample.shape[1]):
                row = sample[:, position]
                if len(weight) < weight.shape[1]:
                    excess = weight @ weight.T - torch.eye(len(weight), dtype=row.dtype)
                else:
                    row = weight.T @ row
                    excess = weight.T @ weight - torch.eye(weight.shape[1], dtype=row.dtype)
                above += float((excess @ row).square().sum())
                sizes += float(row.square().sum())
        assert received[layer].item() == pytest.approx((above / sizes) ** 0.5, rel=1e-10)


def test_few_directions_hide_in_the_mean_defect() -> None:
    """A weight that is wrong in the one direction of the only error, right in 39 others."""
    network = InvertibleNetwork((40, 40, 40), dtype=torch.float64)
    inputs = torch.randn(1, 40, generator=torch.Generator().manual_seed(1)).double()
    labels = torch.tensor([0])
    before = defects_of_errors(network, inputs, labels, 1)[0, 1]
    weight = network.weights[1][0]
    weight[0] *= 1.5  # the row of the only output that has an error
    after = defects_of_errors(network, inputs, labels, 1)[0, 1]
    assert before < 1e-14
    # W = diag(1.5, 1, …) Q: E = Qᵀ diag(1.5² − 1, 0, …) Q, and the error is along its direction.
    assert after.item() == pytest.approx(1.25, rel=1e-9)
    assert orthogonality_defects(network)[0, 1].item() == pytest.approx(1.25 / 40**0.5, rel=1e-9)


@pytest.mark.parametrize("rule", ["gait_learned_inverse", "gait_learned_from_transpose"])
def test_defects_of_learned_inverses_by_numpy(rule: str) -> None:
    network = trained((3, 5), rule=rule)
    assert network.feedback is not None
    found = inverse_defects(network)
    assert found is not None and found.shape == (2, network.depth - 1)
    for layer in range(2, network.depth + 1):
        inverses = network.feedback.layers[layer - 1]["inverse"].double().numpy()
        weights = network.weights[layer - 1].double().numpy()
        for seed, (inverse, weight) in enumerate(zip(inverses, weights, strict=True)):
            delta = np.linalg.norm(inverse @ weight - np.eye(len(weight)), 2)
            assert found[seed, layer - 2].item() == pytest.approx(delta, rel=1e-4)


@pytest.mark.parametrize("rule", ["bp", "gait", LEARNED])
def test_rules_that_learn_no_inverse_have_no_such_defect(rule: str | FeedbackRule) -> None:
    assert inverse_defects(trained((0,), rule=rule)) is None


def test_what_is_kept_for_another_rule_is_none_of_this_ones() -> None:
    network = trained((0,), rule="gait_learned_inverse")
    inputs, labels = torch.ones(2, network.widths[0]), torch.tensor([0, 1])
    kept = diagnose(network, inputs, labels, 2, "gait_learned_inverse", 0.0).inverse_defect
    own = inverse_defects(network)
    assert kept is not None and own is not None and torch.equal(kept, own)
    assert diagnose(network, inputs, labels, 2, "gait", 0.0).inverse_defect is None


@pytest.mark.parametrize("dtype", DTYPES)
def test_condition_numbers_and_defects_of_known_matrices(dtype: torch.dtype) -> None:
    matrices = [[1.0, 1.0, 1.0], [2.0, 2.0, 2.0], [5.0, 1.0, 0.5]]
    network = InvertibleNetwork.from_parameters(
        [with_singular_values(values, dtype)[None] for values in matrices],
        [torch.zeros(1, 3, dtype=dtype)] * 3,
    )
    conditions, defects = condition_numbers(network)[0], orthogonality_defects(network)[0]
    assert conditions.tolist() == pytest.approx([1.0, 1.0, 10.0], rel=1e-5)
    # ‖WᵀW − I‖_F² = Σ (σ² − 1)²
    expected = [sum((v**2 - 1) ** 2 for v in values) ** 0.5 / 3**0.5 for values in matrices]
    assert defects.tolist() == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_condition_numbers_of_singular_and_broken_layers() -> None:
    weights = torch.eye(4).repeat(3, 1, 1)
    weights[1, 2] = 0.0
    weights[2, 0, 0] = torch.nan
    network = InvertibleNetwork.from_parameters([weights], [torch.zeros(3, 4)])
    one, singular, broken = condition_numbers(network)[:, 0].tolist()
    assert one == 1.0
    assert singular == np.inf
    assert np.isnan(broken)
    assert close_to_singular(condition_numbers(network))[:, 0].tolist() == [False, True, False]


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_layer_is_close_to_singular_where_two_digits_are_left(dtype: torch.dtype) -> None:
    limit = 1e-2 / torch.finfo(dtype).eps
    for condition, close in ((limit / 3, False), (limit * 3, True)):
        values = np.geomspace(1.0, 1.0 / condition, 12).tolist()
        weight = with_singular_values(values, dtype)
        network = InvertibleNetwork.from_parameters([weight[None]], [torch.zeros(1, 12).to(dtype)])
        measured = condition_numbers(network)
        assert measured.item() == pytest.approx(condition, rel=0.3)
        assert close_to_singular(measured).item() is close


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_singular_layer_is_a_clear_failure(dtype: torch.dtype, threads: int) -> None:
    """Exactly singular, and singular but for rounding, where LAPACK itself says nothing."""
    exact = torch.ones(3, 3, dtype=dtype)
    rounded = torch.eye(3, dtype=dtype)
    rounded[:2, :2] = 1.0
    rounded[1, 1] += torch.finfo(dtype).eps
    good = with_singular_values([1.0, 1.0, 1e-3], dtype)
    torch.set_num_threads(threads)
    try:
        for bad in (exact, rounded):
            with pytest.raises(SingularLayerError, match=r"3 x 3 weight matrix is singular"):
                solve_rows(bad, torch.ones(2, 3, dtype=dtype))
            with pytest.raises(SingularLayerError, match=r"matrix 1: a .* is singular"):
                solve_rows(torch.stack([good, bad]), torch.ones(2, 2, 3, dtype=dtype))
        assert solve_rows(good, torch.ones(2, 3, dtype=dtype)).isfinite().all()
    finally:
        torch.set_num_threads(1)


def test_a_badly_scaled_layer_is_not_taken_for_a_singular_one() -> None:
    """Columns of lengths from 1 to 1e-5 are no trouble for a solve, and happen in training."""
    lengths = torch.logspace(0, -5, 8, dtype=torch.float64)
    weight = with_singular_values([1.0] * 8, torch.float64) * lengths
    rows = torch.randn(3, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    exact = rows @ torch.linalg.inv(weight).mT
    solved = solve_rows(weight.float(), rows.float()).double()
    assert ((solved - exact).norm(dim=0) / exact.norm(dim=0)).max() < 1e-4


def test_bp_does_not_mind_a_singular_layer() -> None:
    network = InvertibleNetwork((4, 4, 4, 4))
    network.weights[1][0] = 1.0
    inputs, labels = torch.rand(6, 4), torch.tensor([0, 1, 2, 3, 0, 1])
    assert layer_gradients(network, inputs, labels, 4, "bp")[0].weight.isfinite().all()
    with pytest.raises(SingularLayerError):
        layer_gradients(network, inputs, labels, 4, "gait")
    seen = diagnose(network, inputs, labels.expand(1, -1), 4, "bp", 0.0)
    assert seen.condition_number[0, 1] > 1e6
    assert seen.bp_cosine[0].tolist() == pytest.approx([1.0, 1.0, 1.0])
