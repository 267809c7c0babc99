"""Portable numerics: the product's definition, the number of threads, what is promised and when."""

from __future__ import annotations

import itertools
import os
import platform
import subprocess
import sys

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from gaitprop import (
    RULES,
    Architecture,
    Convolution,
    Dense,
    InvertibleNetwork,
    constraints,
    layer_gradients,
    numerics,
)
from gaitprop.constraints import CONSTRAINTS
from gaitprop.errors import ArgumentError
from gaitprop.linalg import matmul
from gaitprop.losses import LOSSES
from gaitprop.numerics import CHAIN, chained, is_chained
from gaitprop.settings import OPTIMIZERS
from gaitprop.training import TrainingData, TrainingSettings, evaluate, make_optimizer, train

SHAPES = [
    (60, 784, 784),
    (784, 60, 784),
    (30, 401, 256),
    (8, 400, 500),
    (129, 257, 33),
    (17, 1201, 31),
]


def fused(product: Tensor, term: Tensor) -> Tensor:
    """Rounds product + term once, to float32: the product is exact in float64, the sum may not be.

    A float64 sum that is not exact is made odd in its last bit (rounding to odd), after which the
    second rounding, to 29 bits fewer, is as if there had been no first.
    """
    total = product + term
    error_of_term = term - (total - product)
    error_of_product = product - (total - (total - product))
    error = error_of_term + error_of_product
    bits = total.view(torch.int64)
    even = (bits & 1) == 0
    towards_zero = (error != 0) & ((error > 0) != (total > 0))
    # Truncate towards zero, then set the last bit: round to odd.
    truncated = torch.where(towards_zero, bits - 1, bits)
    odd = torch.where((error != 0) & (even | towards_zero), truncated | 1, bits)
    return odd.view(torch.float64).float()


