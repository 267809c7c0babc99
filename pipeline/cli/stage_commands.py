"""The stages of dvc.yaml, a command each, and `gait repro`, which runs them all."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from pipeline.cli import completion
from pipeline.cli.output import JSON, to_standard_error
from pipeline.project import source
from pipeline.project.environment import prepare_environment
from pipeline.project.errors import GaitError
from pipeline.project.files import check_writable, checksum
from pipeline.project.nearest_name import did_you_mean
from pipeline.project.paths import ModelKey, results_folder
from pipeline.project.running_code import unchanged

if TYPE_CHECKING:
    from pipeline.cli.dvc_repro import Step
    from pipeline.params.schema import Params


def download(
    datasets: Annotated[
        list[str] | None,
        typer.Argument(
            help="Image sets; those of params.yaml if none is named.",
            autocompletion=completion.datasets,
        ),
    ] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Fetch image archives, verify them and keep them as tensors.

    Archives that are already in the data root (GAIT_DATA_ROOT, or archives.root in params.yaml)
    are verified and not fetched again; broken ones are fetched anew.

    Examples:

        gait download

        gait download mnist fashion

        GAIT_DATA_ROOT=/data/torchvision gait download mnist

        gait download --json | jq -r '.digits'
    """
    from pipeline.data import image_sets
    from pipeline.params import params_file
    from pipeline.stages import download as stage

    params = params_file.load()
    chosen = datasets or params.run.datasets
    paths = {}
    # What a package prints as it is imported, or reads its images, is not in JSON's way.
    with to_standard_error(as_json), _unchanged_by_dvc(lambda: _sources(chosen)):
        for name in chosen:
            image_sets.image_set(name)
        for name in chosen:
            paths[name] = str(stage.run(params, name, progress=Console(stderr=True).is_terminal))
            if not as_json:
                print(f"{name}: verified, in {paths[name]}")
    if as_json:
        print(json.dumps(paths, indent=2))


