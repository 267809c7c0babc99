"""What `sweep` in params.yaml may say, which configurations it makes, and what they are called."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.data import image_tensors
from pipeline.params import params_file, search_space
from pipeline.params.schema import Params
from pipeline.params.search_space import Configuration
from pipeline.project.errors import GaitError
from pipeline.sweep import sweep_folder as folders
from pipeline.sweep.sweep_folder import Folder
from pipeline.sweep.trial_records import trial_id
from pipeline.training.experiment import described

REPOSITORY = Path(__file__).parents[3]
DIGITS = (REPOSITORY / "profiles" / "digits.yaml").read_text()
HEAD = DIGITS[: DIGITS.index("\nsweep:")]
LEARNING_RATES = "space: {rule.learning_rate: [1.0e-4, 1.0e-3]}"


def load(folder: Path, section: str = "", head: str = HEAD) -> Params:
    path = folder / "params.yaml"
    lines = "".join(f"  {line}\n" for line in section.splitlines())
    path.write_text(head + ("\nsweep:\n" + lines if section else "\n"))
    return params_file.load(path)


def refusal(folder: Path, section: str, head: str = HEAD) -> str:
    with pytest.raises(GaitError) as caught:
        search_space.configurations(load(folder, section, head))
    return str(caught.value)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> image_tensors.ImageData:
    path = tmp_path_factory.mktemp("data") / "digits.safetensors"
    image_tensors.prepare("digits", path, root=path.parent)
    return image_tensors.load(path)


def test_default_is_the_published_grid_for_each_rule_of_run(tmp_path: Path) -> None:
    params = load(tmp_path)
    published = params_file.load(REPOSITORY / "profiles" / "digits.yaml").sweep.model_dump()
    # But for the largest learning rate, which shows that no winner lies on the others' edge.
    assert published["space"]["rule.learning_rate"].pop() == 0.03
    assert params.sweep.model_dump() == {**published, "fixed": {}}
    found = search_space.configurations(params)
    assert len(found) == 4 * 6 * 7
    assert len({json.dumps(each) for each in found}) == len(found)
    assert found[0] == Configuration("bp", {"rule.learning_rate": 1e-5, "rule.orthogonality": 0.0})
    assert [each.rule for each in found[::42]] == ["bp", "gait", "itp", "tp"]


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("space: {rule.gama: [0]}", "unknown name 'rule.gama' (did you mean 'rule.gamma'?)"),
        ("space: {epochs: [1]}", "unknown name 'epochs'"),
        ("space: {training.adam: [1]}", "unknown name 'training.adam'"),
        ("space: {run.rules: [bp]}", "unknown name 'run.rules'"),
        ("space: {training.threads: [1, 2]}", "follows from sweep.resources"),
        ("space: {rule.learning_rate: [0.1, -1]}", "received -1; input should be greater than 0"),
        ("space: {rule.learning_rate: [slow]}", "received 'slow'; input should be a valid number"),
        ("space: {architecture.activation: [relu]}", "'leaky_relu' or 'linear'"),
        ("space: {architecture.widths: [[64, 10]]}", "either hidden_layers (square) or widths"),
        ("space: {training.seeds: [[0, 0]]}", "allowed: each seed once"),
        ("space: {rule.learning_rate: []}", "at least 1 item"),
        ("space: {}", "at least 1 item"),
        ("space: {rule.learning_rate: [1, 1.0]}", "allowed: each value once"),
        ("space: {data.train_size: [null, 500]}", "data.train_size has null; allowed: values"),
        ("space: {rule.learning_rate: 0.1}", "a list of values, or a mapping"),
        ("space: {rule.learning_rate: {uniform: [0.1, 1]}}", "search is grid, but rule.learning"),
        (
            "search: random\nspace: {rule.learning_rate: {uniform: [0, 1]}}",
            "received 0.0; input should be greater than 0",
        ),
        (
            "search: random\nspace: {rule.learning_rate: {uniform: [1, 11]}}",
            "received 11.0; input should be less than or equal to 10",
        ),
        ("search: random\nspace: {rule.gamma: {uniform: [1, 0]}}", "uniform is [1.0, 0.0]"),
        ("search: random\nspace: {rule.gamma: {uniform: [0]}}", "at least 2 items"),
        ("search: random\nspace: {rule.gamma: {loguniform: [0, 1]}}", "allowed: ends above 0"),
        ("search: random\nspace: {rule.gamma: {normal: [0, 1]}}", "unknown key"),
        ("search: random\nspace: {rule.gamma: {}}", "one of uniform, loguniform and integer"),
        # Hardly more floats lie between than trials are asked for.
        ("search: random\nspace: {rule.gamma: {uniform: [0.1, 0.100000000001]}}", "millionth"),
        ("search: random\nspace: {rule.gamma: {loguniform: [1, 1.0000001]}}", "millionth"),
        (
            "search: random\nspace: {data.split_seed: {integer: [0, 18446744073709551615]}}",
            "allowed: ends below 2**53 in size",
        ),
        (
            "search: random\nspace: {training.epochs: {uniform: [1, 3]}}",
            "training.epochs: received 1.0; input should be a valid integer",
        ),
        ("search: bayes", "'grid', 'random' or 'optuna'"),
        (
            "rules: [bp, gate]",
            "sweep.rules: unknown 'gate' (did you mean 'gait'?); allowed: bp, gait, itp, tp",
        ),
        ("rules: [bp, bp]", "allowed: each rule once"),
        ("dataset: cifar", "sweep.dataset: unknown 'cifar'; allowed: digits"),
        ("architecture: tower", "sweep.architecture: unknown 'tower'; allowed: square"),
        ("name: ../up", "received '../up'"),
        ("trials: 0", "greater than or equal to 1"),
        ("trails: 3", "sweep.trails: unknown key"),
        ("fixed: {training.epoch: 1}", "did you mean 'training.epochs'"),
        ("fixed: {training.epochs: 0}", "received 0; input should be greater"),
        ("fixed: {rule.learning_rate: 0.1}", "is in both space and fixed"),
        (
            "early_stopping: asha\nspace: {training.epochs: [1, 2]}",
            "and training.epochs is swept",
        ),
        ("resources: {cpus: 0}", "sweep.resources.cpus: received 0"),
        ("resources: {gpus: 1.5}", "allowed: a share up to 1, or a whole number"),
        (
            "space: {rule.gamma: [0.1, 0.2]}",
            "rule.gamma: bp, tp have no γ; allowed: sweep.rules of gait, itp",
        ),
    ],
)
def test_what_is_not_allowed_is_said_before_any_work(
    tmp_path: Path, section: str, message: str
) -> None:
    assert message in refusal(tmp_path, section)


def test_all_problems_at_once_with_their_lines(tmp_path: Path) -> None:
    message = refusal(
        tmp_path, "space:\n  rule.gama: [1]\n  rule.learning_rate: [-1]\nfixed: {data.seed: 1}"
    )
    first = HEAD.count("\n") + 1
    assert "has 3 problems" in message
    assert f"line {first + 3}, sweep.space.rule.gama: unknown name" in message
    assert f"line {first + 4}, sweep.space.rule.learning_rate: received -1" in message
    assert f"line {first + 5}, sweep.fixed.data.seed: unknown name" in message


@pytest.mark.parametrize(
    ("section", "place"),
    [
        (
            "rules: [bp, gait]\nspace: {rule.learning_rate: [-1, 1], rule.orthogonality: [0, 1]}",
            "sweep.space.rule.learning_rate",
        ),
        ("rules: [bp, gait]\nfixed: {training.epochs: -1}", "sweep.fixed.training.epochs"),
        ("rules: [bp, gait]\nspace: {rule.lambda: [0, 1]}", "(did you mean 'rule.orthogonality'?)"),
        ("rules: [bp, gait]\nspace: {architecture.widths: [[9], [8]]}", "sweep: bp,"),
    ],
)
def test_one_mistake_is_one_sentence_however_many_rules_and_values(
    tmp_path: Path, section: str, place: str
) -> None:
    message = refusal(tmp_path, section)
    assert "has a problem" in message
    assert place in message


def test_values_that_do_not_go_together(tmp_path: Path) -> None:
    section = "space: {architecture.widths: [[64, 10], [64, 9]]}\nrules: [bp]\n"
    message = refusal(tmp_path, section + "fixed: {architecture.hidden_layers: null}")
    assert "architectures.square has 9 outputs, but digits has 10 classes" in message


def test_a_gpu_is_asked_for_in_one_place(tmp_path: Path) -> None:
    cpu = HEAD.replace("device: auto", "device: cpu")
    assert "whose training.device is cpu" in refusal(tmp_path, "resources: {gpus: 0.5}", cpu)
    trial = Configuration("bp", {"rule.learning_rate": 0.1})
    for gpus, device in (("0", "cpu"), ("0.5", "cuda"), ("2", "cuda")):
        params = load(tmp_path, f"{LEARNING_RATES}\nresources: {{cpus: 3, gpus: {gpus}}}")
        assert search_space.experiment(params, trial).training.device == device
        assert search_space.experiment(params, trial).training.threads == 3


def test_an_experiment_is_the_params_with_its_values(tmp_path: Path) -> None:
    params = load(
        tmp_path,
        "space: {rule.gamma: [0.5], architecture.hidden_layers: [2], training.adam.beta1: [0]}\n"
        "fixed: {training.epochs: 7, data.split_seed: 3}\nrules: [gait]",
    )
    (configuration,) = search_space.configurations(params)
    made = search_space.experiment(params, configuration).model_dump()
    expected = params.model_dump()
    expected["rules"]["gait"]["gamma"] = 0.5
    expected["architectures"]["square"]["hidden_layers"] = 2
    expected["training"]["adam"]["beta1"] = 0.0
    expected["training"]["epochs"] = 7
    expected["training"]["device"] = "cpu"
    expected["data"]["split_seed"] = 3
    assert made == expected


def test_random_draws_are_different_within_bounds_and_the_same_for_every_rule(
    tmp_path: Path,
) -> None:
    section = (
        "search: random\ntrials: 40\nrules: [gait, itp]\nspace:\n"
        "  rule.learning_rate: {loguniform: [1.0e-5, 1.0e-1]}\n"
        "  rule.gamma: {uniform: [0.25, 0.5]}\n"
        "  architecture.hidden_layers: {integer: [1, 3]}\n"
        "  training.batch_size: [10, 20]"
    )
    params = load(tmp_path, section)
    found = search_space.configurations(params)
    gait, itp = found[:40], found[40:]
    assert [each.values for each in gait] == [each.values for each in itp]
    assert found == search_space.configurations(params)
    assert found != search_space.configurations(load(tmp_path, section + "\nseed: 1"))
    drawn = {name: [each.values[name] for each in gait] for name in params.sweep.space}
    assert all(1e-5 <= rate <= 1e-1 for rate in drawn["rule.learning_rate"])
    assert 10 <= sum(rate < 1e-3 for rate in drawn["rule.learning_rate"]) <= 30
    assert all(0.25 <= gamma <= 0.5 for gamma in drawn["rule.gamma"])
    assert set(drawn["architecture.hidden_layers"]) == {1, 2, 3}
    assert set(drawn["training.batch_size"]) == {10, 20}


def test_more_random_trials_than_there_are_configurations(tmp_path: Path) -> None:
    section = "search: random\nspace: {architecture.hidden_layers: {integer: [1, 3]}}\ntrials: "
    found = search_space.configurations(load(tmp_path, section + "3\nrules: [bp]"))
    assert sorted(each.values["architecture.hidden_layers"] for each in found) == [1, 2, 3]
    too_many = section + "4"
    for search in (too_many, too_many.replace("random", "optuna")):
        assert "sweep.trials: received 4; allowed: at most 3" in refusal(tmp_path, search)


def test_optuna_has_no_more_trials_than_go_together(tmp_path: Path) -> None:
    """Adam has no momentum: with two values of each, three of four do."""
    values = "{training.optimizer: [sgd, adam], training.momentum: [0.0, 0.9]}"
    section = f"search: optuna\nspace: {values}\nrules: [bp]\ntrials: "
    assert load(tmp_path, section + "3").sweep.trials == 3
    assert "sweep.trials: received 4; allowed: at most 3" in refusal(tmp_path, section + "4")


def test_a_trial_is_named_by_what_decides_its_figures(
    tmp_path: Path, images: image_tensors.ImageData
) -> None:
    def named(section: str, head: str = HEAD) -> str:
        params = load(tmp_path, LEARNING_RATES + "\nrules: [bp, gait]\n" + section, head)
        return trial_id(params, search_space.configurations(params)[0], images)

    name = named("")
    assert len(name) == 12
    # What the figures do not depend on.
    assert named("name: other\ntrials: 3\nseed: 5") == name
    assert named("resources: {cpus: 1}") == name
    assert named("resources: {cpus: 2}") == name
    assert named("", HEAD.replace("learning_rate: 0.001", "learning_rate: 0.5")) == name
    assert named("", HEAD.replace("root: data/archives", "root: elsewhere")) == name
    # What they do.
    assert named("fixed: {training.epochs: 3}") != name
    assert named("resources: {gpus: 1}") != name
    assert named("", HEAD.replace("split_seed: 0", "split_seed: 1")) != name
    fast = HEAD.replace("numerics: portable", "numerics: fast")
    assert named("", fast) != name
    assert named("resources: {cpus: 2}", fast) != named("", fast)


def test_whole_numbers_name_the_same_trial_as_fractions(tmp_path: Path) -> None:
    whole = search_space.configurations(load(tmp_path, "space: {rule.orthogonality: [1]}"))
    fraction = search_space.configurations(load(tmp_path, "space: {rule.orthogonality: [1.0]}"))
    assert json.dumps(whole) == json.dumps(fraction)


def test_another_definition_is_refused_by_name(
    tmp_path: Path, images: image_tensors.ImageData
) -> None:
    folder = Folder(tmp_path / "tiny")
    params = load(tmp_path, LEARNING_RATES)
    definition = folders.definition(params, images)
    assert folder.state(definition) == folders.NEW
    folder.begin(definition, folder.sweep_id())
    assert folder.state(definition) == folders.UNFINISHED
    folder.finish()
    assert folder.state(definition) == folders.FINISHED
    # A winner in params.yaml changes nothing of the sweep, another space or experiment does.
    best = HEAD.replace("learning_rate: 0.001", "learning_rate: 0.0001")
    assert folder.state(folders.definition(load(tmp_path, LEARNING_RATES, best), images)) == (
        folders.FINISHED
    )
    for section, head, named in (
        ("space: {rule.learning_rate: [1.0e-4]}", HEAD, "sweep.space.rule.learning_rate"),
        (LEARNING_RATES, HEAD.replace("epochs: 60", "epochs: 6"), "training.epochs"),
    ):
        other = folders.definition(load(tmp_path, section, head), images)
        with pytest.raises(GaitError, match=r"another sweep tiny than .*--restart") as caught:
            folder.state(other)
        assert named in str(caught.value)


def test_a_trial_is_described_as_the_train_stage_describes_its_model(
    tmp_path: Path, images: image_tensors.ImageData
) -> None:
    params = load(tmp_path, LEARNING_RATES)
    made = search_space.experiment(params, search_space.configurations(params)[0])
    of_trial = described(made, search_space.key(made, "bp"), images.checksum)
    assert of_trial["settings"]["learning_rate"] == 1e-4
    assert of_trial["model"] == of_trial["rule"] == "bp"


class Counted(float):
    """A number that counts with how many others it is compared."""

    compared = 0

    def __eq__(self, other: object) -> bool:
        Counted.compared += 1
        return super().__eq__(other)

    __hash__ = float.__hash__


def test_drawing_costs_as_much_as_there_are_draws(tmp_path: Path) -> None:
    """And not as their square: 100,000 are allowed."""
    params = load(tmp_path, LEARNING_RATES + "\nsearch: random\ntrials: 1")
    values = {"rule.learning_rate": [Counted(1 / n) for n in range(1, 5000)]}
    sweep = params.sweep.model_copy(update={"space": values, "trials": 500})
    drawn = list(search_space._drawn(params.model_copy(update={"sweep": sweep})))
    assert len({each["rule.learning_rate"].hex() for each in drawn}) == 500
    assert Counted.compared < 10 * len(drawn)


def test_a_configuration_costs_the_same_among_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None of what is dumped, to be checked with its values, has the space of all values in it."""
    dumped, sizes = Params.model_dump, []

    def model_dump(params: Params, **options: Any) -> dict[str, Any]:
        found = dumped(params, **options)
        sizes.append(len(repr(found)))
        return found

    monkeypatch.setattr(Params, "model_dump", model_dump)
    largest = []
    for count in (20, 200):
        sizes.clear()
        rates = [round(1e-3 + 1e-6 * each, 6) for each in range(count)]
        params = load(tmp_path, f"rules: [bp]\nspace: {{rule.learning_rate: {rates}}}")
        for each in search_space.configurations(params):
            assert search_space.experiment(params, each).sweep == params.sweep
        # To be refused or not, to be a configuration, and to be an experiment.
        assert len(sizes) == count * 4
        largest.append(max(sizes))
    assert abs(largest[1] - largest[0]) < 20


