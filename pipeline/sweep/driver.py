"""Runs a sweep from its definition to its results, or goes on with one."""

from __future__ import annotations

import shlex
import signal
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.data import image_tensors
from pipeline.data.image_tensors import ImageData
from pipeline.params import search_space
from pipeline.params.schema import Params
from pipeline.params.search_space import Configuration
from pipeline.project import environment, interruption
from pipeline.project.errors import GaitError, os_sentence
from pipeline.project.files import check_writable
from pipeline.project.interruption import Interrupted, interruptible
from pipeline.project.paths import data_file, store_folder, sweep_results_folder
from pipeline.project.redaction import shown, without_password
from pipeline.project.source import source
from pipeline.results.trial_edges import edges
from pipeline.results.trial_ranking import METRIC, best_trial, in_file_order
from pipeline.sweep import ray_cluster, states, trial_records
from pipeline.sweep import sweep_folder as folders
from pipeline.sweep.collect import Collector
from pipeline.sweep.live_table import Display
from pipeline.sweep.sweep_folder import Folder
from pipeline.sweep.sweep_runs import SweepRuns
from pipeline.sweep.trial import Task, as_facts
from pipeline.sweep.trial_records import Record, trial_id
from pipeline.tracking.store import is_served, provenance_tags, tracking_uri
from pipeline.training.epochs import FAILED
from pipeline.training.experiment import check, choose_device, choose_numerics
from pipeline.training.identity import computing, training_code_checksum
from pipeline.training.image_download import download_images
from pipeline.training.plugin_source import plugin_of

# A store that is away is waited for so long when all trials have ended, and when interrupted.
PATIENCE_S, SHORT_PATIENCE_S = 30.0, 10.0
INCOMPLETE, INTERRUPTED = 1, 128
# Trials that Ray drops before they have begun are given to it again, so often.
ROUNDS = 5
# Of the trials of another version so many are named.
NAMED = 3


@dataclass(frozen=True)
class Options:
    """What the command line says of a sweep."""

    address: str | None = None
    storage: str | None = None
    resume: bool = False
    restart: bool = False

    def command(self, option: str) -> str:
        """What runs the same sweep with another option."""
        given = {"--address": self.address, "--storage": self.storage}
        words = [word for name, value in given.items() if value for word in (name, str(value))]
        return f"`{shlex.join(['gait', 'sweep', option, *words])}`"


def dry_run(params: Params, options: Options) -> list[Configuration]:
    """The plan, refused as ``run`` would; its images are looked at where they are here already."""
    configurations = _checked_plan(params, options)
    path = data_file(params.profile, params.sweep.dataset)
    if path.exists():
        _check_trials(params, configurations, image_tensors.load(path))
    return configurations


def run(params: Params, options: Options) -> int:
    """Runs the sweep to its end and writes its results.

    Returns:
        The exit code: 0, 1 if something is left for ``--resume``, or 128 and the signal's number.

    Raises:
        GaitError: the sweep cannot be run like that; nothing has been started.
    """
    configurations = _checked_plan(params, options)
    images = _images(params)
    _check_trials(params, configurations, images)
    folder = Folder(_root(options.storage) / params.profile / params.sweep.name)
    results = sweep_results_folder(params.profile, params.sweep.name)
    check_writable(results.parent)
    with folder.held(), interruptible():
        definition = folders.definition(params, images)
        state = folders.NEW if options.restart else folder.state(definition)
        ended = {} if state == folders.NEW else _ended(params, folder)
        if state == folders.FINISHED:
            from pipeline.sweep import sweep_results

            # Results that have gone are written again, from the records of the trials.
            if sweep_results.whole(results):
                print(
                    f"the sweep {folder.name} is finished, and its results are in {results};"
                    f" {options.command('--restart')} runs it anew"
                )
                return 0
        if state == folders.UNFINISHED and not options.resume:
            raise GaitError(
                f"the sweep {folder.name} is unfinished ({len(ended)} of its trials have ended);"
                f" go on with {options.command('--resume')}, or drop it with"
                f" {options.command('--restart')}"
            )
        if state == folders.NEW and options.resume:
            print(f"gait: there is nothing to resume in {folder.path}: the sweep begins")
        try:
            sweep = _Sweep(params, options, images, folder, configurations, ended)
            return sweep.run(definition)
        except (Interrupted, KeyboardInterrupt) as stop:
            # The terminal may be gone.
            with suppress(OSError):
                print(f"gait: interrupted; {options.command('--resume')} goes on", flush=True)
            return INTERRUPTED + (stop.number if isinstance(stop, Interrupted) else signal.SIGINT)


