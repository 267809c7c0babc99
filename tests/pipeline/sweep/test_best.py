"""`gait sweep best`: the winners as a table and into params.yaml, with everything else kept."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from pipeline.params import params_file
from pipeline.project.errors import GaitError
from pipeline.project.paths import ModelKey, sweep_results_folder
from pipeline.sweep import best, winners, yaml_text
from pipeline.training.experiment import training_settings
from tests.pipeline.sweep_tables import REPOSITORY, RULES, params_text

RATE, LAMBDA = "rule.learning_rate", "rule.orthogonality"


def winner(**values: Any) -> dict[str, Any]:
    """As best.yaml has it; ``rule__gamma`` stands for ``rule.gamma``."""
    return {
        "trial": "22fa70d602c9",  # pragma: allowlist secret
        "values": {name.replace("__", "."): value for name, value in values.items()},
        "seeds": 3,
        "epochs": 15,
        "validation_accuracy": {"mean": 0.98, "std": 0.002},
        "validation_loss": {"mean": 0.01, "std": None},
        "mlflow_run_id": None,
    }


def leave_sweep(rules: dict[str, Any], **others: Any) -> Path:
    """A folder of results with these winners, and params.yaml beside it."""
    params = Path("params.yaml")
    if not params.exists():
        params.write_text(params_text())
    folder = sweep_results_folder("digits", params_file.load().sweep.name)
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "sweep": "learning_rate_and_orthogonality",
        "profile": "digits",
        "dataset": "digits",
        "architecture": "square",
        "fixed": {},
        "best_rule": next((rule for rule, found in rules.items() if found), None),
        "rules": rules,
        **others,
    }
    (folder / "best.yaml").write_text(yaml_text.dumps(content))
    return folder


def changed_lines(before: str) -> list[str]:
    after = Path("params.yaml").read_text()
    found = difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm="")
    return [line for line in found if line[0] in "+-" and line[:3] not in ("+++", "---")]


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "path", sorted((REPOSITORY / "profiles").glob("*.yaml")), ids=lambda path: path.stem
)
def test_what_is_not_changed_stays_byte_for_byte(path: Path) -> None:
    text = path.read_text()
    assert yaml_text.dumps(yaml_text.round_trip().load(text)) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.0, "0.0"),
        (1e-3, "0.001"),
        (1e-5, "1.0e-5"),
        (1.25e-7, "1.25e-7"),
        (1e3, "1000.0"),
        (1e20, "1.0e+20"),
        (0.000234823482348, "0.000234823482348"),
    ],
)
def test_numbers_are_written_in_full_and_as_yaml_1_1_reads_them(number: float, text: str) -> None:
    assert yaml_text.float_text(number) == text
    assert yaml.safe_load(text) == number


def test_apply_changes_the_winners_values_and_nothing_else() -> None:
    folder = leave_sweep(
        {
            "bp": winner(rule__learning_rate=1e-3, rule__orthogonality=0.0),
            "gait": winner(rule__learning_rate=1e-5, rule__orthogonality=0.1),
            "itp": winner(rule__learning_rate=0.0001234567890123, rule__orthogonality=20),
            "tp": None,
        }
    )
    before = Path("params.yaml").read_text()
    reported = best.apply(folder)
    assert changed_lines(before) == [
        "-    orthogonality: 0.1",
        "+    orthogonality: 0.0",
        "-    learning_rate: 0.001",
        "+    learning_rate: 1.0e-5",
        "-    learning_rate: 0.0003",
        "-    orthogonality: 10.0",
        "+    learning_rate: 0.0001234567890123",
        "+    orthogonality: 20.0",
    ]
    assert reported == [
        "rules.bp.orthogonality: 0.1 -> 0.0",
        "rules.gait.learning_rate: 0.001 -> 1.0e-5",
        "rules.itp.learning_rate: 0.0003 -> 0.0001234567890123",
        "rules.itp.orthogonality: 10.0 -> 20",
    ]
    assert [path.name for path in Path().iterdir() if path.is_file()] == ["params.yaml"]


def test_the_train_stage_then_trains_exactly_the_winners() -> None:
    values = {
        rule: {RATE: 1e-4 / (3 + place), LAMBDA: 0.1 / (7 + place)}
        for place, rule in enumerate(RULES)
    }
    best.apply(leave_sweep({rule: {**winner(), "values": values[rule]} for rule in RULES}))
    params = params_file.load()
    for rule in RULES:
        settings = training_settings(params, ModelKey("digits", "digits", "square", rule))
        assert (settings.learning_rate, settings.orthogonality) == (
            values[rule][RATE],
            values[rule][LAMBDA],
        )
        assert settings.epochs == 60


def test_applying_twice_changes_nothing_more() -> None:
    folder = leave_sweep({"bp": winner(rule__orthogonality=0.5)})
    assert best.apply(folder) == ["rules.bp.orthogonality: 0.1 -> 0.5"]
    before = Path("params.yaml").stat().st_mtime_ns, Path("params.yaml").read_bytes()
    assert best.apply(folder) == []
    assert (Path("params.yaml").stat().st_mtime_ns, Path("params.yaml").read_bytes()) == before


def test_a_key_that_the_file_lacks_is_added_to_its_own_section() -> None:
    folder = leave_sweep({"tp": winner(rule__gamma=0.5)})
    before = Path("params.yaml").read_text()
    assert best.apply(folder) == ["rules.tp.gamma: 0.001 -> 0.5"]
    assert changed_lines(before) == ["+    gamma: 0.5"]
    assert params_file.load().rules["tp"].gamma == 0.5


def test_shared_settings_are_applied_where_winners_agree() -> None:
    shared = {
        "architecture__hidden_layers": 6,
        "training__batch_size": 60,
        "training__adam__beta1": 0.8,
        "training__seeds": [3, 4],
    }
    folder = leave_sweep({"bp": winner(**shared), "gait": winner(rule__gamma=0.25, **shared)})
    best.apply(folder)
    params = params_file.load()
    assert params.architectures["square"].hidden_layers == 6
    assert (params.training.batch_size, params.training.adam.beta1) == (60, 0.8)
    assert params.training.seeds == [3, 4]
    assert params.rules["gait"].gamma == 0.25
    assert "  seeds: [3, 4]               # each has its own" in Path("params.yaml").read_text()


def test_shared_settings_that_differ_need_a_rule() -> None:
    folder = leave_sweep(
        {
            "bp": winner(rule__orthogonality=0.5, training__batch_size=60),
            "gait": winner(rule__orthogonality=0.25, training__batch_size=10),
        }
    )
    before = Path("params.yaml").read_bytes()
    with pytest.raises(GaitError, match=r"bp and gait differ in training\.batch_size \(60 and"):
        best.apply(folder)
    assert Path("params.yaml").read_bytes() == before
    assert best.apply(folder, rule="gait") == [
        "rules.gait.orthogonality: 0.1 -> 0.25",
        "training.batch_size: 30 -> 10",
    ]
    assert params_file.load().rules["bp"].orthogonality == 0.1


def test_fixed_settings_are_not_applied_but_told() -> None:
    folder = leave_sweep(
        {"bp": winner(rule__orthogonality=0.5), "tp": None},
        fixed={"training.epochs": 15, "training.batch_size": 30, "rule.gamma": 0.0},
    )
    assert best.apply(folder) == ["rules.bp.orthogonality: 0.1 -> 0.5"]
    assert params_file.load().training.epochs == 60
    assert best.notes(winners.read(folder), params_file.load()) == [
        "no trial of tp finished: params.yaml keeps its settings",
        "training.epochs stays 60; the sweep's trials had 15",
        "rules.bp.gamma stays 0.001; the sweep's trials had 0.0",
    ]


def test_missing_trials_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    """A cluster that lost a sweep's workers leaves winners of the trials that had ended."""
    leave_sweep({"bp": winner(rule__orthogonality=0.5)}, missing=3)
    said = "trials that have not ended: 3; `gait sweep --resume` tries them again"
    best.run(params_file.load())
    assert said in capsys.readouterr().out
    best.run(params_file.load(), write=True)
    assert f"note: {said}" in capsys.readouterr().out


