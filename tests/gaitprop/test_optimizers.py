"""Each optimizer by its textbook formula, over a whole training; fused or not must not matter."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LRScheduler, StepLR

from gaitprop import ArgumentError, InvertibleNetwork, layer_gradients
from gaitprop.optimizers import make_optimizer, scheduled
from gaitprop.rules import find_rule
from gaitprop.settings import OPTIMIZERS, SCHEDULES, TrainingSettings
from gaitprop.training import train_step

SETTINGS = TrainingSettings(
    learning_rate=0.01, beta1=0.8, beta2=0.95, epsilon=1e-6, momentum=0.7, weight_decay=0.03
)
STEPS = 5
State = dict[str, Tensor | float]


def adam(parameter: Tensor, gradient: Tensor, state: State, step: int) -> Tensor:
    """Kingma and Ba, arXiv 1412.6980, algorithm 1; the decay is part of the gradient."""
    return _adaptive(parameter, gradient + 0.03 * parameter, state, step)


def adamw(parameter: Tensor, gradient: Tensor, state: State, step: int) -> Tensor:
    """Loshchilov and Hutter, arXiv 1711.05101, algorithm 2: the decay is apart."""
    return _adaptive(parameter, gradient, state, step) - 0.01 * 0.03 * parameter


def sgd(parameter: Tensor, gradient: Tensor, state: State, step: int) -> Tensor:
    """v ← μ v + g, W ← W − η v."""
    state["v"] = 0.7 * state.get("v", 0.0) + gradient + 0.03 * parameter
    return parameter - 0.01 * state["v"]


def _adaptive(parameter: Tensor, gradient: Tensor, state: State, step: int) -> Tensor:
    state["m"] = 0.8 * state.get("m", 0.0) + 0.2 * gradient
    state["v"] = 0.95 * state.get("v", 0.0) + 0.05 * gradient**2
    mean, square = state["m"] / (1 - 0.8**step), state["v"] / (1 - 0.95**step)
    return parameter - 0.01 * mean / (square.sqrt() + 1e-6)


FORMULAS: dict[str, Callable[..., Tensor]] = {"adam": adam, "adamw": adamw, "sgd": sgd}


def test_every_optimizer_has_its_formula() -> None:
    assert tuple(FORMULAS) == OPTIMIZERS


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_are_the_textbooks(name: str) -> None:
    settings = replace(SETTINGS, optimizer=name, orthogonality=0.0)
    source = torch.Generator().manual_seed(0)
    inputs = torch.randn(2, 8, 6, dtype=torch.float64, generator=source)
    labels = torch.randint(3, (2, 8), generator=source)
    network, plain = (InvertibleNetwork((6, 6, 4), seeds=(0, 1), dtype=torch.float64) for _ in "12")
    optimizer, rule = make_optimizer(network, settings), find_rule("gait")
    states: list[State] = [{} for _ in plain.parameters()]
    for step in range(1, STEPS + 1):
        train_step(network, optimizer, inputs, labels, 3, rule, settings)
        gradients = layer_gradients(plain, inputs, labels, 3, "gait")
        flat = [g.weight for g in gradients] + [g.bias for g in gradients]
        for parameter, gradient, state in zip(plain.parameters(), flat, states, strict=True):
            parameter.copy_(FORMULAS[name](parameter.clone(), gradient, state, step))
    for ours, theirs in zip(network.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_one_layer_keeps_nothing_that_a_rule_could_learn(name: str) -> None:
    found = []
    for rule in ("bp", "kolen_pollack"):
        network, settings = InvertibleNetwork((4, 3)), replace(SETTINGS, rule=rule, optimizer=name)
        optimizer = make_optimizer(network, settings)
        batch = torch.ones(1, 2, 4), torch.tensor([[0, 1]])
        for _ in range(2):
            train_step(network, optimizer, *batch, 3, find_rule(rule), settings)
        found.append(network.parameters())
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*found, strict=True))


THEIRS = {
    "adam": (torch.optim.Adam, ("betas", "eps", "weight_decay")),
    "adamw": (torch.optim.AdamW, ("betas", "eps", "weight_decay")),
    "sgd": (torch.optim.SGD, ("momentum", "weight_decay")),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_and_states_are_pytorchs_own_to_the_bit(name: str) -> None:
    source = torch.Generator().manual_seed(0)
    network, plain = (InvertibleNetwork((37, 37, 13), seeds=(0, 1)) for _ in "12")
    ours = make_optimizer(network, replace(SETTINGS, optimizer=name))
    kind, options = THEIRS[name]
    given = {option: ours.param_groups[0][option] for option in options}
    theirs = kind(plain.parameters(), lr=0.01, fused=True, **given)
    for step in range(2 * STEPS):
        if step == STEPS:
            # Goes on from a state, in either direction.
            state = copy.deepcopy(theirs.state_dict())
            theirs.load_state_dict(copy.deepcopy(ours.state_dict()))
            ours.load_state_dict(state)
        for parameter, other in zip(network.parameters(), plain.parameters(), strict=True):
            parameter.grad = torch.randn(parameter.shape, generator=source)
            other.grad = parameter.grad.clone()
        ours.step()
        theirs.step()
    for parameter, other in zip(network.parameters(), plain.parameters(), strict=True):
        assert torch.equal(parameter, other)


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_a_closure_is_refused_not_ignored(name: str) -> None:
    optimizer = make_optimizer(InvertibleNetwork((4, 4)), replace(SETTINGS, optimizer=name))
    with pytest.raises(TypeError, match="takes 1 positional argument but 2 were given"):
        optimizer.step(lambda: 0.0)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_does_not_load_the_compiler(name: str) -> None:
    program = f"""