class _Sweep:
    """One sweep, whose folder is held."""

    def __init__(
        self,
        params: Params,
        options: Options,
        images: ImageData,
        folder: Folder,
        configurations: list[Configuration],
        ended: dict[str, Record],
    ) -> None:
        self._params, self._options, self._images = params, options, images
        self._folder, self._ended = folder, ended
        self._state_s = environment.seconds(environment.STATE_INTERVAL_S)
        rules = [params.rule_of(name) for name in params.sweep.rules]
        self._code = {rule: training_code_checksum(rule) for rule in rules}
        self._plugins = {rule: found for rule in rules if (found := plugin_of(rule)) is not None}
        self._by_trial = {trial_id(params, c, images): c for c in configurations}
        self._count = len(configurations) or params.sweep.trials * len(params.sweep.rules)

    def run(self, definition: Mapping[str, Any]) -> int:
        left = self._by_trial.keys() - self._ended
        if not left and (self._by_trial or len(self._ended) >= self._count):
            return self._track(definition, run_trials=False)
        self._check_versions()
        address, wanted = self._options.address, self._params.sweep.resources
        if address is None and (lacking := ray_cluster.lacking(wanted, ray_cluster.this_machine())):
            raise GaitError(lacking)
        with ray_cluster.connected(address, self._images.train_images.nbytes):
            if lacking := ray_cluster.lacking(wanted, ray_cluster.living_nodes()):
                if address is None:
                    raise GaitError(lacking)
                print(f"gait: {lacking}; waiting for one", flush=True)
            if address is not None:
                self._check_nodes()
            return self._track(definition, run_trials=True)

    def _check_nodes(self) -> None:
        """Refuses a cluster that computes with other code than this machine."""
        others, silent = ray_cluster.other_versions([*self._plugins])
        if silent:
            print(
                f"gait: no answer for {ray_cluster.ANSWERING_S:.0f} s from {', '.join(silent)};"
                " should versions differ there, trials fail there",
                flush=True,
            )
        if others:
            raise GaitError(
                f"--address: received a cluster whose nodes compute with other code:"
                f" {', '.join(others)}; allowed: the same everywhere (run `make setup` there,"
                " and install the packages of rules)"
            )

    def _check_versions(self) -> None:
        """Refuses to put trials of two versions, ended ones and further ones, into one table."""
        others, differing = [], set()
        now = {
            rule: _facts_now(self._params, rule, self._options)
            for rule in {r.rule for r in self._ended.values()}
        }
        for trial, record in self._ended.items():
            names = {k for k, v in now[record.rule].items() if record.facts.get(k) != v}
            if names:
                others.append(trial)
                differing |= names
        if others:
            named = ", ".join(others[:NAMED]) + (", …" if len(others) > NAMED else "")
            raise GaitError(
                f"the sweep {self._folder.name} has {len(self._ended)} trials, of which"
                f" {len(others)} ({named}) were computed by other {', '.join(sorted(differing))}"
                " than here: go on with what computed them, or run all anew with"
                f" {self._options.command('--restart')}"
            )

    def _track(self, definition: Mapping[str, Any], run_trials: bool) -> int:
        tags, restart = _tags(self._images), self._options.restart
        display = Display(self._params, self._count, self._ended.values())
        before = self._folder.sweep_id()
        sweep_id = before if before is not None and not restart else uuid.uuid4().hex
        runs = SweepRuns(self._params, self._images, sweep_id, tags, display.tell)
        collector = Collector(
            self._folder.records, self._ended, tags, self._folder.states, [runs, display]
        )
        try:
            if restart:
                if before is not None:
                    runs.abandon(before)
                # Only now: what there was is not dropped for a sweep that cannot even begin.
                self._folder.clear()
            self._folder.begin(definition, sweep_id)
            interruption.check()
            for record in self._ended.values():
                # Compared with what the store has, and completed there.
                runs.ended(record)
            reason, code = "", 0
            if run_trials:
                with display.live():
                    reason, code = self._fit(collector)
            if not code:
                interruption.check()
                return self._end(collector, runs)
        except BaseException:
            _leave(runs)
            raise
        _leave(runs)
        print(
            f"gait: {reason} after {len(collector.ended)} of {self._count} trials;"
            f" {self._options.command('--resume')} goes on",
            flush=True,
        )
        return code

    def _fit(self, collector: Collector) -> tuple[str, int]:
        """Has the trials run; why they did not all end, and the exit code that says so."""
        from ray.exceptions import RayError
        from ray.tune import TuneError

        from pipeline.sweep import ray_loop

        interruption.check()
        for _ in range(ROUNDS):
            collector.dropped = 0
            try:
                task, left = self._task(collector), self._left(collector)
                going_on = self._options.command("--resume")
                number = ray_loop.fit(self._params, task, left, collector, going_on)
            except (RayError, TuneError, ConnectionError) as error:
                if collector.failure is None:
                    address = self._options.address or ""
                    why = without_password(ray_cluster.first_line(error), address)
                    return f"the Ray cluster was lost ({why})", INCOMPLETE
            # The disk's or the terminal's own fault; any other is one of this program.
            if isinstance(collector.failure, OSError):
                return os_sentence(collector.failure), INCOMPLETE
            if collector.failure is not None:
                raise collector.failure
            if number is not None:
                return "interrupted", INTERRUPTED + number
            if not collector.dropped:
                break
        return "", 0

    def _task(self, collector: Collector) -> Task:
        # Without --storage the nodes of a cluster may not see this machine's folders.
        seen = self._options.address is None or self._options.storage is not None
        return Task(
            self._params,
            self._images,
            plugins=self._plugins,
            code=self._code,
            ended=dict(collector.ended) if _learns(self._params) else {},
            states=self._folder.states if seen else None,
            keeper=None if seen else states.keeper(self._folder.states),
            state_s=self._state_s,
            report_s=0 if self._params.sweep.early_stopping != "none" else 1,
        )

    def _left(self, collector: Collector) -> list[Configuration]:
        """What Ray is to try: also what it knows, where that decides what becomes of the others."""
        if _learns(self._params):
            return list(self._by_trial.values())
        done = {**collector.ended, **collector.lost}
        return [each for trial, each in self._by_trial.items() if trial not in done]

    def _end(self, collector: Collector, runs: SweepRuns) -> int:
        from pipeline.sweep import sweep_results

        missing = self._count - len(collector.ended)
        delivered = runs.close(PATIENCE_S)
        figures: dict[str, float] = {}
        destination = None
        if collector.ended:
            frame = sweep_results.table(self._params, collector.ended.values())
            destination = sweep_results_folder(self._params.profile, self._params.sweep.name)
            sweep_results.write(self._params, destination, frame, runs.ids, missing)
            if best := best_trial(frame):
                figures[f"best_{METRIC}"] = float(best[METRIC])
            failed = sum(record.status == FAILED for record in collector.ended.values())
            which = f" ({failed} failed)" if failed else ""
            count = len(collector.ended)
            ends = "trial has" if count == 1 else "trials have"
            print(f"{count} {ends} ended{which}: see {destination / 'summary.md'}")
            for edge in edges(self._params, in_file_order(frame, self._params.sweep.rules)):
                print(edge)
        status = "FAILED" if missing else "FINISHED"
        delivered = runs.end(status, figures, destination) and delivered
        if missing:
            print(
                f"gait: {missing} of {self._count} trials are missing"
                f" ({next(iter(collector.lost.values()), 'they were not begun')});"
                f" {self._options.command('--resume')} tries as many anew"
            )
        if not delivered:
            whole = "" if missing else "the results are complete, but "
            print(
                f"gait: {whole}MLflow at {shown(tracking_uri())} lacks some of them"
                f" ({runs.sender.problem}); {self._options.command('--resume')} delivers them"
            )
        if missing or not delivered:
            return INCOMPLETE
        self._folder.finish()
        return 0