def test_what_repro_would_not_train_is_told() -> None:
    Path("params.yaml").write_text(
        params_text().replace("rules: [bp, gait, itp, tp] ", "rules: [bp] ", 1)
    )
    folder = leave_sweep({rule: winner(rule__orthogonality=0.5) for rule in ("bp", "gait")})
    (note,) = best.notes(winners.read(folder), params_file.load())
    assert note == "run.rules lacks gait, so `gait repro` trains no such model"


@pytest.mark.parametrize(
    ("rules", "rule", "message"),
    [
        ({"bp": None, "tp": None}, None, "no trial of the sweep .* finished"),
        (
            {"bp": winner(rule__gamma=0.5), "tp": None},
            "tp",
            "no trial of tp of the sweep .* finished",
        ),
        ({"bp": winner(rule__gamma=0.5)}, "gate", "unknown rule 'gate'; swept were bp"),
        (
            {"bp": winner(training__batch_size=0)},
            None,
            "nothing was applied: params.yaml with the winners has a problem:\n.*batch_size",
        ),
        ({"bp": winner(rule__momentum=0.5)}, None, "params.yaml has no rules.bp.momentum"),
    ],
)
def test_refusals_leave_everything_as_it_was(
    rules: dict[str, Any], rule: str | None, message: str
) -> None:
    folder = leave_sweep(rules)
    before = Path("params.yaml").read_bytes()
    with pytest.raises(GaitError, match=message):
        best.apply(folder, rule)
    assert Path("params.yaml").read_bytes() == before
    assert [path.name for path in Path().iterdir() if path.is_file()] == ["params.yaml"]


def test_an_architecture_that_is_gone_is_named() -> None:
    folder = leave_sweep({"bp": winner(architecture__hidden_layers=2)}, architecture="tower")
    with pytest.raises(GaitError, match=r"params\.yaml has no architectures\.tower"):
        best.apply(folder)