import sys
import torch
from gaitprop import InvertibleNetwork
from gaitprop.rules import find_rule
from gaitprop.settings import TrainingSettings
from gaitprop.training import make_optimizer, train_step
network, settings = InvertibleNetwork((4, 4)), TrainingSettings(optimizer="{name}")
optimizer = make_optimizer(network, settings)
batch = torch.rand(1, 3, 4), torch.zeros(1, 3, dtype=torch.long)
train_step(network, optimizer, *batch, 2, find_rule("gait"), settings)
optimizer.load_state_dict(optimizer.state_dict())
optimizer.zero_grad()
sys.exit("torch._dynamo" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


THEIR_SCHEDULES: dict[str, Callable[[torch.optim.Optimizer], LRScheduler]] = {
    "constant": lambda optimizer: ConstantLR(optimizer, factor=1.0),
    "cosine": lambda optimizer: CosineAnnealingLR(optimizer, T_max=9),
    "step": lambda optimizer: StepLR(optimizer, step_size=4, gamma=0.3),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_are_pytorchs_own(name: str) -> None:
    settings = replace(SETTINGS, epochs=9, schedule=name, schedule_interval=4, schedule_factor=0.3)
    plain = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=settings.learning_rate)
    theirs = THEIR_SCHEDULES[name](plain)
    for epoch in range(settings.epochs):
        assert scheduled(settings.learning_rate, settings, epoch) == pytest.approx(
            theirs.get_last_lr()[0], rel=1e-12
        )
        plain.step()
        theirs.step()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer": "lion"}, "optimizer is 'lion'; allowed: adam, adamw, sgd"),
        ({"momentum": 1.0}, "momentum is 1.0; allowed: 0 to below 1"),
        ({"momentum": -0.1}, "momentum is -0.1"),
        ({"beta1": 1.0}, "beta1 is 1.0"),
        ({"beta2": float("nan")}, "beta2 is nan"),
        ({"epsilon": -1e-8}, "epsilon is -1e-08; allowed: 0 or more"),
        ({"weight_decay": -1.0}, "weight_decay is -1.0"),
        ({"weight_decay": float("inf")}, "weight_decay is inf"),
        ({"loss": "hinge"}, "loss is 'hinge'; allowed: squared_error, cross_entropy"),
        ({"penalty": "l1"}, "penalty is 'l1'; allowed: off_diagonal, full"),
        ({"schedule": "linear"}, "schedule is 'linear'; allowed: constant, cosine, step"),
        ({"schedule_factor": 0.0}, "schedule_factor is 0.0; allowed: above 0"),
        ({"schedule_interval": 0}, "schedule_interval is 0; allowed: at least 1"),
        ({"constraint": "unit"}, "constraint is 'unit'; allowed: none, orthogonal"),
    ],
)
def test_what_is_not_allowed_is_refused(changes: dict, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        make_optimizer(InvertibleNetwork((4, 4)), replace(SETTINGS, **changes))