def _leave(runs: SweepRuns) -> None:
    """Nothing of a sweep that this process leaves goes on in MLflow."""
    runs.close(SHORT_PATIENCE_S, SHORT_PATIENCE_S)
    runs.end("KILLED", {}, None)


def _checked_plan(params: Params, options: Options) -> list[Configuration]:
    """The configurations of a grid or of random search; none for optuna, whose come one by one."""
    # Before an image set of a package's computes anything.
    choose_numerics(params)
    configurations = [] if params.sweep.search == "optuna" else search_space.configurations(params)
    ray_cluster.check_address(options.address)
    # A cluster's runs must not lie in a file of this machine.
    if options.address is not None and not is_served():
        raise GaitError(
            "a sweep on a cluster needs an MLflow server, and the store is"
            f" {shown(tracking_uri())}; start one with `mlflow server --host 0.0.0.0"
            " --backend-store-uri sqlite:///mlflow.db --allowed-hosts '<its host>:5000'` and set"
            " MLFLOW_TRACKING_URI=http://<its host>:5000"
        )
    _root(options.storage)
    return configurations


def _ended(params: Params, folder: Folder) -> dict[str, Record]:
    """The records of a sweep's trials; GaitError where one is of no trial of this sweep."""
    found = trial_records.read(folder.records)
    for trial, record in found.items():
        if record.rule not in params.sweep.rules or set(record.values) != set(params.sweep.space):
            raise GaitError(
                f"{folder.records / trial}.json is of no trial of this sweep ({record.rule!r},"
                f" {record.values}); delete it to go on"
            )
    return found