def test_values_that_the_file_shares_are_not_changed_behind_its_back() -> None:
    text = params_text()
    section = "  bp:\n    learning_rate: 0.001\n    orthogonality: 0.1\n"
    assert text.count(section) == 1
    text = text.replace(section, section.replace("bp:", "bp: &both"))
    start, end = text.index("  gait:\n"), text.index("  itp:\n")
    Path("params.yaml").write_text(f"{text[:start]}  gait: *both\n{text[end:]}")
    folder = leave_sweep({"bp": winner(rule__orthogonality=0.5)})
    before = Path("params.yaml").read_bytes()
    with pytest.raises(GaitError, match="a YAML alias"):
        best.apply(folder)
    assert Path("params.yaml").read_bytes() == before


def test_a_setting_that_params_lack_is_refused_before_anything_is_written() -> None:
    fixed = {"architecture.hidden_layers": 2}
    leave_sweep({"bp": winner(rule__orthogonality=0.5)}, architecture="tower", fixed=fixed)
    before = Path("params.yaml").read_bytes()
    with pytest.raises(GaitError, match=r"params\.yaml has no architectures\.tower"):
        best.run(params_file.load(), write=True)
    assert Path("params.yaml").read_bytes() == before


def test_permissions_are_kept() -> None:
    folder = leave_sweep({"bp": winner(rule__orthogonality=0.5)})
    Path("params.yaml").chmod(0o640)
    best.apply(folder)
    assert Path("params.yaml").stat().st_mode & 0o777 == 0o640


def test_without_a_sweep_it_says_how_to_have_one() -> None:
    Path("params.yaml").write_text(params_text())
    with pytest.raises(GaitError, match=r"best\.yaml is missing: run `gait sweep`"):
        best.run(params_file.load())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("rules: [", "is not as `gait sweep` writes it"),
        ("", "the file as a whole"),
        ("sweep: 3\n", "sweep: Input should be a valid string"),
        ("sweep: 2001-99-99\n", "month must be in 1..12"),
    ],
)
def test_a_broken_file_is_named(text: str, reason: str) -> None:
    folder = leave_sweep({"bp": winner(rule__gamma=0.5)})
    (folder / "best.yaml").write_text(text)
    with pytest.raises(GaitError, match=reason):
        winners.read(folder)


def test_the_table_fits_a_terminal_and_names_every_rule(
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = leave_sweep(
        {
            "bp": winner(rule__learning_rate=1e-5, rule__orthogonality=0.0),
            "gait": winner(rule__learning_rate=1e-5, rule__orthogonality=1000.0),
            "tp": None,
        }
    )
    with (console := Console(width=80)).capture() as captured:
        console.print(best.table(winners.read(folder), params_file.load()))
    lines = captured.get().splitlines()
    (row,) = (line for line in lines if "GAIT-prop" in line)
    assert row.split() == [
        "GAIT-prop",
        "1e-5",
        "1000",
        "98.00",
        "±",
        "0.20",
        "0.0100",
        "22fa70d602c9",  # pragma: allowlist secret
    ]
    assert any("BP (best)" in line for line in lines)
    assert any("TP" in line and "no trial finished" in line for line in lines)
    before = Path("params.yaml").read_bytes()
    best.run(params_file.load())
    assert "gait sweep best --apply" in capsys.readouterr().out
    assert Path("params.yaml").read_bytes() == before


def test_nothing_is_cut_where_there_is_no_terminal_or_a_narrow_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {f"training__{name}": 1 for name in ("epochs", "batch_size", "probe_size")}
    settings |= {"rule__learning_rate": 1.25e-5, "training__orthogonality_interval": 7}
    folder = leave_sweep({"gait": winner(**settings)})
    monkeypatch.setenv("COLUMNS", "80")
    best.run(params_file.load())
    said = capsys.readouterr().out
    assert "…" not in said
    for words in (
        "orthogonality interval",
        "98.00 ± 0.20",
        "22fa70d602c9",  # pragma: allowlist secret
        "1.25e-5",
    ):
        assert words in said
    with (console := Console(width=70)).capture() as captured:
        console.print(best.table(winners.read(folder), params_file.load()))
    assert "…" not in captured.get()


def test_run_writes_and_says_what_has_changed(capsys: pytest.CaptureFixture[str]) -> None:
    leave_sweep({"bp": winner(rule__orthogonality=0.5)}, fixed={"training.epochs": 15})
    with pytest.raises(GaitError, match="--rule bp"):
        best.run(params_file.load(), rule="bp")
    best.run(params_file.load(), write=True)
    assert capsys.readouterr().out.splitlines() == [
        "rules.bp.orthogonality: 0.1 -> 0.5",
        "note: training.epochs stays 60; the sweep's trials had 15",
        "`gait repro` trains and tests what has changed",
    ]
    best.run(params_file.load(), write=True)
    assert capsys.readouterr().out.splitlines() == [
        "params.yaml has the winners' values already",
        "note: training.epochs stays 60; the sweep's trials had 15",
    ]
