"""`gait doctor`: whether this machine and folder have what is needed, and what to do if not."""

from __future__ import annotations

import contextlib
import difflib
import multiprocessing
import os
import platform
import shlex
import shutil
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

from pipeline.project import environment, source
from pipeline.project.errors import GaitError
from pipeline.project.redaction import shown, without_password

PYTHONS = ("3.11", "3.12", "3.13")
# Models, DVC's cache and MLflow's artifacts of the largest profile fit well within it.
ROOM_BYTES = 5 * 10**9
# How alike a variable is to one of ours that is meant by it.
_MISSPELT = 0.85


class Finding(NamedTuple):
    """What was looked at, what was found, and what to do about it; nothing if all is well."""

    name: str
    found: str
    advice: str | None = None


class _CheckError(Exception):
    """A check's way to say what it found, and what to do about it."""


def examine(deep: bool = False, address: str | None = None) -> list[Finding]:
    """Looks at everything; one check that breaks does not keep the others from being made.

    Args:
        deep: also tries what takes long: a Ray of this machine is started and stopped.
        address: of a Ray cluster, whose ports and versions are looked at, too.
    """
    checks = {
        "Python": _python,
        "torch": _torch,
        "numerics": _numerics,
        "DVC": _dvc,
        "git": _git,
        "params.yaml": _params,
        "data": _data,
        "variables": _variables,
        "packages": _packages,
        "MLflow store": _store,
        "figures": _figures,
        "Ray": _started_ray if deep else _ray,
    }
    if address is not None:
        checks["Ray cluster"] = partial(_cluster, address)
    checks["disk"] = _disk
    return [_guarded(name, check) for name, check in checks.items()]


