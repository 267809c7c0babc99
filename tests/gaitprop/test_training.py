"""The training loop: seeds together or alone, interrupted or not, against a plain autograd loop."""

from __future__ import annotations

import copy
import itertools
from dataclasses import replace
from typing import Any

import numpy
import pytest
import torch

from gaitprop import (
    RULES,
    ArgumentError,
    DivergenceError,
    InvertibleNetwork,
    layer_gradients,
    training,
)
from gaitprop.feedback import feedback_of
from gaitprop.gradients import updates
from gaitprop.losses import LOSSES
from gaitprop.regularizer import PENALTIES, penalty
from gaitprop.rules import find_rule
from gaitprop.rules.feedback import Feedback
from gaitprop.seeding import generator
from gaitprop.settings import SCHEDULES
from gaitprop.training import (
    EpochRecord,
    TrainingData,
    TrainingSettings,
    evaluate,
    make_best_epochs,
    make_optimizer,
    train,
    train_step,
)
from tests.gaitprop.plain import CONVOLUTIONS

WIDTHS = {"square": [16] * 5, "tower": [32, 32, 16, 16]}
SEEDS = (3, 0, 11, 7, 5)


def clouds(inputs: int = 16, dtype: torch.dtype = torch.float32) -> TrainingData:
    """Four Gaussian clouds."""
    source = generator(0, "clouds")
    centres = torch.rand(4, inputs, generator=source, dtype=torch.float64)
    labels = torch.randint(4, (130,), generator=source)
    noise = torch.randn(130, inputs, generator=source, dtype=torch.float64)
    images = (centres[labels] + 0.1 * noise).to(dtype)
    return TrainingData(images[:100], labels[:100], images[100:], labels[100:], n_classes=4)


def settings_for(rule: str) -> TrainingSettings:
    return TrainingSettings(
        rule=rule, learning_rate=1e-3, orthogonality=0.1, epochs=4, batch_size=16, probe_size=32
    )


def trained(
    widths: list[int],
    seeds: tuple[int, ...],
    settings: TrainingSettings,
    dtype: torch.dtype = torch.float32,
) -> tuple[InvertibleNetwork, list[EpochRecord]]:
    network = InvertibleNetwork(widths, seeds=seeds, dtype=dtype)
    data = clouds(inputs=widths[0], dtype=dtype)
    records = list(train(network, make_optimizer(network, settings), data, settings))
    return network, records


@pytest.mark.parametrize("shape", WIDTHS)
@pytest.mark.parametrize("rule", RULES)
def test_seeds_together_are_single_runs_bit_for_bit(rule: str, shape: str) -> None:
    settings = settings_for(rule)
    together, records = trained(WIDTHS[shape], SEEDS, settings)
    for index, seed in enumerate(SEEDS):
        alone, alone_records = trained(WIDTHS[shape], (seed,), settings)
        for ours, theirs in zip(together.parameters(), alone.parameters(), strict=True):
            assert torch.equal(ours[index], theirs[0])
        for ours, theirs in zip(records, alone_records, strict=True):
            assert torch.equal(ours.validation.loss[index], theirs.validation.loss[0])
            assert ours.diagnostics is not None and theirs.diagnostics is not None
            for left, right in zip(ours.diagnostics, theirs.diagnostics, strict=True):
                assert (left is None) == (right is None)
                assert left is None or torch.equal(left[index], right[0])


@pytest.mark.parametrize("rule", RULES)
def test_seeds_together_are_single_runs_to_rounding_at_odd_widths(rule: str) -> None:
    """Where a seed's block of memory is no multiple of 64 bytes, MKL and Adam round otherwise.

    In float64, since Adam's division by the gradient's own size makes much of small differences.
    """
    settings = replace(settings_for(rule), batch_size=15, learning_rate=1e-4)
    widths = [16, 13, 11, 7, 5]
    together, _ = trained(widths, SEEDS, settings, torch.float64)
    for index, seed in enumerate(SEEDS):
        alone, _ = trained(widths, (seed,), settings, torch.float64)
        for ours, theirs in zip(together.parameters(), alone.parameters(), strict=True):
            torch.testing.assert_close(ours[index], theirs[0], rtol=1e-6, atol=1e-9)