def test_every_wrong_value_is_told_of_several_with_one_reason(tmp_path: Path) -> None:
    fixed = "fixed: {training.epochs: 0, training.batch_size: 0}"
    message = refusal(tmp_path, f"rules: [bp, gait]\n{LEARNING_RATES}\n{fixed}")
    assert "has 2 problems" in message
    assert message.index("training.epochs") < message.index("training.batch_size")


def test_values_are_there_once(tmp_path: Path) -> None:
    for values in ("[1.0e-3, 1.0e-4, 0.001]", "[1, 2, 1.0]"):
        assert "allowed: each value once" in refusal(
            tmp_path, f"space: {{rule.learning_rate: {values}}}"
        )
    widths = "architecture.widths: [[32, 10], [16, 10], [32, 10]]"
    assert "allowed: each value once" in refusal(tmp_path, f"space: {{{widths}}}")


CONVOLUTION = "{channels: 1, kernel_size: 2"
CONVOLUTIONS = DIGITS.replace("    hidden_layers: 4\n", "    widths: [32, 10]\n")


def test_a_spaces_values_are_as_trials_have_them(tmp_path: Path) -> None:
    """What is left out of a convolution is in the trials' records, which are looked up by it."""
    first, second = f"[{CONVOLUTION}}}]", f"[{CONVOLUTION}, stride: 2}}]"
    head = CONVOLUTIONS[: CONVOLUTIONS.index("\nsweep:")]
    section = f"rules: [bp]\nspace: {{architecture.convolutions: [{first}, {second}]}}"
    params = load(tmp_path, section, head)
    (values,) = params.sweep.space.values()
    assert values == [
        each.values["architecture.convolutions"] for each in search_space.configurations(params)
    ]
    fixed = f"rules: [bp]\n{LEARNING_RATES}\nfixed: {{architecture.convolutions: {first}}}"
    assert load(tmp_path, fixed, head).sweep.fixed == {"architecture.convolutions": values[0]}
    twice = section.replace(second, f"[{CONVOLUTION}, padding: 0}}]")
    assert "sweep.space.architecture.convolutions: received one value twice" in refusal(
        tmp_path, twice, head
    )
