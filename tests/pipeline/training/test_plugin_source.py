"""Rules and data sets of other packages in the pipeline: checked, recorded, linked for DVC."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from gaitprop.training import make_optimizer, train
from pipeline.cli import doctor
from pipeline.data import image_tensors
from pipeline.params import params_file, schema, settings_reference
from pipeline.params.labels import model_name
from pipeline.params.looks import LOOKS, look_of
from pipeline.params.search_space import configurations
from pipeline.project.errors import GaitError
from pipeline.project.paths import ModelKey
from pipeline.training import plugin_source
from pipeline.training.experiment import described, parameters, prepare, training_settings
from pipeline.training.identity import identity, training_code_checksum
from tests.own_packages import Package, packages
from tests.pipeline.project_copy import small_params

RULE = "def mine(layer, error, scale): return error\n"
SET = """
import numpy as np
from pipeline.data.image_sets import ImageSet
def read():
    {read}
    return images, labels, images[-2:], labels[-2:]
blobs = ImageSet("blobs", "Blobs", inputs=6, classes=3, {more}read=read)
"""
READ = "images, labels = np.arange(24).reshape(4, 2, 3), [0, 1, 2, 1]"


@pytest.fixture
def rule(tmp_path: Path) -> Iterator[Package]:
    with packages(tmp_path, "gaitprop.rules") as install:
        plugin_source.plugin_of.cache_clear()
        yield install
    plugin_source.plugin_of.cache_clear()


@pytest.fixture
def blobs(tmp_path: Path) -> Iterator[Package]:
    with packages(tmp_path, "gait.datasets") as install:
        yield install


def load(folder: Path, *changes: tuple[str, str]) -> schema.Params:
    text = small_params()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    (folder / "params.yaml").write_text(text)
    return params_file.load(folder / "params.yaml")


MINE = (
    ("rules: [bp, gait]  # keys", "rules: [bp, mine, gait]  # keys"),
    ("  bp:\n", "  mine: {learning_rate: 0.1, orthogonality: 0.0}\n  bp:\n"),
)


def test_params_ask_for_a_packages_rule(rule: Package, tmp_path: Path) -> None:
    rule("pack", RULE, mine="mine")
    params = load(tmp_path, *MINE)
    assert params.models() == ["reference", "bp", "mine", "gait"]
    assert [params.gamma_of(name) for name in params.models()] == [None, None, None, 0.001]
    assert model_name(params, "mine") == "mine"
    looks = [look_of(params, name) for name in params.models()]
    assert len({look.colour for look in looks}) == len({look.marker for look in looks}) == 4
    assert looks[2] not in LOOKS.values()
    given = load(tmp_path, MINE[0], (MINE[1][0], MINE[1][1].replace("}", ", gamma: 0.5}")))
    assert given.gamma_of("mine") == 0.5


FAMILY = """
from gaitprop.rules.hyperparameters import Hyperparameter, RuleFamily
def damped(mu):
    return lambda layer, error, scale: error / (1 + mu)