def by_definition(left: Tensor, right: Tensor) -> Tensor:
    terms = left.shape[1]
    pieces = -(-terms // CHAIN)
    step = -(-terms // pieces)
    total = None
    for start in range(0, terms, step):
        chain = torch.zeros(left.shape[0], right.shape[1])
        for term in range(start, min(start + step, terms)):
            product = left[:, term : term + 1].double() * right[term].double()
            chain = fused(product, chain.double())
        total = chain if total is None else total + chain
    assert total is not None
    return total


def drawn(rows: int, terms: int, columns: int) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(rows * terms + columns)
    return torch.randn(rows, terms, generator=source), torch.randn(terms, columns, generator=source)


@pytest.mark.parametrize("shape", SHAPES)
def test_an_element_is_a_chain_of_fused_multiply_adds(shape):
    left, right = drawn(*shape)
    assert is_chained(left, right)
    assert torch.equal(chained(left, right), by_definition(left, right))


@pytest.mark.parametrize("shape", SHAPES)
def test_layout_and_threads_change_no_bit(shape, monkeypatch):
    left, right = drawn(*shape)
    expected = chained(left, right)
    wide = torch.cat([right, right], dim=1)[:, : right.shape[1]]
    for threads in (1, 2, 3, 7):
        monkeypatch.setattr(numerics, "_threads", threads)
        assert torch.equal(chained(left, right), expected)
        assert torch.equal(chained(left.mT.contiguous().mT, right), expected)
        assert torch.equal(chained(left, right.mT.contiguous().mT), expected)
        assert torch.equal(chained(left, wide), expected)
    assert torch.get_num_threads() == 1


def test_the_oracle_rounds_once():
    # 1 + 2⁻²⁴ + 2⁻⁶⁰: two roundings give 1, one gives the next number.
    half, little = torch.tensor([[1 + 2.0**-24], [2.0**-60]], dtype=torch.float64)
    assert fused(half, little) > 1
    assert fused(half, -little) == 1
    assert fused(-half, -little) < -1
    assert fused(-half, little) == -1


def test_small_double_and_thin_products_are_not_chained():
    left, right = drawn(60, 784, 784)
    assert not is_chained(left.double(), right.double())
    assert not is_chained(left[:4], right)
    assert not is_chained(left[:, :64], right[:64, :64])


def test_this_machine_is_in_the_promise():
    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("portable numerics are promised for x86-64 alone")
    assert numerics.mode() == "portable"
    assert numerics.why_not_portable() is None


def python(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **environment},
    )
    return done.stdout.strip()


def test_who_asks_too_late_is_told():
    too_late = (
        "import torch; a = torch.rand(64, 64); a @ a\n"
        "from gaitprop import numerics; numerics.use('portable')\n"
        "print(numerics.why_not_portable())"
    )
    assert "before" in python(too_late)


def test_defaults_of_dtype_and_device_break_no_promise():
    set_before = (
        "import torch; torch.set_default_dtype(torch.float64); torch.set_default_device('meta')\n"
        "from gaitprop import numerics; numerics.use('portable')\n"
        "print(numerics.why_not_portable())"
    )
    assert python(set_before) == "None"


def test_kernels_that_were_chosen_too_early_are_told():
    """A maximum uses no MKL; but PyTorch has chosen the kernels of this processor by then."""
    kernels = "torch.backends.cpu.get_cpu_capability()"
    early = (
        f"import torch; torch.ones(9).max(); print({kernels})\n"
        "from gaitprop import numerics; numerics.use('portable')\n"
        "print(numerics.why_not_portable())"
    )
    own, told = python(early).splitlines()
    assert (told == "None") if own == "AVX2" else (f"kernels are those for {own}" in told)
    assert python(early, ATEN_CPU_CAPABILITY="default").splitlines()[0] == "DEFAULT"
    assert "those for DEFAULT" in python(early, ATEN_CPU_CAPABILITY="default")


def test_initial_weights_do_not_depend_on_threads_without_portable_numerics_either():
    drawn = (
        "import torch, hashlib; torch.set_num_threads({}); from gaitprop import InvertibleNetwork\n"
        "network = InvertibleNetwork([300] * 3, dtype=torch.float64)\n"
        "bits = torch.cat(network.weights).numpy().tobytes()\n"
        "print(hashlib.sha256(bits).hexdigest(), torch.get_num_threads())"
    )
    one, two = (python(drawn.format(threads)).split() for threads in (1, 2))
    assert one[0] == two[0]
    assert two[1] == "2"


def test_a_portable_process_does_not_become_fast():
    with pytest.raises(ArgumentError, match="a process of its own"):
        numerics.use("fast")


@pytest.mark.parametrize(
    ("arguments", "message"), [(("exact",), "portable, fast"), (("fast", 0), "at least 1")]
)
def test_wrong_arguments_get_a_sentence(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        numerics.use(*arguments)


@pytest.mark.parametrize("amd", [True, False])
def test_fast_products_are_onednns_on_amd_alone(amd, monkeypatch):
    monkeypatch.setattr(numerics, "_mode", "fast")
    monkeypatch.setattr(numerics, "_is_of_amd", lambda: amd)
    left, right = drawn(256, 784, 200)
    assert is_chained(left, right) is amd
    assert not is_chained(left[:60], right)
    exact = left.double() @ right.double()
    for weight in (right, right.mT.contiguous().mT, right.clone().requires_grad_()):
        # Autograd gets its derivative.
        assert is_chained(left, weight) is (amd and not weight.requires_grad)
        product = matmul(left, weight)
        assert product.requires_grad is weight.requires_grad
        assert (product.double() - exact).norm() < 1e-6 * exact.norm()
    network, other = (InvertibleNetwork((300, 300, 300), seeds=(0, 1)) for _ in "12")
    images = torch.rand(40, 300, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(40) % 10
    found = layer_gradients(network, images, labels, 10, orthogonality=0.1)
    monkeypatch.setattr(numerics, "_is_of_amd", lambda: False)
    for one, two in zip(
        found, layer_gradients(other, images, labels, 10, orthogonality=0.1), strict=True
    ):
        assert (one.weight - two.weight).norm() < 1e-5 * two.weight.norm()


# PyTorch gives roots and transcendental functions of tensors to MKL, which rounds them otherwise on
# another make of processor (ATen/cpu/vml.h). What does not differ so:
MOVES = """
    _local_scalar_dense _to_copy _unsafe_view alias all any argmax aminmax clone constant_pad_nd
    copy detach diagonal eq equal expand full gather ge gt im2col index index_put le lift_fresh lt
    max min ne new_full new_zeros scalar_tensor scatter_add select slice stack transpose unbind
    unsqueeze view where zero zeros zeros_like bitwise_and bitwise_not bitwise_or randperm
    profiler::_record_function_enter_new profiler::_record_function_exit
"""
ROUNDED_ONCE = " abs add sub rsub mul div neg sign square leaky_relu leaky_relu_backward "
# In the order and by the functions of PyTorch's kernels for AVX2, or of MKL's mode COMPATIBLE.
ROUNDED_OFTEN = """
    _foreach_add _fused_adam _fused_adamw _fused_sgd _log_softmax _softmax sum col2im randn
    linalg_vector_norm mm bmm addmm baddbmm linalg_lu_factor_ex linalg_lu_solve linalg_qr
    _linalg_svd
"""


class Watch(TorchDispatchMode):
    """Writes down what PyTorch is asked for within the block; not what its kernels call."""

    def __init__(self) -> None:
        super().__init__()
        self.met: set[str] = set()

    def __torch_dispatch__(self, called, types, arguments=(), named=None):
        name = called._schema.name.removeprefix("aten::").rstrip("_")
        if name == "pow" and isinstance(arguments[1], int) and arguments[1] == 2:
            name = "square"
        self.met.add(name)
        return called(*arguments, **(named or {}))


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (torch.sqrt, "sqrt"),
        (torch.Tensor.exp_, "exp"),
        (lambda x: x**0.5, "pow"),
        (lambda x: 2.0**x, "pow"),
        (lambda x: x**2, "square"),
        (lambda x: torch._foreach_sqrt([x]), "_foreach_sqrt"),
    ],
)
def test_what_is_asked_for_is_met(function, name):
    ones = torch.ones(3)
    with Watch() as watch:
        function(ones)
    assert watch.met == {name}


@pytest.mark.parametrize("constraint", CONSTRAINTS)
@pytest.mark.parametrize("rule", RULES)
def test_a_training_asks_for_nothing_that_may_differ_between_makes(rule, constraint, monkeypatch):
    """Nor do its diagnostics, its evaluation, and steps so long that weights are made smaller."""
    made_smaller = []
    scale = constraints._squared_scale
    monkeypatch.setattr(
        constraints, "_squared_scale", lambda size: made_smaller.append(size) or scale(size)
    )
    rectangular = Architecture.of_widths((36, 16, 16, 9))
    layers = (Convolution(1, 3, 1, 1), Convolution(3, 2, 2), Dense(9))
    for architecture in (rectangular, Architecture((1, 6, 6), layers)):
        images, labels = torch.linspace(-1, 1, 1440).view(40, 36), torch.arange(40) % 3
        for loss, optimizer in zip(itertools.cycle(LOSSES), OPTIMIZERS, strict=False):
            settings = TrainingSettings(
                rule,
                learning_rate=0.01 if constraint == "none" else 0.5,
                batch_size=10,
                loss=loss,
                optimizer=optimizer,
                constraint=constraint,
            )
            with Watch() as watch:
                network = InvertibleNetwork(architecture, seeds=(0, 7))
                data = TrainingData(images, labels, images, labels, n_classes=3)
                list(train(network, make_optimizer(network, settings), data, settings))
                evaluate(network, images, labels, 3, loss=loss)
            assert watch.met <= set((MOVES + ROUNDED_ONCE + ROUNDED_OFTEN).split())
    assert bool(made_smaller) == (constraint == "orthogonal")