def test_seeds_differ() -> None:
    network, _ = trained(WIDTHS["square"], SEEDS, settings_for("bp"))
    assert not torch.equal(network.weights[0][0], network.weights[0][1])


def early(rule: str, **changes: Any) -> TrainingSettings:
    """With seeds that end at different times, by a learning rate at which accuracy jumps about."""
    return replace(
        settings_for(rule),
        learning_rate=0.03,
        epochs=30,
        patience=2,
        diagnostics_interval=5,
        **changes,
    )


@pytest.mark.parametrize("rule", ["bp", "gait"])
def test_early_stopping_keeps_each_seeds_best_epoch(rule: str) -> None:
    """By a plain loop over records and weights of all epochs, a seed at a time."""
    settings = early(rule)
    network, records = trained(WIDTHS["square"], SEEDS, settings)
    plain = InvertibleNetwork(WIDTHS["square"], seeds=SEEDS)
    weights, validation = [], []
    whole = replace(settings, patience=None)
    for record in train(plain, make_optimizer(plain, whole), clouds(), whole):
        weights.append([each.clone() for each in plain.parameters()])
        validation.append(record.validation)
    ends = []
    for seed in range(len(SEEDS)):
        best, end = 1, settings.epochs
        for epoch in range(2, settings.epochs + 1):
            if epoch - 1 - best >= settings.patience:
                end = epoch - 1
                break
            here, there = validation[epoch], validation[best]
            if (here.accuracy[seed], -here.loss[seed]) > (there.accuracy[seed], -there.loss[seed]):
                best = epoch
        ends.append(end)
        assert records[-1].kept[seed] == best
        for ours, theirs in zip(network.parameters(), weights[best], strict=True):
            assert torch.equal(ours[seed], theirs[seed])
    assert len(set(ends)) > 1, "seeds that end together test little"
    assert records[-1].epoch == max(ends) < settings.epochs
    assert [record.last for record in records] == [False] * max(ends) + [True]
    assert records[-1].diagnostics is not None


def test_early_stopping_of_seeds_together_is_that_of_single_runs() -> None:
    together, _ = trained(WIDTHS["square"], SEEDS, early("gait"))
    for index, seed in enumerate(SEEDS):
        alone, _ = trained(WIDTHS["square"], (seed,), early("gait"))
        for ours, theirs in zip(together.parameters(), alone.parameters(), strict=True):
            assert torch.equal(ours[index], theirs[0])


