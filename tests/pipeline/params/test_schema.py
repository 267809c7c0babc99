"""params.yaml: everything wrong in it is said at once, each problem with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.data.image_sets import image_set
from pipeline.params import params_file, profiles, search_space
from pipeline.project.errors import GaitError

REPOSITORY = Path(__file__).parents[3]
DIGITS = (REPOSITORY / "profiles" / "digits.yaml").read_text()


def problems(tmp_path: Path, text: str) -> str:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(GaitError) as caught:
        params_file.load(path)
    return str(caught.value)


def changed(old: str, new: str) -> str:
    assert DIGITS.count(old) == 1, old
    return DIGITS.replace(old, new)


@pytest.mark.parametrize(
    "path", sorted((REPOSITORY / "profiles").glob("*.yaml")), ids=lambda p: p.stem
)
def test_committed_profiles_are_valid_and_named_as_their_file(path: Path) -> None:
    params = params_file.load(path)
    assert params.profile == path.stem
    assert set(params.run.architectures) == set(params.architectures)
    assert {*params.run.rules, *params.sweep.rules} == set(params.rules)


def test_committed_params_are_the_digits_profile() -> None:
    assert (REPOSITORY / "params.yaml").read_text() == DIGITS


@pytest.mark.parametrize(
    ("old", "new", "place", "reason"),
    [
        (
            "rules: [bp, gait, itp, tp]  # keys",
            "rules: [bp, gate]  # keys",
            "run",
            "unknown 'gate' (did you mean 'gait'?); allowed: bp, gait",
        ),
        (
            "rules: [bp, gait, itp, tp]  # keys",
            "rules: [bp, damped]  # keys",
            "run",
            "unknown 'damped'; allowed: bp, gait, itp, tp, or a section rules.damped",
        ),
        (
            "rules: [bp, gait, itp, tp]  # keys",
            "rules: [gate, damped, itps]  # keys",
            "run",
            "unknown 'gate' (did you mean 'gait'?), 'damped', 'itps' (did you mean 'itp'?);"
            " allowed: bp, gait, itp, tp, or a section rules.damped",
        ),
        (
            "  itp:\n",
            "  gait_strong:\n",
            "rules.gait_strong",
            "or a name of your own with one of these as its `rule`",
        ),
        (
            "datasets: [digits]",
            "datasets: [cifar]",
            "run",
            "unknown 'cifar'; allowed: digits, mnist",
        ),
        (
            "rules: [bp, gait, itp, tp]  # keys",
            "rules: [bp, bp]  # keys",
            "run",
            "allowed: each name once",
        ),
        (
            "architectures: [square]",
            "architectures: [tower]",
            "run.architectures",
            "unknown 'tower'; allowed: square",
        ),
        (
            "  itp:\n",
            "  itps:\n",
            "rules.itps",
            "unknown 'itps' (did you mean 'itp'?); allowed: bp",
        ),
        (
            "  itp:\n",
            "  slow:\n    rule: itpp\n",
            "rules.slow.rule",
            "unknown 'itpp' (did you mean 'itp'?); allowed: bp",
        ),
        (
            "  itp:\n",
            "  slow:\n    rule: [damped]\n    damping: 1.0\n",
            "rules.slow.rule",
            "received ['damped']",
        ),
        (
            "  itp:\n",
            "  itp:\n    rule: gait\n",
            "rules.itp.rule",
            "is gait; allowed: an entry under another name, since itp is a model itself",
        ),
        (
            "reference:",
            "reference:\n  rule: gait",
            "reference.rule",
            "is gait; allowed: bp, or none given",
        ),
        (
            "  itp:\n",
            "  ../itp:\n    rule: itp\n",
            "rules.../itp",
            "should match pattern",
        ),
        (
            "batch_size: 30",
            "batch_size: 0",
            "training.batch_size",
            "received 0; input should be greater",
        ),
        ("batch_size: 30", "batch_size: 30.5", "training.batch_size", "received 30.5"),
        ("batch_size: 30", "batchsize: 30", "training.batchsize", "unknown key"),
        ("epochs: 60", "optimiser: sgd", "training.optimiser", "(did you mean 'optimizer'?)"),
        ("epochs: 60", "early_stopping: 1", "training.early_stopping", "mean 'patience'?)"),
        ("hidden_layers: 4", "width: 10", "architectures.square.width", "mean 'projection'?)"),
        (
            "    gamma: 0.001\n  itp",
            "    lambda: 1\n    momentum: 1\n  itp",
            "rules.gait.lambda",
            "unknown key (did you mean 'orthogonality'?)",
        ),
        (
            "    gamma: 0.001\n  itp",
            "    momentum: 1\n  itp",
            "rules.gait.momentum",
            "unknown key ('momentum' is a key of training)",
        ),
        (
            "epochs: 60",
            "epochs: 60\n  lr: 1",
            "training.lr",
            "('learning_rate' is a key of reference and rules)",
        ),
        ("batch_size: 30", "weights: 30", "training.batch_size", "this key is missing"),
        ("seeds: [0, 1, 2, 3, 4]", "seeds: [0, 0]", "training", "allowed: each seed once"),
        ("seeds: [0, 1, 2, 3, 4]", "seeds: []", "training.seeds", "at least 1 item"),
        ("epsilon: 1.0e-8", "epsilon: .nan", "training.adam.epsilon", "received nan"),
        ("beta2: 0.99", "beta2: 1.0", "training.adam.beta2", "less than 1"),
        ("epochs: 60", "epochs: yes", "training.epochs", "received 'yes'"),
        ("device: auto", "device: tpu", "training.device", "'auto', 'cpu' or 'cuda'"),
        ("hidden_layers: 4", "widths: [64, 32, 48]", "architectures.square", "48 follows 32"),
        (
            "hidden_layers: 4",
            "widths: [80, 10]\n    auxiliary_inputs: true",
            "the file",
            "architectures.square on digits: widths are [64, 80, 10]: 80 follows 64",
        ),
        (
            "hidden_layers: 4",
            "widths: [9]\n    projection: 9",
            "architectures.square",
            "projection is given with widths; allowed: projection with hidden_layers",
        ),
        (
            "hidden_layers: 4",
            "hidden_layers: 4\n    auxiliary_inputs: true",
            "architectures.square",
            "auxiliary_inputs is given with hidden_layers; allowed: auxiliary_inputs with widths",
        ),
        (
            "hidden_layers: 4",
            "hidden_layers: 4\n    convolutions: [{channels: 1, kernel_size: 3}]",
            "architectures.square",
            "convolutions is given with hidden_layers; allowed: convolutions with widths",
        ),
        (
            "hidden_layers: 4",
            "convolutions: [{channels: 2, kernel_size: 3}]\n    widths: [10]",
            "the file",
            "channels is 2; allowed: 1 to 1, what the layer below has",
        ),
        (
            "hidden_layers: 4",
            "convolutions: [{channels: 1, kernel: 3}]\n    widths: [10]",
            "architectures.square.convolutions.0.kernel",
            "unknown key (did you mean 'kernel_size'?)",
        ),
        ("hidden_layers: 4", "hidden_layers: 4\n    projection: 0", "projection", "received 0"),
        ("epochs: 60", "epochs: 60\n  optimizer: lion", "training.optimizer", "received 'lion'"),
        ("epochs: 60", "epochs: 60\n  loss: hinge", "training.loss", "received 'hinge'"),
        ("epochs: 60", "epochs: 60\n  weight_decay: -1.0", "training.weight_decay", "-1.0"),
        (
            "epochs: 60",
            "epochs: 60\n  momentum: 0.9",
            "training",
            "momentum is 0.9 with optimizer adam; allowed: 0, or optimizer sgd",
        ),
        (
            "orthogonality: 0.0\n",
            "orthogonality: 0.0\n  penalty: l1\n",
            "reference.penalty",
            "received 'l1'",
        ),
        (
            "gamma: 0.001\n  itp",
            "damping: 0.1\n  itp",
            "rules.gait.damping",
            "unknown key ('damping' is a key of the rule damped); see docs",
        ),
        (
            "gamma: 0.001\n  itp",
            "feedback_learning_rate: 0.1\n  itp",
            "the file",
            "feedback_learning_rate of gait is 0.1; allowed: null, or a rule that learns",
        ),
        (
            "gamma: 0.001\n  itp",
            "feedback_learning_rate: -0.1\n  itp",
            "rules.gait.feedback_learning_rate",
            "received -0.1; input should be greater than or equal to 0",
        ),
        (
            "gamma: 0.001\n  itp",
            "rule: damped\n    damping: -1.0\n  itp",
            "rules.gait.damping",
            "received -1.0; input should be greater than or equal to 0",
        ),
        (
            "gamma: 0.001\n  itp",
            "gamma: 0.001\n  damped:\n    {learning_rate: 0.1, orthogonality: 0, dampin: 1}\n  itp",
            "rules.damped.dampin",
            "unknown key (did you mean 'damping'?)",
        ),
        (
            "gamma: 0.001\n  itp",
            "weight_decay: -1.0\n  itp",
            "rules.gait.weight_decay",
            "received -1.0",
        ),
        ("hidden_layers: 4", "widths: [64, 9]", "the file", "digits has 10 classes"),
        (
            "hidden_layers: 4",
            "hidden_layers: -1",
            "architectures.square.hidden_layers",
            "received -1",
        ),
        ("    hidden_layers: 4\n", "", "architectures.square", "either hidden_layers"),
        (
            "negative_slope: 0.1",
            "negative_slope: 0",
            "architectures.square.negative_slope",
            "received 0",
        ),
        ("profile: digits", "profile: ../digits", "profile", "received '../digits'"),
        ("profile: digits", "profile: verify", "profile", "received verify; allowed: another"),
        ("mirror: null", "mirror: ftp://x", "archives.mirror", "received 'ftp://x'"),
        (
            "validation_fraction: 0.1",
            "validation_fraction: 1.0",
            "data.validation_fraction",
            "less than 1",
        ),
        ("split_seed: 0", "split_seed: -1", "data.split_seed", "received -1"),
        (
            "split_seed: 0",
            "split_seed: 0\n  train_size: 20",
            "data.train_size",
            "received 20; allowed: at least training.batch_size, 30",
        ),
        (
            "epochs: 60",
            "epochs: 60\n  schedule: {kind: step, step_size: 3}",
            "training.schedule.step_size",
            "unknown key (it is none of the keys kind, interval, factor)",
        ),
        (
            "epochs: 60",
            "epochs: 60\n  schedule: cosine",
            "training.schedule",
            "received 'cosine'; allowed: a section of the keys kind, interval, factor",
        ),
    ],
)
def test_one_problem(tmp_path: Path, old: str, new: str, place: str, reason: str) -> None:
    text = changed(old, new)
    message = problems(tmp_path, text)
    assert place in message
    assert reason in message


def test_a_key_under_another_name_is_one_problem(tmp_path: Path) -> None:
    message = problems(tmp_path, changed("batch_size: 30", "batchsize: 30"))
    assert "has a problem:" in message and "(did you mean 'batch_size'?)" in message
    message = problems(tmp_path, changed("batch_size: 30", "weights: 30"))
    assert "has 2 problems:" in message and "batch_size: this key is missing" in message


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("learning_rate", "0", "greater than 0"),
        ("learning_rate", "-0.1", "greater than 0"),
        ("learning_rate", "1e-3x", "valid number"),
        ("learning_rate", ".inf", "finite number"),
        ("orthogonality", "-0.1", "greater than or equal to 0"),
        ("gamma", "-0.001", "greater than or equal to 0"),
        ("gamma", "1.5", "less than or equal to 1"),
    ],
)
def test_settings_of_a_rule(tmp_path: Path, key: str, value: str, reason: str) -> None:
    lines = DIGITS.splitlines()
    start = lines.index("  gait:")
    line = next(i for i, text in enumerate(lines) if i > start and text.strip().startswith(key))
    lines[line] = f"    {key}: {value}"
    message = problems(tmp_path, "\n".join(lines))
    assert f"line {line + 1}, rules.gait.{key}: received" in message
    assert reason in message


def test_all_problems_are_reported_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = changed("batch_size: 30", "batch_size: 0").replace("epochs: 60", "epochs: 0")
    text = text.replace("split_seed: 0", "split_seed: x")
    message = problems(tmp_path, text)
    assert "has 3 problems" in message
    assert message.index("split_seed") < message.index("epochs") < message.index("batch_size")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: [1, 2", "is not YAML: line 1"),
        ("a: 1\na: 2\n", "is not YAML"),
        ("\x00", "is not YAML"),
        ("- 1\n- 2\n", "is not a mapping"),
        ("", "is not a mapping"),
        ("profile: digits\n", "has 6 problems"),
        ("a: &a [*a]\n", "problems"),
    ],
)
def test_files_that_are_no_params(tmp_path: Path, text: str, reason: str) -> None:
    assert reason in problems(tmp_path, text)


def test_anchors_of_any_kind_of_value(tmp_path: Path) -> None:
    text = changed(
        "    hidden_layers: 4\n", "    widths: [32, &w 10]\n    auxiliary_inputs: &a true\n"
    )
    (tmp_path / "params.yaml").write_text(text)
    (square,) = params_file.load(tmp_path / "params.yaml").architectures.values()
    assert square.auxiliary_inputs is True


def test_missing_and_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(GaitError, match=r"cannot be read .*No such file"):
        params_file.load(tmp_path / "params.yaml")
    (tmp_path / "latin1.yaml").write_bytes(b"profile: \xe9\n")
    with pytest.raises(GaitError, match="not UTF-8"):
        params_file.load(tmp_path / "latin1.yaml")


def test_profiles_replace_params_but_no_edits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "digits.yaml").write_text(DIGITS)
    other = changed("profile: digits", "profile: other")
    (tmp_path / "profiles" / "other.yaml").write_text(other)
    params = tmp_path / "params.yaml"

    profiles.use("digits")
    assert params.read_text() == DIGITS
    profiles.use("other")
    assert profiles.current() == "other"
    with pytest.raises(GaitError, match=r"unknown profile .othr. .did you mean .other."):
        profiles.use("othr")
    (tmp_path / "profiles" / "mine.yaml").write_text(DIGITS)
    with pytest.raises(GaitError, match=r"mine.yaml, profile: received 'digits'; allowed: 'mine'"):
        profiles.use("mine")
    params.write_text(other + "# mine\n")
    with pytest.raises(GaitError, match="has been edited"):
        profiles.use("digits")
    assert params.read_text() == other + "# mine\n"
    profiles.use("digits", force=True)
    assert params.read_text() == DIGITS


def test_a_constraint_needs_weights_that_start_orthogonal(tmp_path: Path) -> None:
    text = changed("orthogonality: 0.0\n", "orthogonality: 0.0\n  constraint: orthogonal\n")
    text = text.replace("initialisation: orthogonal ", "initialisation: gaussian ")
    reason = "constraint of reference is orthogonal, but initialisation of architectures.square is"
    assert f"{reason} gaussian; allowed: orthogonal" in problems(tmp_path, text)


@pytest.mark.parametrize(
    ("shape", "weights"),
    [
        ("hidden_layers: 1", [(64, 64)] * 2),
        ("hidden_layers: 1\n    projection: 20", [(20, 64), (20, 20), (20, 20)]),
        ("hidden_layers: 0\n    projection: 80", [(80, 64), (80, 80)]),
        ("widths: [64, 20, 10]", [(64, 64), (20, 20), (10, 10)]),
        ("widths: [32, 10]", [(32, 64), (10, 10)]),
        ("widths: [32, 10]\n    auxiliary_inputs: true", [(32, 32), (10, 10)]),
        (
            "convolutions: [{channels: 1, kernel_size: 3, stride: 2}]\n    widths: [10]",
            [(9, 9), (10, 10)],
        ),
    ],
)
def test_shapes_of_weights(tmp_path: Path, shape: str, weights: list[tuple[int, int]]) -> None:
    (tmp_path / "params.yaml").write_text(changed("hidden_layers: 4", shape))
    architecture = params_file.load(tmp_path / "params.yaml").architectures["square"]
    assert list(architecture.on(image_set("digits")).weight_shapes) == weights


def test_a_sweep_may_vary_shapes_and_settings(tmp_path: Path) -> None:
    kernels = "[[{channels: 1, kernel_size: 2}], [{channels: 1, kernel_size: 3}]]"
    text = changed("hidden_layers: 4", "widths: [10]").replace(
        "rule.learning_rate: [1.0e-5, 1.0e-4, 3.0e-4, 1.0e-3, 3.0e-3, 1.0e-2, 3.0e-2]",
        f"architecture.convolutions: {kernels}\n    training.loss: [squared_error, cross_entropy]",
    )
    text = text.replace(
        "rule.orthogonality: [0.0, 1.0e-2, 0.1, 1.0, 10.0, 100.0, 1000.0]",
        "rule.penalty: [off_diagonal, full]",
    )
    (tmp_path / "params.yaml").write_text(text)
    params = params_file.load(tmp_path / "params.yaml")
    found = search_space.configurations(params)
    assert len(found) == 4 * 2 * 2 * 2
    last = search_space.experiment(params, found[-1])
    shapes = last.architectures["square"].on(image_set("digits")).weight_shapes
    assert shapes == ((9, 9), (10, 10))
    assert (last.training.loss, last.rules["tp"].penalty) == ("cross_entropy", "full")