damped_inverse = RuleFamily(damped, {"mu": Hyperparameter(0.5, "of the inverse", ge=0.0, le=9.0)})
"""
DAMPED = (
    ("rules: [bp, gait]  # keys", "rules: [damped_inverse]  # keys"),
    ("  bp:\n", "  damped_inverse: {learning_rate: 0.1, orthogonality: 0.0, mu: 2}\n  bp:\n"),
)
SWEPT = (
    ("rules: [bp, gait, itp, tp]  # each", "rules: [damped_inverse]  # each"),
    ("    rule.learning_rate: [", "    rule.mu: [0.0, 1.0]\n    rule.learning_rate: ["),
)


def test_params_say_its_hyperparameters(rule: Package, tmp_path: Path) -> None:
    rule("pack", FAMILY, damped_inverse="damped_inverse")
    params = load(tmp_path, *DAMPED, *SWEPT)
    key = ModelKey("digits", "digits", "square", "damped_inverse")
    config = described(params, key, prepared(tmp_path, "digits"))
    assert parameters(config)["rule.mu"] == 2.0
    made = training_settings(params, key).rule
    assert not isinstance(made, str)
    assert made(None, torch.ones(1), 1.0).item() == pytest.approx(1 / 3)  # type: ignore[arg-type]
    assert {each.values["rule.mu"] for each in configurations(params)} == {0.0, 1.0}
    page = settings_reference.as_markdown()
    assert "| `mu` | number | ≥ 0, ≤ 9 | `0.5` | damped_inverse alone: of the inverse | `r" in page
    properties = settings_reference.json_schema()["$defs"]["RuleSettings"]["properties"]
    assert properties["mu"]["maximum"] == 9.0


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("mu: 2", "mu: -1.0", "damped_inverse.mu: received -1.0; input should be greater than or"),
        ("mu: 2", "mu: low", "damped_inverse.mu: received 'low'; input should be a valid number"),
        ("mu: 2", "my: 2", "rules.damped_inverse.my: unknown key"),
        ("[0.0, 1.0]", "[0.0, 10.0]", "sweep.space.rule.mu: received 10.0; input should be less"),
        ('"mu"', '"gamma"', "declares a hyperparameter 'gamma'; allowed: small letters"),
    ],
)
def test_values_that_a_hyperparameter_may_not_have(
    rule: Package, tmp_path: Path, old: str, new: str, said: str
) -> None:
    rule("pack", FAMILY.replace(old, new), damped_inverse="damped_inverse")
    changes = [(before, after.replace(old, new)) for before, after in (*DAMPED, *SWEPT)]
    with pytest.raises(GaitError) as caught:
        load(tmp_path, *changes)
    assert said in str(caught.value)


def test_keys_of_a_package_that_cannot_be_used(rule: Package, tmp_path: Path) -> None:
    rule("pack", "import nothing_such", damped_inverse="damped_inverse")
    with pytest.raises(
        GaitError, match=r"line \d+, rules.damped_inverse: .* pack 1.0 cannot be lo"
    ):
        load(tmp_path, DAMPED[1])


def test_errors_name_it_among_what_is_allowed(rule: Package, tmp_path: Path) -> None:
    rule("pack", RULE, mine="mine")
    with pytest.raises(GaitError, match=r"unknown 'my'; allowed: bp, gait, itp, tp, .*, mine"):
        load(tmp_path, ("  itp:\n", "  my:\n"))


def test_a_broken_package_is_told_before_any_work(rule: Package, tmp_path: Path) -> None:
    rule("pack", "import nothing_such", mine="mine")
    load(tmp_path)
    with pytest.raises(GaitError, match=r"'mine' .* of the package pack 1.0 cannot be loaded"):
        load(tmp_path, *MINE)
    (found,) = [each for each in doctor.examine() if each.name == "packages"]
    assert "pack 1.0 cannot be loaded" in found.found
    assert found.advice is not None


def test_its_source_is_recorded(rule: Package, tmp_path: Path) -> None:
    rule("pack", RULE, mine="mine")
    params = load(tmp_path, *MINE)
    images = prepared(tmp_path, "digits")
    built_in, own = (
        described(params, ModelKey("digits", "digits", "square", name), images.checksum)
        for name in ("gait", "mine")
    )
    assert "plugin" not in built_in
    assert own["plugin"]["distribution"] == "pack"
    plugin = plugin_source.plugin_of("mine")
    assert own["plugin"] == plugin
    codes = training_code_checksum("mine"), training_code_checksum("gait")
    tags = plugin_source.tags_of("mine")
    assert tags == {"version.pack": "1.0", "plugin.sha256": own["plugin"]["sha256"]}
    before = identity(own, torch.device("cpu"))
    plugin_source.plugin_of.cache_clear()
    source = tmp_path / "own_pack.py"
    source.write_text(RULE + "# other\n")
    assert training_code_checksum("mine") != codes[0]
    assert training_code_checksum("gait") == codes[1]
    after = identity(
        described(params, ModelKey("digits", "digits", "square", "mine"), images.checksum),
        torch.device("cpu"),
    )
    assert [name for name in before if before[name] != after[name]] == ["code"]
    with pytest.raises(GaitError, match=r"'mine' is not the recorded one: pack 0.9 had source"):
        plugin_source.check("mine", plugin, "0.9")
    with pytest.raises(GaitError, match=r"of the package pack 0.9, which is not installed here"):
        plugin_source.check("gone", plugin, "0.9")
    plugin_source.check("gait", None)


def test_a_folder_counts_as_a_whole_and_its_bytecode_does_not(
    rule: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule("pack", RULE, mine="mine")
    package = tmp_path / "own_folder"
    (package / "inner").mkdir(parents=True)
    (package / "__init__.py").write_text(RULE)
    (package / "inner" / "table.csv").write_text("1")
    points = tmp_path / "pack-1.0.dist-info" / "entry_points.txt"
    points.write_text("[gaitprop.rules]\nmine = own_folder:mine\n")

    def checksum() -> str:
        plugin_source.plugin_of.cache_clear()
        plugin = plugin_source.plugin_of("mine")
        assert plugin is not None
        return plugin["sha256"]

    first = checksum()
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "x.pyc").touch()
    (package / ".table.csv.swp").touch()
    (package / "table.csv~").touch()
    assert checksum() == first
    (package / "inner" / "table.csv").write_text("2")
    assert checksum() != first


def test_links_lead_to_the_source(
    rule: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule("pack", RULE, mine="mine")
    params = load(tmp_path, *MINE)
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "watched" / "rules" / "mine"
    place.parent.mkdir(parents=True)
    place.symlink_to("elsewhere")
    for _ in range(2):
        plugin_source.link(params)
        assert place.resolve() == tmp_path / "own_pack.py"
    assert [path.name for path in place.parent.iterdir()] == ["mine"]


def prepared(folder: Path, name: str) -> image_tensors.ImageData:
    path = folder / f"{name}.safetensors"
    image_tensors.prepare(name, path, folder)
    return image_tensors.load(path)


@pytest.mark.parametrize(
    "table",
    [
        "",
        "; import pandas; images = pandas.DataFrame(images.reshape(4, 6))",
        "; import torch; images = torch.tensor(images.reshape(4, 6).T.copy()).T",
        "; import torch; images = torch.tensor(images, dtype=torch.float32, requires_grad=True)",
    ],
)
def test_a_packages_data_set(blobs: Package, tmp_path: Path, table: str) -> None:
    blobs("pack", SET.format(read=READ + table, more="maximum=23, "), blobs="blobs")
    first = prepared(tmp_path, "blobs")
    assert torch.equal(first.train_images, torch.arange(24, dtype=torch.uint8).reshape(4, 6))
    assert first.test_labels.tolist() == [2, 1]
    assert (first.classes, first.maximum) == (3, 23)
    assert prepared(tmp_path, "blobs").checksum == first.checksum
    digits = ("datasets: [digits]", "datasets: [blobs]")
    assert load(tmp_path, digits).run.datasets == ["blobs"]
    with pytest.raises(GaitError, match=r"has 2 outputs, but blobs has 3 classes"):
        load(tmp_path, digits, ("hidden_layers: 1", "widths: [2]"))


FLOATS = "images, labels = np.linspace(-2.5, 3, {n}).reshape(4, {inputs}), [0, 1, 1, 0]"


def test_another_shape_is_another_set(blobs: Package, tmp_path: Path) -> None:
    shapes = ("", "shape=(1, 2, 3), ", "shape=(1, 3, 2), ")
    for number, shape in enumerate(shapes):
        source = SET.format(read=READ, more=f"maximum=23, {shape}").replace(
            "blobs = ", f"b{number} = "
        )
        blobs(
            f"pack{number}",
            source.replace('"blobs"', f'"b{number}"'),
            **{f"b{number}": f"b{number}"},
        )
    kept = [image_tensors.prepare(f"b{k}", tmp_path / f"b{k}", tmp_path) for k in range(3)]
    assert len({*kept}) == 3


@pytest.mark.parametrize("inputs", [2, 13])
def test_a_packages_data_set_of_floats(blobs: Package, tmp_path: Path, inputs: int) -> None:
    read = FLOATS.format(n=4 * inputs, inputs=inputs)
    source = SET.replace("inputs=6", f"inputs={inputs}").format(read=read, more="maximum=None, ")
    blobs("pack", source, blobs="blobs")
    data = prepared(tmp_path, "blobs")
    assert data.maximum is None
    assert torch.allclose(data.train_images.flatten(), torch.linspace(-2.5, 3, 4 * inputs))
    changes = (
        ("datasets: [digits]", "datasets: [blobs]"),
        ("  dataset: digits\n", "  dataset: blobs\n"),
        ("hidden_layers: 1", "projection: 5\n    hidden_layers: 1"),
        ("validation_fraction: 0.1", "validation_fraction: 0.5"),
        ("batch_size: 30", "batch_size: 2"),
        ("precision: float32", "precision: float64"),
    )
    params = load(tmp_path, *changes)
    trained = prepare(params, ModelKey("digits", "blobs", "square", "gait"), data)
    assert trained.data.images.dtype == torch.float64
    found = trained.data.images, trained.data.validation_images
    assert torch.equal(torch.cat(found).sort(0).values, data.train_images.double())
    optimizer = make_optimizer(trained.network, trained.settings)
    *_, last = train(trained.network, optimizer, trained.data, trained.settings)
    assert last.validation.loss.isfinite().all()


@pytest.mark.parametrize(
    ("read", "more", "said"),
    [
        (
            "images, labels = np.full((3, 6), np.nan), [0, 1, 2]",
            "maximum=None, ",
            "train_images have nan among them; allowed: finite float32 numbers",
        ),
        (
            "images, labels = np.full((3, 6), 0.5), [0, 1, 2]",
            "maximum=None, ",
            "train_images hold 0.5 everywhere",
        ),
        ("images, labels = np.full((3, 6), 0.5), [0, 1, 2]", "", "train_images are not all whole"),
        ("images, labels = np.full((3, 6), -1), [0, 1, 2]", "", "train_images are not all whole"),
        ("images, labels = np.full((3, 6), np.nan), [0, 1, 2]", "", "not all whole numbers"),
        ("images, labels = np.ones((3, 5)), [0, 1, 2]", "", "shapes torch.Size([3, 5])"),
        ("images, labels = np.ones((3, 6)), [0, 1]", "", "train tensors have shapes"),
        (
            "images, labels = np.full((3, 6), 0.5), [0, 1, 2]",
            "",
            "whole numbers of 0 to 255: there is 0.5",
        ),
        (
            "images, labels = np.eye(3, 6), [1, 2, 3]",
            "maximum=1, ",
            "train_labels are of 1 to 3; allowed: 0 to 2",
        ),
        (READ, "maximum=4, ", "train_images are of 0 to 23; allowed: 0 to 4"),
        (READ, "", "train_images are of 0 to 23, and the set's maximum is 255"),
        (
            "images, labels = np.zeros((3, 6)), [0, 1, 2]",
            "",
            "train_images hold 0 everywhere; allowed: images that differ",
        ),
        (
            "images, labels = np.arange(6)[None].repeat(3, 0), [0, 1, 2]",
            "maximum=5, ",
            "train_images are 3 times the same; allowed: images that differ",
        ),
        (
            f"{READ}; return images, labels, images[:2] * 0 + 7, labels[:2]",
            "maximum=23, ",
            "test_images hold 7 everywhere; allowed: images that differ",
        ),
        (
            f"{READ}; return images, labels, images[:2] // 3, labels[:2]",
            "maximum=23, ",
            "test_images are of 0 to 3, and the set's maximum is 23",
        ),
        ("raise SystemExit(3)", "", "SystemExit: 3"),
        ("return np.ones((3, 6)), [0, 1, 2]", "", "2 values in place of train_images"),
        ("images, labels = 1 / 0, []", "", "ZeroDivisionError: division by zero"),
        ("images, labels = np.ones((3, 6)), np.reshape(1, 2)", "", "ValueError: cannot reshape"),
        ("images, labels = np.ones((3, 6)), [0.5, 1, 2]", "", "0.5; allowed: classes, since"),
        ("images, labels = np.eye(3, 6), np.ones((3, 2))", "", "(3, 2); allowed: (N,), classes"),
    ],
)
def test_what_cannot_be_kept_is_refused(
    blobs: Package, tmp_path: Path, read: str, more: str, said: str
) -> None:
    blobs("pack", SET.format(read=read, more=more), blobs="blobs")
    with pytest.raises(GaitError, match=r"image set 'blobs' cannot be") as caught:
        image_tensors.prepare("blobs", tmp_path / "blobs.safetensors", tmp_path)
    assert said in str(caught.value)
    assert str(tmp_path / "own_pack.py") in str(caught.value)
    assert ".py" not in str(caught.value).replace("own_pack.py", "")
    assert not (tmp_path / "blobs.safetensors").exists()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('ImageSet("blobs"', 'ImageSet("bobs"', "calls itself 'bobs'"),
        ("inputs=6", "inputs=0", "has inputs 0; allowed: 1 or more"),
        ("classes=3", "classes=257", "has classes 257; allowed: 2 to 256"),
        ("read=read", "maximum=0, read=read", "has maximum 0; allowed: 1 to 255"),
        ("read=read", "source='MNIST'", "allowed: an ImageSet with a function `read`"),
        ("import numpy", "import nothing_such", "cannot be loaded: ModuleNotFoundError"),
        ("import numpy", "raise SystemExit('no licence')\nimport numpy", "SystemExit: no licence"),
    ],
)
def test_a_data_set_that_does_not_say_what_it_is(
    blobs: Package, tmp_path: Path, old: str, new: str, said: str
) -> None:
    source = SET.format(read=READ, more="")
    assert old in source
    blobs("pack", source.replace(old, new), blobs="blobs")
    with pytest.raises(
        GaitError, match=r"'blobs' .gait.datasets. of the package pack 1.0"
    ) as caught:
        load(tmp_path, ("datasets: [digits]", "datasets: [blobs]"))
    assert said in str(caught.value)