def train(
    dataset: Annotated[
        str,
        typer.Argument(
            help="An image set of run.datasets.", autocompletion=completion.own_datasets
        ),
    ],
    architecture: Annotated[
        str,
        typer.Argument(help="One of run.architectures.", autocompletion=completion.architectures),
    ],
    model: Annotated[
        str,
        typer.Argument(help="One of run.rules, or `reference`.", autocompletion=completion.models),
    ],
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Train one model, all its seeds side by side, and record it in MLflow.

    Writes models/PROFILE/DATASET/ARCHITECTURE/MODEL. Nothing is written if training diverges.
    A training that was interrupted, by Ctrl-C, SIGTERM, a closed terminal or a crash, goes on where
    it was.

    Examples:

        gait train digits square gait

        gait train digits square reference

        gait train digits square gait --json | jq -r .result
    """
    from pipeline.params import params_file
    from pipeline.stages import train as stage
    from pipeline.training import plugin_source
    from pipeline.training.experiment import described
    from pipeline.training.identity import training_code_checksum
    from pipeline.training.model_files import result_checksum

    params = params_file.load()
    key = ModelKey(params.profile, dataset, architecture, model)

    def deciding() -> object:
        # A package's source as it lies there now.
        plugin_source.plugin_of.cache_clear()
        code = training_code_checksum(params.rule_of(model))
        return code, described(params_file.load(), key, images="")

    for what, received, allowed in (
        ("data set", dataset, params.run.datasets),
        ("architecture", architecture, params.run.architectures),
        ("model", model, params.models()),
    ):
        if received not in allowed:
            hint = did_you_mean(received, allowed)
            raise GaitError(
                f"unknown {what} {received!r}{hint}; allowed by params.yaml: {', '.join(allowed)}"
            )
    with to_standard_error(as_json), _unchanged_by_dvc(deciding):
        folder = stage.run(params, key)
    if as_json:
        # Runs in MLflow have the checksum as their tag gait.result.
        made = {"folder": str(folder), "result": result_checksum(folder)}
        print(json.dumps(made, indent=2))


def evaluate(as_json: Annotated[bool, JSON] = False) -> None:
    """Evaluate every trained model on the test set and write the tables.

    Writes results/PROFILE/summary.json, .csv and .md, seeds.csv and curves.csv, and adds the test
    figures to the models' MLflow runs.

    Examples:

        gait evaluate

        gait evaluate --json | jq .models.digits.square.gait.test_accuracy_mean
    """
    from pipeline.stages import evaluate as stage

    with to_standard_error(as_json):
        paths = _run_stage(stage)
    if as_json:
        models = next(path for path in paths if path.name == "summary.json")
        made = {"files": list(map(str, paths)), "models": json.loads(models.read_text())}
        print(json.dumps(made, indent=2))
    else:
        print(*paths, sep="\n")


def plot() -> None:
    """Draw learning curves, alignment with BP, orthogonality and final accuracies.

    Writes results/PROFILE/plots/*.svg.

    Example:

        gait plot
    """
    from pipeline.stages import plot as stage

    print(*_run_stage(stage), sep="\n")


def report() -> None:
    """Judge the paper's claims by the results: one page, and the same for programs.

    Writes results/PROFILE/report.html and claims.json. What `gait verify --json` and `gait sweep`
    left below results/ is shown where it is there. The page needs no network.

    Examples:

        gait report

        jq '.claims[].findings[] | [.about, .verdict]' results/digits/claims.json
    """
    from pipeline.stages import report as stage

    print(*_run_stage(stage), sep="\n")


def repro(
    context: typer.Context,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="List the stages that would run, or come from DVC's cache; run none."
        ),
    ] = False,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs",
            "-j",
            min=1,
            help="How many models are trained at once. Default: PyTorch's threads here"
            " (OMP_NUM_THREADS, or the cores), divided by training.threads; 1 on a GPU.",
        ),
    ] = None,
) -> None:
    """Run every stage whose code, data or parameters have changed (`dvc repro`).

    Trainings that wait for nothing from each other run at once: any number gives the same bits.
    Further arguments go to `dvc repro`, which then runs one stage after the other. Exit code 255,
    DVC's, where a stage fails.

    Examples:

        gait repro

        gait repro --jobs 1

        gait repro --force

        gait repro --dry-run
    """
    from pipeline.cli import dvc_repro, parallel_stages
    from pipeline.params import params_file
    from pipeline.stages import evaluate as stage
    from pipeline.training import plugin_source

    if context.args and jobs is not None:
        raise GaitError(
            f"--jobs: received {jobs} beside {' '.join(context.args)}; allowed: no further"
            " arguments, with which `dvc repro` runs one stage after the other"
        )
    params = params_file.load()
    plugin_source.link(params)
    prepare_environment()
    if dry_run and not context.args:
        _list(dvc_repro.plan())
        return
    dvc_repro.check_arguments(context.args)
    arguments = [*context.args, *(["--dry"] if dry_run else [])]
    dry = "--dry" in arguments
    if not dry:
        # DVC's own words for it are not for its user.
        check_writable(Path())
        stage.deliver_what_can_be(params)
    code = 0 if arguments else parallel_stages.run_trainings(params, jobs)
    code = code or dvc_repro.run(["repro", *arguments])
    if code:
        sys.exit(code)
    if not dry:
        stage.complete_runs(params)
        _tell_other_bits(params)


def _unchanged_by_dvc(deciding: Callable[[], object]) -> AbstractContextManager[None]:
    """As ``unchanged``; without DVC nothing is recorded but what was there at the beginning."""
    # DVC names its stage in the environment of the stage's command.
    return unchanged(deciding) if "DVC_STAGE" in os.environ else nullcontext()


def _sources(datasets: Sequence[str]) -> str:
    """Of the code that decides files of image sets, a package's too: what dvc.yaml names."""
    from pipeline.training.plugin_source import WATCHED

    code = [Path("pipeline", "data"), *(WATCHED / "datasets" / name for name in datasets)]
    files = sorted(file for path in code for file in (path, *path.rglob("*")))
    return checksum((str(file), file) for file in files)


def _run_stage(stage: ModuleType) -> list[Path]:
    """Runs a stage; refused if params or its code, which decide its files, change meanwhile."""
    from pipeline.params import params_file
    from pipeline.training.identity import code_checksum, library_files

    def deciding() -> object:
        settings = params_file.load().model_dump(exclude={"archives", "sweep"})
        return settings, code_checksum(stage.CODE, library_files())

    with unchanged(deciding):
        return list(stage.run(params_file.load()))


def _list(steps: list[Step]) -> None:
    for step in steps:
        print(f"{step.stage}: {step.command}{'' if step.surely else '  # if its inputs change'}")
    if not steps:
        print("nothing: data, models and results are up to date")


def _tell_other_bits(params: Params) -> None:
    """One line where committed sources gave other results than the committed ones."""
    from pipeline.training.identity import why_not_portable

    differ = source.changed("dvc.lock", str(results_folder(params.profile)))
    if not differ or not source.source().clean or (why := why_not_portable(params)) is None:
        return
    print(
        f"{len(differ)} files differ from the committed results ({differ[0]}, …), as is to be"
        f" expected here: {why}",
        file=sys.stderr,
    )
