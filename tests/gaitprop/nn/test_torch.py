"""What users of torch expect of a module, one thing a test."""

from __future__ import annotations

import inspect
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

import gaitprop
from gaitprop.nn import InvertibleConv2d, InvertibleLinear
from gaitprop.rules import find_rule
from tests.gaitprop.nn.models import assert_close, gradients, loss_of, small_batch, small_model

RULES = ("bp", "gait", "itp", "tp")

# SparseAdam is for sparse gradients alone.
OPTIMIZERS = [
    each
    for each in vars(torch.optim).values()
    if inspect.isclass(each)
    and issubclass(each, torch.optim.Optimizer)
    and each not in (torch.optim.Optimizer, torch.optim.SparseAdam)
]


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda each: each.__name__)
def test_optimizers_lower_the_loss(optimizer: type[torch.optim.Optimizer]) -> None:
    model = small_model()
    parameters = list(model.parameters())
    if optimizer is torch.optim.Muon:  # of matrices alone
        parameters = [each for each in parameters if each.dim() == 2]
    steps = optimizer(parameters, lr=1e-2)

    def closure() -> Tensor:
        steps.zero_grad()
        loss = loss_of(model)
        loss.backward()
        return loss

    before = float(loss_of(model).detach())
    for _ in range(10):
        steps.step(closure)
    assert float(loss_of(model).detach()) < before


def test_gradients_accumulate() -> None:
    model = small_model()
    images, labels = small_batch()
    whole = gradients(model, cross_entropy(model(images), labels, reduction="sum"))
    model.zero_grad()
    for part in (slice(0, 2), slice(2, None)):
        cross_entropy(model(images[part]), labels[part], reduction="sum").backward()
    assert_close([each.grad for each in model.parameters()], whole)


@pytest.mark.parametrize("rule", ["gait", "bp"])
def test_a_model_learns_from_a_data_loader(rule: str) -> None:
    torch.manual_seed(3)
    images = torch.randn(200, 1, 4, 4)
    labels = images.flatten(1)[:, :3].argmax(1)
    loader = DataLoader(TensorDataset(images, labels), batch_size=20, shuffle=True)
    model = small_model(rule)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(20):
        for some, answers in loader:
            optimizer.zero_grad()
            cross_entropy(model(some), answers).backward()
            optimizer.step()
    assert float((model(images).argmax(1) == labels).double().mean()) > 0.9


def test_backward_twice_needs_retain_graph() -> None:
    model = small_model()
    loss = loss_of(model)
    once = [each.clone() for each in gradients(model, loss_of(model))]
    loss.backward(retain_graph=True)
    loss.backward()
    assert_close([each.grad for each in model.parameters()], [3 * each for each in once])
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()


def test_frozen_parameters_get_nothing_and_pass_errors_on() -> None:
    model = small_model()
    expected = gradients(model, loss_of(model))
    model.zero_grad()
    model[4].requires_grad_(False)
    model[5].weight.requires_grad_(False)
    loss_of(model).backward()
    for parameter, before in zip(model.parameters(), expected, strict=True):
        assert parameter.grad is None or torch.equal(parameter.grad, before)
    frozen = {id(each) for each in [*model[4].parameters(), model[5].weight]}
    without = {id(each) for each in model.parameters() if each.grad is None}
    assert without == frozen


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_modes_without_gradients(mode: Any) -> None:
    model = small_model()
    images, _ = small_batch()
    with mode():
        outputs = model(images)
    assert not outputs.requires_grad
    assert torch.equal(outputs, model(images).detach())