@pytest.mark.parametrize("behind", [1, 4, 100])
def test_early_stopping_goes_on_from_its_state(behind: int) -> None:
    settings = early("gait")
    whole, records = trained(WIDTHS["square"], SEEDS, settings)
    first = InvertibleNetwork(WIDTHS["square"], seeds=SEEDS)
    optimizer, best = make_optimizer(first, settings), make_best_epochs(first, settings)
    for record in train(first, optimizer, clouds(), settings, best=best):
        state = ([p.clone() for p in first.parameters()], best.state_dict())
        if record.epoch == behind:
            break
    second = InvertibleNetwork(WIDTHS["square"], seeds=SEEDS)
    for parameter, saved in zip(second.parameters(), state[0], strict=True):
        parameter.copy_(saved)
    going_on, rest = make_optimizer(second, settings), make_best_epochs(second, settings)
    going_on.load_state_dict(optimizer.state_dict())
    rest.load_state_dict(state[1])
    late = list(train(second, going_on, clouds(), settings, record.epoch, best=rest))
    assert [each.epoch for each in late] == [r.epoch for r in records if r.epoch > record.epoch]
    for ours, theirs in zip(second.parameters(), whole.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_early_stopping_trains_parameters_that_ask_for_a_gradient() -> None:
    settings = replace(settings_for("gait"), patience=1, epochs=2)
    plain, asking = (InvertibleNetwork(WIDTHS["square"]) for _ in range(2))
    for each in asking.parameters():
        each.requires_grad_()
    for network in (plain, asking):
        list(train(network, make_optimizer(network, settings), clouds(), settings))
    assert all(map(torch.equal, plain.parameters(), asking.parameters()))


def test_early_stopping_of_another_network_is_refused() -> None:
    settings = replace(settings_for("gait"), patience=1)
    network = InvertibleNetwork(WIDTHS["square"])
    optimizer, best = make_optimizer(network, settings), make_best_epochs(network, settings)
    other = make_best_epochs(InvertibleNetwork(WIDTHS["square"], seeds=(0, 1)), settings)
    assert best is not None
    assert other is not None
    for wrong, patience in ((other, 1), (best, 2), (best, None)):
        chosen = replace(settings, patience=patience)
        with pytest.raises(ArgumentError, match=r"best is of patience 1 and .*; allowed: what"):
            list(train(network, optimizer, clouds(), chosen, best=wrong))
    with pytest.raises(ArgumentError, match="best is a dict; allowed: from make_best_epochs"):
        list(train(network, optimizer, clouds(), settings, best={}))  # type: ignore[arg-type]
    for state in (best.state_dict(), {}, {**other.state_dict(), "epoch": 3}):
        with pytest.raises(ArgumentError, match=r"the state has {.*; allowed: {'epoch': "):
            other.load_state_dict(state)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_an_optimizer_of_another_network_is_refused(optimizer: str) -> None:
    """A copy's parameters would stay as they are, without a word."""
    settings = replace(settings_for("gait"), optimizer=optimizer)
    network = InvertibleNetwork(WIDTHS["square"])
    made = make_optimizer(network, settings)
    with pytest.raises(ArgumentError, match="no steps of all that is to be learned; allowed"):
        list(train(copy.deepcopy(network), made, clouds(), settings))


@pytest.mark.parametrize("changed", [{"beta1": 0}, {"beta2": numpy.float32(0.5)}])
def test_decays_that_are_allowed_are_taken(changed: dict) -> None:
    settings = replace(settings_for("gait"), epochs=1, **changed)
    network = InvertibleNetwork(WIDTHS["square"])
    assert list(train(network, make_optimizer(network, settings), clouds(), settings))


def test_early_stopping_does_not_go_on_from_nothing() -> None:
    settings, network = early("gait"), InvertibleNetwork(WIDTHS["square"])
    with pytest.raises(ArgumentError, match="best is None with patience 2 and first_epoch 1; allo"):
        next(train(network, make_optimizer(network, settings), clouds(), settings, 1))


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("rule", RULES)
def test_resumed_training_is_uninterrupted_training(rule: str, schedule: str) -> None:
    settings = replace(settings_for(rule), schedule=schedule, schedule_interval=2)
    whole, records = trained(WIDTHS["tower"], SEEDS, settings)

    first = InvertibleNetwork(WIDTHS["tower"], seeds=SEEDS)
    optimizer = make_optimizer(first, settings)
    early = list(itertools.islice(train(first, optimizer, clouds(32), settings), 3))
    second = InvertibleNetwork.from_parameters(
        first.weights, first.biases, input_width=32, seeds=SEEDS
    )
    restored = make_optimizer(second, settings)
    restored.load_state_dict(optimizer.state_dict())
    for kept, saved in zip(second.kept(), first.kept(), strict=True):
        kept.copy_(saved)
    late = list(train(second, restored, clouds(32), settings, first_epoch=2))

    assert [record.epoch for record in early + late] == [record.epoch for record in records]
    for ours, theirs in zip(second.parameters(), whole.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert torch.equal(late[-1].validation.loss, records[-1].validation.loss)


def test_an_epoch_is_trained_with_its_own_learning_rate() -> None:
    settings = replace(settings_for("bp"), schedule="step", schedule_interval=1, epochs=3)
    network = InvertibleNetwork(WIDTHS["square"], seeds=SEEDS)
    plain = InvertibleNetwork(WIDTHS["square"], seeds=SEEDS)
    ours, theirs = make_optimizer(network, settings), make_optimizer(plain, settings)
    list(train(network, ours, clouds(), settings))
    for epoch in range(3):
        for group in theirs.param_groups:
            group["lr"] = 1e-3 * 0.1**epoch
        constant = replace(settings, schedule="constant", epochs=epoch + 1)
        list(train(plain, theirs, clouds(), constant, first_epoch=epoch))
    for left, right in zip(network.parameters(), plain.parameters(), strict=True):
        assert torch.equal(left, right)


def test_bp_follows_autograd_and_plain_adam() -> None:
    """Two epochs in float64 against the textbook: autograd and an unfused Adam, seed by seed."""
    settings = replace(settings_for("bp"), epochs=2)
    data = clouds(32, torch.float64)
    network = InvertibleNetwork(WIDTHS["tower"], seeds=(3, 8), dtype=torch.float64)
    records = list(train(network, make_optimizer(network, settings), data, settings))
    for index, seed in enumerate(network.seeds):
        start = InvertibleNetwork(WIDTHS["tower"], seeds=(seed,), dtype=torch.float64)
        weights = [w[0].clone().requires_grad_() for w in start.weights]
        biases = [b[0].clone().requires_grad_() for b in start.biases]
        adam = torch.optim.Adam([*weights, *biases], lr=1e-3, betas=(0.9, 0.99), foreach=False)
        losses = []
        for epoch in range(2):
            order = torch.randperm(100, generator=generator(seed, "shuffling", epoch))
            for batch in order[:96].split(16):
                units = data.images[batch]
                for weight, bias in zip(weights, biases, strict=True):
                    hidden = units[:, : len(weight)] @ weight.T + bias
                    units = torch.nn.functional.leaky_relu(hidden, 0.1)
                target = torch.nn.functional.one_hot(data.labels[batch], 4)
                loss = (units[:, :4] - target).square().sum() / 2 / 16
                losses.append(loss.item())
                adam.zero_grad()
                (loss + 0.1 * sum(penalty(weight) for weight in weights)).backward()
                adam.step()
        for ours, theirs in zip(network.parameters(), [*weights, *biases], strict=True):
            torch.testing.assert_close(ours[index], theirs.detach(), rtol=1e-6, atol=1e-8)
        assert records[-1].training is not None
        mean = sum(losses[6:]) / 6
        assert records[-1].training.loss[index].item() == pytest.approx(mean, rel=1e-9)


def test_parameters_stay_contiguous_and_learning_works() -> None:
    """A column-major parameter would train on scrambled gradients, silently."""
    network, records = trained(WIDTHS["square"], SEEDS, replace(settings_for("gait"), epochs=60))
    assert all(parameter.is_contiguous() for parameter in network.parameters())
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert all(parameter.grad.stride() == parameter.stride() for parameter in network.parameters())
    assert records[-1].validation.accuracy.min() > 0.9
    assert records[0].validation.accuracy.max() < 0.6


def test_records_are_what_a_look_from_outside_finds() -> None:
    settings = settings_for("gait")
    network, records = trained(WIDTHS["tower"], SEEDS, settings)
    data, last = clouds(32), records[-1]
    seen = last.diagnostics
    assert seen is not None
    assert [record.epoch for record in records] == [0, 1, 2, 3, 4]
    assert records[0].training is None
    for index in range(len(SEEDS)):
        outputs = network.forward(data.validation_images)[-1][index, :, :4]
        hits = (outputs.argmax(-1) == data.validation_labels).double().mean()
        assert last.validation.accuracy[index] == pytest.approx(hits.item())
        target = torch.nn.functional.one_hot(data.validation_labels, 4)
        loss = (outputs - target).square().sum(-1).mean() / 2
        assert last.validation.loss[index] == pytest.approx(loss.item(), rel=1e-5)
        single = InvertibleNetwork.from_parameters(
            [w[index] for w in network.weights], [b[index] for b in network.biases], input_width=32
        )
        probe = data.images[:32], data.labels[:32], 4
        pairs = zip(
            layer_gradients(single, *probe, rule="gait"),
            layer_gradients(single, *probe, rule="bp"),
            single.weights,
            strict=True,
        )
        for layer, (gait, bp, weight) in enumerate(pairs):
            cosine = torch.cosine_similarity(gait.weight.flatten(), bp.weight.flatten(), dim=0)
            ratio = gait.weight.norm() / bp.weight.norm()
            defect = torch.dist(weight.T @ weight, torch.eye(len(weight))) / len(weight) ** 0.5
            assert seen.bp_cosine[index, layer] == pytest.approx(cosine.item(), abs=1e-5)
            assert seen.bp_relative_norm[index, layer] == pytest.approx(ratio.item(), rel=1e-4)
            assert seen.orthogonality_defect[index, layer] == pytest.approx(defect.item(), rel=1e-4)
            condition = torch.linalg.cond(weight.double())
            assert seen.condition_number[index, layer] == pytest.approx(condition.item(), rel=1e-4)


def test_diagnostics_come_at_their_interval_and_at_both_ends() -> None:
    settings = replace(settings_for("gait"), epochs=5, diagnostics_interval=3)
    network, records = trained(WIDTHS["tower"], SEEDS, settings)
    seen = [record.epoch for record in records if record.diagnostics is not None]
    assert seen == [0, 3, 5]
    every, all_records = trained(WIDTHS["tower"], SEEDS, replace(settings, diagnostics_interval=1))
    for ours, theirs in zip(network.parameters(), every.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    for left, right in zip(records[3].diagnostics, all_records[3].diagnostics, strict=True):
        assert left is right is None or torch.equal(left, right)


def test_evaluation_does_not_depend_on_its_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    network, data = InvertibleNetwork(WIDTHS["tower"], seeds=SEEDS), clouds(32)
    whole = evaluate(network, data.images, data.labels, 4)
    monkeypatch.setattr("gaitprop.training.EVALUATION_BATCH", 7)
    parts = evaluate(network, data.images, data.labels, 4)
    assert torch.equal(whole.accuracy, parts.accuracy)
    torch.testing.assert_close(whole.loss, parts.loss, rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_uint8_images_are_those_divided_by_their_maximum(dtype: torch.dtype) -> None:
    pixels = torch.randint(17, (130, 16), generator=generator(0, "pixels"), dtype=torch.uint8)
    labels = torch.randint(4, (130,), generator=generator(0, "labels"))
    settings = settings_for("gait")
    found = []
    for images in (pixels, (pixels.float() / 16).to(dtype)):
        data = TrainingData(images[:100], labels[:100], images[100:], labels[100:], 4, maximum=16)
        network = InvertibleNetwork(WIDTHS["square"], seeds=SEEDS, dtype=dtype)
        records = list(train(network, make_optimizer(network, settings), data, settings))
        found.append((records, network.parameters()))
    (whole, mine), (same, others) = found
    assert all(torch.equal(a, b) for a, b in zip(mine, others, strict=True))
    for record, other in zip(whole, same, strict=True):
        assert torch.equal(record.validation.loss, other.validation.loss)
        assert torch.equal(record.diagnostics.bp_cosine, other.diagnostics.bp_cosine)


def test_the_regularizer_at_intervals_has_as_many_times_the_weight() -> None:
    data, settings = clouds(), settings_for("gait")
    network = InvertibleNetwork(WIDTHS["square"], seeds=SEEDS)
    list(
        train(
            network,
            make_optimizer(network, settings),
            data,
            replace(settings, orthogonality_interval=4),
        )
    )
    by_hand = InvertibleNetwork(WIDTHS["square"], seeds=SEEDS)
    optimizer, rule = make_optimizer(by_hand, settings), find_rule("gait")
    for epoch in range(settings.epochs):
        order = torch.stack(
            [torch.randperm(100, generator=generator(seed, "shuffling", epoch)) for seed in SEEDS]
        )
        for step in range(6):
            batch = order[:, 16 * step : 16 * step + 16]
            # Six steps an epoch: the count does not begin anew with each.
            due = 0.4 if (6 * epoch + step) % 4 == 0 else 0.0
            now = replace(settings, orthogonality=due)
            train_step(by_hand, optimizer, data.images[batch], data.labels[batch], 4, rule, now)
    for mine, other in zip(network.parameters(), by_hand.parameters(), strict=True):
        assert torch.equal(mine, other)


@pytest.mark.parametrize("interval", [1, 4, 8, 16])
@pytest.mark.parametrize("first_epoch", [0, 3])
def test_every_interval_applies_lambda_as_often_as_there_are_steps(
    interval: int, first_epoch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """43 steps an epoch, as of the digits, which no interval but 1 divides; also when resumed."""
    applied: list[float] = []

    def noted(*arguments: Any, **others: Any) -> Any:
        applied.append(arguments[5])
        return updates(*arguments, **others)

    monkeypatch.setattr(training, "updates", noted)
    data, epochs = clouds(), 6
    settings = replace(
        settings_for("bp"), epochs=epochs, batch_size=2, orthogonality_interval=interval
    )
    data = replace(data, images=data.images[:86], labels=data.labels[:86])
    network = InvertibleNetwork([16, 16], seeds=(0,))
    list(train(network, make_optimizer(network, settings), data, settings, first_epoch))
    steps = range(43 * first_epoch, 43 * epochs)
    assert applied == [0.1 * interval if step % interval == 0 else 0.0 for step in steps]
    # The last application stands for steps that may not come.
    assert abs(sum(applied) - 0.1 * len(steps)) < 0.1 * interval


@pytest.mark.parametrize("penalty_kind", PENALTIES)
@pytest.mark.parametrize("loss", LOSSES)
def test_a_step_takes_the_loss_and_the_penalty_that_are_set(loss: str, penalty_kind: str) -> None:
    """W − η g of plain gradient descent, g by ``layer_gradients``."""
    settings = replace(
        settings_for("gait"), loss=loss, penalty=penalty_kind, optimizer="sgd", learning_rate=0.1
    )
    network = InvertibleNetwork(WIDTHS["tower"], orthogonal=False, seeds=SEEDS)
    images, labels = clouds(32).images[:20], clouds(32).labels[:20]
    gradients = layer_gradients(
        network, images, labels, 4, "gait", 1e-3, 0.1, loss=loss, penalty=penalty_kind
    )
    expected = [w - 0.1 * g.weight for w, g in zip(network.weights, gradients, strict=True)]
    batch = images.expand(len(SEEDS), -1, -1), labels.expand(len(SEEDS), -1), 4
    train_step(network, make_optimizer(network, settings), *batch, find_rule("gait"), settings)
    for received, wanted in zip(network.weights, expected, strict=True):
        torch.testing.assert_close(received, wanted, rtol=1e-5, atol=1e-6)


def test_every_step_is_counted() -> None:
    steps: list[int] = []
    network, settings = InvertibleNetwork(WIDTHS["square"]), settings_for("bp")
    optimizer = make_optimizer(network, settings)
    list(train(network, optimizer, clouds(), settings, on_step=steps.append))
    assert sum(steps) == 4 * (100 // 16)


def test_divergence_names_the_epoch_and_the_seed() -> None:
    settings = settings_for("bp")
    network = InvertibleNetwork(WIDTHS["square"], seeds=SEEDS)
    network.weights[2][1] = 1e30
    with pytest.raises(DivergenceError, match=r"epoch 1: .* of seed 0 is no longer finite"):
        list(train(network, make_optimizer(network, settings), clouds(), settings))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 101}, "batch_size is 101; allowed: 1 to 100"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"learning_rate": -1e-3}, "learning_rate is -0.001; allowed: above 0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"gamma": -1.0}, "gamma is -1.0"),
        ({"orthogonality": -1.0}, "orthogonality is -1.0"),
        ({"rule": "hebb"}, "rule is 'hebb'; allowed: bp, gait, itp, tp, damped"),
        ({"epochs": 0}, "epochs is 0"),
        ({"patience": 0}, "patience is 0; allowed: at least 1"),
        ({"probe_size": 0}, "probe_size is 0"),
        ({"orthogonality_interval": 0}, "orthogonality_interval is 0"),
        ({"diagnostics_interval": 0}, "diagnostics_interval is 0; allowed: at least 1"),
        ({"batch_size": "30"}, "batch_size is '30'; allowed: a whole number"),
        ({"batch_size": 30.0}, "batch_size is 30.0; allowed: a whole number"),
        ({"epochs": None}, "epochs is None; allowed: a whole number"),
        ({"epochs": True}, "epochs is True; allowed: a whole number"),
        ({"learning_rate": "0.1"}, "learning_rate is '0.1'; allowed: a number"),
        ({"orthogonality": None}, "orthogonality is None; allowed: a number"),
    ],
)
def test_settings_are_checked_before_any_work(changes: dict, message: str) -> None:
    settings = settings_for("gait")
    network = InvertibleNetwork(WIDTHS["square"])
    optimizer = make_optimizer(network, settings)
    with pytest.raises(ArgumentError, match=message):
        next(train(network, optimizer, clouds(), replace(settings, **changes)))


@pytest.mark.parametrize("first_epoch", [-1, 5])
def test_an_epoch_that_is_none_of_the_training(first_epoch: int) -> None:
    settings = settings_for("gait")
    network = InvertibleNetwork(WIDTHS["square"])
    optimizer = make_optimizer(network, settings)
    with pytest.raises(ArgumentError, match=f"first_epoch is {first_epoch}; allowed: 0 to 4"):
        next(train(network, optimizer, clouds(), settings, first_epoch))


@pytest.mark.parametrize("constraint", ["none", "orthogonal"])
@pytest.mark.parametrize("architecture", ["dense", "overlaps", "rectangular first"])
@pytest.mark.parametrize("rule", RULES)
def test_no_step_waits_for_the_device(rule: str, architecture: str, constraint: str) -> None:
    """Tensors of the device ``meta`` have no values: whatever asks the host for one fails."""
    layers = [12, 12, 12, 8] if architecture == "dense" else CONVOLUTIONS[architecture]
    network = InvertibleNetwork(layers, seeds=(0, 1), device="meta")
    drawn = feedback_of(InvertibleNetwork(layers, seeds=(0, 1)), find_rule(rule))
    if drawn is not None:
        kept = [{name: each.to("meta") for name, each in layer.items()} for layer in drawn.layers]
        network.feedback = Feedback(drawn.rule, tuple(kept))
    settings = TrainingSettings(rule=rule, orthogonality=0.1, constraint=constraint)
    images = torch.empty(2, 6, network.widths[0], device="meta")
    labels = torch.empty(2, 6, dtype=torch.long, device="meta")
    # Fused optimizers want a device with values.
    optimizer = torch.optim.SGD(network.tensors(), lr=0.1)
    sums = training._Sums(network, LOSSES["squared_error"], 3)
    outputs, error = train_step(network, optimizer, images, labels, 3, find_rule(rule), settings)
    sums.add(outputs, labels, error)
    assert outputs.shape == (2, 6, network.widths[-1])
    with pytest.raises((RuntimeError, NotImplementedError)):
        outputs.sum().item()