def _guarded(name: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(name, check())
    except _CheckError as error:
        return Finding(name, *error.args)
    except GaitError as error:
        return Finding(name, without_password(str(error)), "mend what the sentence says")
    except ImportError as error:  # Among them that there is no such package.
        return Finding(name, f"cannot be imported ({error})", "run `make setup`")
    except Exception as error:
        # Whatever a library raises where it does not work here is what is looked for.
        said = without_password(str(error)).strip() or "it says no more"
        return Finding(name, f"{type(error).__name__}: {said.splitlines()[0]}", "see what it says")


def _python() -> str:
    here = platform.python_version()
    if here.rpartition(".")[0] not in PYTHONS:
        raise _CheckError(here, f"make .venv with one of {', '.join(PYTHONS)}, which are tested")
    return f"{here} in {sys.prefix}"


def _torch() -> str:
    import torch

    # Which of its vector instructions PyTorch uses is decided once: numerics come to that below.
    devices = [f"cpu ({torch.get_num_threads()} threads)"]
    for each in range(torch.cuda.device_count()):
        devices.append(torch.cuda.get_device_name(each))
        try:
            torch.ones(1, device=f"cuda:{each}").item()
        except RuntimeError as error:
            raise _CheckError(
                f"{torch.__version__}; GPU {each} does not compute ({str(error).splitlines()[0]})",
                "update the NVIDIA driver, or set training.device to cpu in params.yaml",
            ) from None
    return f"{torch.__version__} on {', '.join(devices)}"


def _numerics() -> str:
    """Whether this machine gives the bits that every other one gives."""
    from gaitprop import numerics

    numerics.use("portable")
    where = f"{numerics.processor()}, PyTorch {version('torch')}"
    if (why_not := numerics.why_not_portable()) is not None:
        # Nothing is wrong: what is trained here is reproducible on machines of this kind.
        return f"of this kind of machine alone, {where}: {why_not}"
    libraries = "oneDNN for large products, MKL COMPATIBLE for the rest, PyTorch's AVX2 kernels"
    return f"portable on {where}: {libraries}"


def _dvc() -> str:
    installed = version("dvc")
    if not Path("dvc.yaml").is_file():
        raise _CheckError(f"{installed}; no dvc.yaml here", "go to the project's folder")
    if not Path(".dvc").is_dir():
        raise _CheckError(f"{installed}; no .dvc here", "run `dvc init` (`--no-scm` without git)")
    settings = [Path(".dvc", name) for name in ("config", "config.local")]
    texts = [file.read_text(encoding="utf-8") for file in settings if file.is_file()]
    if not Path(".git").exists() and "no_scm" not in "".join(texts):
        advice = "run `dvc config --local core.no_scm true` (`make repro` does)"
        raise _CheckError(f"{installed}; a folder without git", advice)
    return installed


def _git() -> str:
    if not Path(".git").exists():
        return f"no history here: runs say the commit {source.source().commit}"
    if (why := source.why_unknown()) is not None:
        advice = "have git tell it: else runs say no commit"
        if "dubious ownership" in why:
            advice = f"run `git config --global --add safe.directory {shlex.quote(os.getcwd())}`"
        raise _CheckError(why, advice)
    found = source.source()
    said = f"{found.commit[:7]}{'' if found.clean else ', with changes'}"
    if source.git("var", "GIT_AUTHOR_IDENT").returncode:
        said += "; no user.name and user.email, which `git commit` and `dvc exp run` ask for"
    return said


def _params() -> str:
    from pipeline.params import params_file, profiles

    params = params_file.load()
    edited = "" if profiles.current() is not None else ", edited"
    return f"profile {params.profile}{edited}, {len(params.models())} models"


def _packages() -> str:
    """Rules and data sets that other packages offer, and whether they load."""
    from gaitprop import plugins, rules
    from gaitprop.errors import ArgumentError
    from pipeline.data import image_sets

    try:
        own_rules, own_sets = rules.other_rules(), image_sets.other_sets()
        for name in own_rules:
            rules.find_rule(name)
        for name in own_sets:
            image_sets.image_set(name)
    except (ArgumentError, GaitError) as error:
        raise _CheckError(str(error), "mend that package, or uninstall it") from None
    found = [f"rule {name} ({plugins.package(each)})" for name, each in own_rules.items()]
    found += [f"data set {name} ({plugins.package(each)})" for name, each in own_sets.items()]
    return ", ".join(found) or "no rule or data set of others"


def _data() -> str:
    from pipeline.data import image_sets, image_tensors
    from pipeline.params import params_file
    from pipeline.project.paths import data_file
    from pipeline.training.image_download import archive_root

    try:
        params = params_file.load()
    except GaitError:
        # Said once, of params.yaml.
        raise _CheckError("not known without params.yaml", "mend params.yaml first") from None
    ready, missing = [], []
    for name in params.run.datasets:
        path = data_file(params.profile, name)
        if path.exists():
            image_tensors.load(path)
            ready.append(name)
        elif image_sets.image_set(name).source is None:
            ready.append(f"{name} (comes with its package)")
        else:
            missing.append(name)
    if missing:
        raise _CheckError(
            f"{', '.join(missing)}: not yet prepared",
            f"run `gait download`; archives in {archive_root(params)} are used, others fetched",
        )
    return ", ".join(ready)


def _variables() -> str:
    """The environment's settings; what they say was checked before any command."""
    given = environment.present()
    unknown = [name for name in given if name not in environment.ALL]
    # What others keep in theirs may be secret.
    shown_ones = [
        f"{name} (which no command reads)" if name in unknown else f"{name}={shown(value)}"
        for name, value in given.items()
    ]
    # Others' may begin alike, such as those of deploy/.
    for name in unknown:
        if near := difflib.get_close_matches(name, environment.ALL, n=1, cutoff=_MISSPELT):
            raise _CheckError(", ".join(shown_ones), f"call {name} {near[0]}")
    return ", ".join(shown_ones) or "none is set"


def _store() -> str:
    from pipeline.params import params_file
    from pipeline.tracking import store, store_check

    uri, path = shown(store.tracking_uri()), store.database()
    if path is not None and not path.exists():
        return f"{uri}, which the first run makes"
    profile = "Default"
    with contextlib.suppress(GaitError):  # Said once, of params.yaml.
        profile = params_file.load().profile
    store_check.write_and_delete(profile)
    return f"{uri}: a tag and an artifact were written and deleted"


def _figures() -> str:
    """Draws what every training ends with: of two epochs of one layer."""
    import pandas

    from pipeline import figures

    epochs = [{"epoch": number, "seed": 0} for number in range(2)]
    quantities = ("train_loss", "validation_loss", "train_accuracy", "validation_accuracy")
    layers = ("bp_cosine_layer_1", "bp_relative_norm_layer_1")
    table = pandas.DataFrame([{**dict.fromkeys((*quantities, *layers), 0.5), **e} for e in epochs])
    picture = BytesIO()
    figures.model_curves(table, "gait doctor").savefig(picture, format="svg")
    return f"drawn, {len(picture.getvalue()) // 1000} kB of SVG"


def _started_ray() -> str:
    """In a process of its own: a cluster that is looked at next is not to be shown its token."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_start_ray).result()


def _start_ray() -> str:
    from pipeline.sweep import ray_cluster

    with ray_cluster.connected(None, images_bytes=0):
        # Not before: it looks for a token when it is imported.
        import ray

        nodes = ray_cluster.living_nodes()
        ray.get(ray.remote(lambda: 1).remote())
    cpus = sum(node.get("CPU", 0) for node in nodes)
    return f"{ray.__version__}: started with {cpus:g} CPUs, a task done, stopped"


def _ray() -> str:
    import ray

    return f"{ray.__version__}, {os.cpu_count()} CPUs here for `gait sweep`"


def _cluster(address: str) -> str:
    """Whether the cluster lets this machine in, and computes with what this machine does."""
    from gaitprop.rules import other_rules
    from pipeline.sweep import ray_cluster

    ray_cluster.check_address(address)
    with ray_cluster.connected(address, images_bytes=0):
        # Not before: it looks for a token when it is imported.
        import ray

        if closed := ray_cluster.closed_ports(ray.nodes()):
            advice = "open these ports between the nodes, in every firewall"
            raise _CheckError(f"no way to {', '.join(closed)}", advice)
        others, silent = ray_cluster.other_versions([*other_rules()])
        if others:
            advice = "run `make setup` there, and install the packages of rules"
            raise _CheckError(f"other code on {', '.join(others)}", advice)
        if silent:
            advice = "look into their logs, or end them with `ray stop`"
            raise _CheckError(f"no answer from {', '.join(silent)}", advice)
        nodes = ray_cluster.living_nodes()
    cpus, gpus = (sum(node.get(each, 0) for node in nodes) for each in ("CPU", "GPU"))
    return f"{len(nodes)} nodes, {cpus:g} CPUs, {gpus:g} GPUs, all within reach"


def _disk() -> str:
    free = shutil.disk_usage(".").free
    found = f"{free / 1e9:.1f} GB free"
    if not os.access(".", os.W_OK):
        raise _CheckError("this folder cannot be written", "choose another, or its owner")
    if free < ROOM_BYTES:
        raise _CheckError(found, f"make room: {ROOM_BYTES / 1e9:.0f} GB are enough")
    return found