def _learns(params: Params) -> bool:
    """Whether a trial's fate depends on those before it: then what is known is told again."""
    return params.sweep.search == "optuna" or params.sweep.early_stopping != "none"


def _facts_now(params: Params, rule: str, options: Options) -> dict[str, str]:
    """What a trial that ran now would say computes it; on a cluster, machines left aside."""
    code = training_code_checksum(params.rule_of(rule))
    if options.address is not None:
        return as_facts({"code": code, **ray_cluster.libraries()})
    values = search_space.anywhere(params)
    of_trial = search_space.experiment(params, Configuration(rule, values))
    choose_numerics(of_trial)
    return as_facts(computing(code, choose_device(of_trial.training.device)))


def _check_trials(
    params: Params, configurations: Sequence[Configuration], images: ImageData
) -> None:
    """Refuses a sweep some trials of which can only fail, as far as that is known before."""
    for each in configurations or search_space.outermost(params):
        try:
            key = search_space.key(params, each.rule)
            check(search_space.experiment(params, each), key, images)
        except GaitError as error:
            raise GaitError(f"the trial {each}: {error}") from None


def _images(params: Params) -> ImageData:
    path = data_file(params.profile, params.sweep.dataset)
    if not path.exists():
        download_images(params, params.sweep.dataset, progress=False)
    return image_tensors.load(path)


def _tags(images: ImageData) -> dict[str, str]:
    """What is the same for every trial; where it ran, its own worker says."""
    own = ("host", "platform", "device", "version.python")
    tags = provenance_tags(source(), images.checksum, device="")
    return {name: value for name, value in tags.items() if name not in own}


def _root(storage: str | None) -> Path:
    """Where records and states go."""
    if storage is None:
        return store_folder() / "sweeps"
    if not storage or "://" in storage:
        raise GaitError(
            f"--storage: received {shown(storage)!r}; allowed: a folder, which all nodes of a"
            " cluster see under this name, and no address of an object store"
        )
    return environment.expanded(storage, "--storage").resolve()