def test_inputs_get_the_rules_error_and_hooks_see_it() -> None:
    model = small_model("gait")
    images, _ = small_batch()
    seen = []
    model[5].register_full_backward_hook(lambda _, below, __: seen.append(below[0]))
    images.requires_grad_()
    model(images).sum().backward()
    assert images.grad is not None
    assert seen[0].shape == (6, 8)
    assert not seen[0][:, 3:].any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_leaves_the_layers_in_float32(dtype: torch.dtype) -> None:
    """Only what torch's own layer between them loses is lost."""
    layer = InvertibleLinear(8, 8)
    inputs, error = torch.randn(4, 8, requires_grad=True), torch.randn(4, 8)
    wanted = [inputs, *layer.parameters()]
    expected = torch.autograd.grad(layer(inputs), wanted, error)
    with torch.autocast("cpu", dtype):
        outputs = layer(inputs)
        assert outputs.dtype == torch.float32
        assert torch.equal(outputs, layer(inputs))
        received = torch.autograd.grad(outputs, wanted, error)
        assert all(
            torch.equal(ours, theirs) for ours, theirs in zip(received, expected, strict=True)
        )
        low = inputs.detach().to(dtype).requires_grad_()
        layer(low).backward(error)
        assert low.grad.dtype == dtype
        model = small_model()
        gradients(model, loss_of(model))


# Dynamo makes an instance of every autograd.Function, of which autograd warns (torch 2.13.0).
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_without_a_graph_break(rule: str, backend: str) -> None:
    torch.compiler.reset()
    model = small_model(rule)
    compiled = torch.compile(model, fullgraph=True, backend=backend)
    expected = gradients(model, loss_of(model))
    assert_close(gradients(model, loss_of(compiled)), expected, 1e-6)
    with torch.no_grad():
        assert torch.equal(compiled(small_batch()[0]), model(small_batch()[0]))


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_compiled_it_heeds_a_rule_of_the_same_code_with_other_values() -> None:
    """Which Dynamo takes for the same constant (torch 2.13.0)."""

    def scaled(factor: float) -> gaitprop.Rule:
        return lambda layer, *_: factor * (layer.local_error @ layer.weight)

    torch.compiler.reset()
    inputs = torch.randn(3, 4, requires_grad=True)

    def received(model: Any) -> Tensor:
        return torch.autograd.grad(model(inputs).square().sum(), inputs)[0]

    for values in (
        (scaled(1.0), scaled(5.0)),
        [find_rule("damped", {"damping": d}) for d in (0.1, 9.0)],
    ):
        layer = InvertibleLinear(4, 4)
        with torch.no_grad():
            layer.weight.mul_(torch.tensor([0.3, 1.0, 2.0, 3.0]))
        compiled = torch.compile(layer, backend="eager")
        for rule in values:
            layer.rule = rule
            torch.testing.assert_close(received(compiled), received(layer))


def test_export_and_back() -> None:
    model = small_model().eval()
    images, _ = small_batch()
    batch = torch.export.Dim("batch")
    exported = torch.export.export(model, (images,), dynamic_shapes=({0: batch},))
    assert torch.equal(exported.module()(images), model(images))
    assert torch.equal(exported.module()(images[:3]), model(images[:3]))


@pytest.mark.parametrize("strict", [False, True])
def test_exported_without_gradients_it_loads_where_torch_is_alone(
    tmp_path: Path, strict: bool
) -> None:
    model = small_model().eval()
    images, _ = small_batch()
    with torch.no_grad():
        batch = torch.export.Dim("batch")
        shapes = ({0: batch},)
        exported = torch.export.export(model, (images,), dynamic_shapes=shapes, strict=strict)
        torch.export.save(exported, tmp_path / "model.pt2")
        torch.save((images[:3], model(images[:3])), tmp_path / "expected.pt")
    program = """
import sys, torch
model = torch.export.load(sys.argv[1]).module()
images, expected = torch.load(sys.argv[2])
torch.testing.assert_close(model(images), expected)
assert "gaitprop" not in sys.modules
"""
    paths = [str(tmp_path / name) for name in ("model.pt2", "expected.pt")]
    subprocess.run([sys.executable, "-W", "ignore", "-c", program, *paths], check=True)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("rule", ["gait", "tp", "kolen_pollack"])
