"""The same bits on every processor: this one, the same as an AMD, and others that qemu plays.

bits.json holds what every machine must give; ``python tests/portable/bits.py`` writes it. What runs
at full speed is in `make test`, a little of the rest in `make test-commands`; `make test-portable`
runs all of it, which takes two hours of two cores.
"""

from __future__ import annotations

import csv
import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from gaitprop import numerics
from pipeline.training.model_files import result_checksum
from tests.documents import published
from tests.pipeline.project_copy import REPOSITORY, copy_project
from tests.portable import as_amd
from tests.portable.bits import PARTS

KEPT = json.loads(Path(__file__).with_name("bits.json").read_text(encoding="utf-8"))
SCRIPT = Path(__file__).with_name("bits.py")
INTEL, AMD = ("Haswell-v4", "Skylake-Client-v4"), ("EPYC", "EPYC-Rome")
ALL = os.environ.get("GAIT_TEST_PORTABLE") == "all"
MODELS = ("reference", "bp", "gait", "itp", "tp")
# Of the other make than this machine's own, whose bits are looked at anyhow.
OTHER_MAKE = AMD[1] if "GenuineIntel" in numerics.processor() else INTEL[0]
PROCESSORS = (*INTEL, *AMD) if ALL else (OTHER_MAKE,)
PLAYED = [part for part in PARTS if ALL or part == "shortest"]

pytestmark = [
    pytest.mark.skipif(
        platform.machine() not in ("x86_64", "AMD64"), reason="portable numerics are for x86-64"
    ),
    pytest.mark.timeout(7200),
]


def on(
    processor: str | Path | None, *arguments: str, folder: Path = REPOSITORY, threads: int = 1
) -> str:
    """What Python prints on this processor (None), with a library preloaded (a path), or on another
    that qemu plays (a name).
    """
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("GAIT_", "MLFLOW_"))}
    environment = {
        **inherited,
        "GAIT_TEST_THREADS": str(threads),
        "OMP_NUM_THREADS": str(threads),
        "DO_NOT_TRACK": "true",
        # The interpreter itself, not the link to it in .venv, is what qemu can start.
        "PYTHONPATH": os.pathsep.join([str(folder), sysconfig.get_path("purelib")]),
    }
    command = [str(Path(sys.executable).resolve()), *arguments]
    if isinstance(processor, Path):
        environment["LD_PRELOAD"] = str(processor)
    elif processor is not None:
        command = ["qemu-x86_64", "-cpu", processor, *command]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def kept(*parts: str) -> dict[str, str]:
    cases = [
        f"{rule} {shape} {precision}"
        for part in parts
        for shape, precision, rules in PARTS[part]
        for rule in rules
    ]
    return {case: KEPT[case] for case in cases}


@pytest.fixture(scope="module")
def amd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What has this processor call itself an AMD, once it is preloaded."""
    if missing := as_amd.why_not():
        pytest.skip(f"calling this processor an AMD {missing}")
    return as_amd.build(tmp_path_factory.mktemp("amd"))


@pytest.fixture(scope="session")
def qemu() -> None:
    if shutil.which("qemu-x86_64") is None:
        if os.environ.get("GAIT_TEST_QEMU") == "required":
            pytest.fail("qemu-x86_64 is missing; Debian has it in qemu-user")
        pytest.skip("qemu-x86_64 plays other processors, and is missing (Debian: qemu-user)")


@pytest.mark.parametrize("threads", [1, 2])
def test_this_processor(threads: int) -> None:
    assert json.loads(on(None, str(SCRIPT), threads=threads)) == kept(*PARTS)


@pytest.mark.parametrize("threads", [1, 2])
def test_as_an_amd(amd: Path, threads: int) -> None:
    assert json.loads(on(amd, str(SCRIPT), threads=threads)) == kept(*PARTS)


def test_libraries_take_it_for_an_amd(amd: Path) -> None:
    # MKL's square root is another on either make, and neither is exact.
    code = "import torch; print(hash(tuple((torch.arange(1, 10_001) * 0.37).sqrt().tolist())))"
    assert on(amd, "-c", code) != on(None, "-c", code)
    capability = "import torch; print(torch.backends.cpu.get_cpu_capability())"
    assert on(amd, "-c", capability) == "AVX2\n"


@pytest.mark.long
def test_the_published_digits_as_an_amd(amd: Path, tmp_path: Path) -> None:
    project = copy_project(tmp_path / "project")
    shutil.copy(REPOSITORY / "profiles/digits.yaml", project / "params.yaml")
    on(None, "-m", "pipeline", "download", "digits", folder=project)
    rows = csv.DictReader(published("results/digits/seeds.csv").splitlines())
    result = {row["model"]: row["result"] for row in rows}
    assert sorted(result) == sorted(MODELS)
    for model in MODELS:
        on(amd, "-m", "pipeline", "train", "digits", "square", model, folder=project)
        assert result_checksum(project / "models/digits/digits/square" / model) == result[model]


@pytest.mark.long
@pytest.mark.usefixtures("qemu")
@pytest.mark.parametrize("part", PLAYED)
@pytest.mark.parametrize("processor", PROCESSORS)
def test_another_processor(processor: str, part: str) -> None:
    assert json.loads(on(processor, str(SCRIPT), part)) == kept(part)


@pytest.mark.usefixtures("qemu")
@pytest.mark.skipif(not ALL, reason="takes a while; `make test-portable` runs it")
@pytest.mark.parametrize("processor", [INTEL[0], AMD[1]])
def test_the_digits_profile(processor: str, tmp_path: Path) -> None:
    project = copy_project(tmp_path / "project")
    profile = (REPOSITORY / "profiles/digits.yaml").read_text(encoding="utf-8")
    assert profile.count("\n  epochs: 60\n") == 1
    shorter = profile.replace("\n  epochs: 60\n", "\n  epochs: 4\n")
    (project / "params.yaml").write_text(shorter, encoding="utf-8")
    on(None, "-m", "pipeline", "download", "digits", folder=project)
    for model in MODELS:
        command = ("-m", "pipeline", "train", "digits", "square", model)
        on(processor, *command, folder=project)
        made = {each.name: each.read_bytes() for each in models(project, model)}
        shutil.rmtree(project / "models")
        on(None, *command, folder=project)
        assert made == {each.name: each.read_bytes() for each in models(project, model)}


def models(project: Path, model: str) -> list[Path]:
    return sorted((project / "models/digits/digits/square" / model).iterdir())


def test_a_machine_that_computes_otherwise_is_found() -> None:
    # MKL as it comes: what portable numerics keep away.
    code = (
        "import torch; a = torch.rand(64, 64); a @ a\n"
        "from tests.portable import bits; bits.main(['shortest'])"
    )
    found = json.loads(on(None, "-c", code))
    assert found.keys() == kept("shortest").keys()
    assert found != kept("shortest")