def test_exported_with_gradients_it_refuses_to_be_trained(rule: str, strict: bool) -> None:
    """What an exporter left of it would learn by backpropagation, or not at all."""
    model = torch.nn.Sequential(InvertibleLinear(6, 6, rule), torch.nn.Linear(6, 2))
    inputs = torch.randn(3, 6)
    exported = torch.export.export(model, (inputs,), strict=strict).module()
    assert torch.equal(exported(inputs), model(inputs))
    with pytest.raises(RuntimeError, match=r"^a model of gaitprop\.nn that was exported"):
        exported(inputs).sum().backward()


@pytest.mark.parametrize("strict", [False, True])
def test_exported_under_autocast_it_computes_in_its_own_dtype(strict: bool) -> None:
    model, images = torch.nn.Sequential(*map(InvertibleLinear, (6, 6), (6, 6))), torch.randn(3, 6)
    with torch.no_grad():
        with torch.autocast("cpu", torch.bfloat16):
            exported = torch.export.export(model, (images,), strict=strict).module()
        assert torch.equal(exported(images), model(images))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("layer", [InvertibleLinear(4, 4), InvertibleConv2d(1, kernel_size=2)])
def test_traced_it_learns_by_its_rule(layer: torch.nn.Module) -> None:
    inputs = torch.randn(2, 1, 4, 4, requires_grad=True)
    expected = gradients(layer, layer(inputs).square().sum())
    traced = torch.jit.trace(layer, inputs)
    found = gradients(layer, traced(inputs).square().sum())
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("layer", [InvertibleLinear(4, 4), InvertibleConv2d(1, kernel_size=2)])
def test_symbols_are_refused(layer: torch.nn.Module) -> None:
    with pytest.raises(gaitprop.ArgumentError, match=r"^input is a Proxy; allowed: a tensor"):
        torch.fx.symbolic_trace(layer)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_compiled_within_a_vmap_it_says_that_it_has_no_gradients() -> None:
    torch.compiler.reset()
    model, inputs = torch.nn.Sequential(InvertibleLinear(4, 4)), torch.randn(3, 4)
    stacked, _ = torch.func.stack_module_state([model, model])
    every = torch.func.vmap(lambda each: torch.func.functional_call(model, each, (inputs,)))
    outputs = torch.compile(every, backend="eager")(stacked)
    with pytest.raises(RuntimeError, match=r"exported, or compiled within torch\.func\.vmap, was"):
        outputs.sum().backward()


def test_a_trained_optimizer_and_model_go_on_after_pickle() -> None:
    model = small_model()
    optimizer = torch.optim.AdamW(model.parameters())
    for _ in range(2):
        optimizer.zero_grad()
        loss_of(model).backward()
        optimizer.step()
    other, state = pickle.loads(pickle.dumps((model, optimizer.state_dict())))
    again = torch.optim.AdamW(other.parameters())
    again.load_state_dict(state)
    for each, steps in ((model, optimizer), (other, again)):
        steps.zero_grad()
        loss_of(each).backward()
        steps.step()
    pairs = zip(model.parameters(), other.parameters(), strict=True)
    assert all(torch.equal(ours, theirs) for ours, theirs in pairs)


def test_it_is_there_once_the_library_is() -> None:
    code = "import gaitprop; print(gaitprop.nn.InvertibleLinear(2, 2))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.startswith("InvertibleLinear(")
    with pytest.raises(AttributeError, match="has no attribute 'nm'"):
        _ = gaitprop.nm
    assert (Path(str(gaitprop.__file__)).parent / "py.typed").exists()


def test_it_needs_torch_alone() -> None:
    """A step in a process that has no NumPy."""
    program = """
import sys
sys.modules["numpy"] = None
import torch
from gaitprop.nn import InvertibleConv2d, InvertibleLinear, orthogonality_penalty
patches = InvertibleConv2d(1, kernel_size=2)
model = torch.nn.Sequential(patches, torch.nn.Flatten(), InvertibleLinear(36, 8))
(model(torch.randn(3, 1, 4, 4)).sum() + orthogonality_penalty(model)).backward()
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True)
