"""Ray: an instance of this machine alone, or a cluster that is there."""

from __future__ import annotations

import logging
import os
import re
import secrets
import signal
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pipeline.params.sweep_section import Resources
from pipeline.project.errors import GaitError
from pipeline.project.redaction import shown, without_password

# Room for the data set of a sweep and what Ray itself keeps there.
OBJECT_STORE_BYTES = 512 * 1024 * 1024
CONNECTING_S = 10.0
# A node may first have to be sent the project's code, and to start a worker.
ANSWERING_S = 90.0
# A head takes a silent node for dead after some 40 s, and so does a node with its head; a process
# that cannot reach it for longer than RECONNECTING_S Ray ends without a word.
SILENCE_S, KNOCKING_S, RECONNECTING_S = 40.0, 5.0, 600
# A driver's command.
_SWEEP = re.compile(r"\b(gait|pipeline) sweep\b")
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    # Ray's newer output cannot be silenced.
    "RAY_AIR_NEW_OUTPUT": "0",
    # The sweep's records hold its trials: Ray's own files of them would be written for nobody.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",
    "TUNE_WARN_THRESHOLD_S": "60",
    # A worker that is taken over by the next trial may be busy for longer than 2 s.
    "TUNE_FUNCTION_THREAD_TIMEOUT_S": "60",
    # Ours heeds what `nohup` and `&` have this process ignore.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # Ray would else change what a worker without a GPU sees; later versions will not.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


@contextmanager
def connected(address: str | None, images_bytes: int) -> Iterator[None]:
    """Ray within the block: a local instance without an address, else the cluster there.

    Raises:
        GaitError: there is no cluster at the address, or it does not let us in.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if address is None:
        # Nobody else on this machine is let into its Ray, and no token file is left behind.
        if "RAY_AUTH_MODE" not in os.environ:
            os.environ["RAY_AUTH_MODE"] = "token"
            os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    else:
        _check_reachable(_meant(address))
        # Ray would try for a quarter of an hour.
        os.environ.setdefault("RAY_gcs_server_port_wait_time_s", "1")
        os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", str(RECONNECTING_S))
    import ray

    for name in ("ray", "ray.tune", "ray.train"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    ending = signal.getsignal(signal.SIGTERM)
    try:
        if address is None:
            store = OBJECT_STORE_BYTES + 2 * images_bytes
            ray.init(address="local", object_store_memory=store, include_dashboard=False, **quiet)
        else:
            ray.init(address=address, runtime_env=_project(), **quiet)
    except Exception as error:  # Ray raises no less
        if address is None:
            raise GaitError(f"Ray cannot be started here: {first_line(error)}") from None
        # Ray says no more than that it failed to connect: the cause has the reason.
        if "No node info found" in str(error.__cause__):
            raise _no_node_here(address) from None
        raise _unusable(address, first_line(error)) from None
    if signal.getsignal(signal.SIGTERM) != ending:
        # Ray's own handler would end this process without a word.
        signal.signal(signal.SIGTERM, ending)
    try:
        if address is not None:
            _free_left_places()
        yield
    finally:
        ray.shutdown()


def check_address(address: str | None) -> None:
    """GaitError unless it is None, ``auto`` or HOST:PORT; Ray's client would end with its line."""
    if address is None or (address := _meant(address)) == "auto":
        return
    if address.startswith("ray://"):
        raise GaitError(
            f"--address: received {shown(address)}, of Ray's client; allowed: auto or HOST:PORT, on"
            " a machine of the cluster, or `ray job submit -- gait sweep --address auto` from"
            " another"
        )
    if not re.fullmatch(r"[^/]+:\d+", address):
        raise GaitError(f"--address: received {shown(address)!r}; allowed: auto or HOST:PORT")


def _meant(address: str) -> str:
    """What Ray takes ``auto`` for, if something else."""
    return (address == "auto" and os.environ.get("RAY_ADDRESS")) or address


def this_machine() -> list[dict[str, float]]:
    """What a local Ray can have at most, known before it is started."""
    import torch

    return [{"CPU": os.cpu_count() or 1, "GPU": torch.cuda.device_count()}]


def living_nodes() -> list[dict[str, float]]:
    """What each node of the connected cluster has."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


class Belonging:
    """Sees to it that this machine belongs to the connected cluster still: Ray would never say.

    Ray may end this process then, so ``going_on``, the command that goes on with the sweep, is said
    before anything else is done.
    """

    def __init__(self, going_on: str) -> None:
        self._going_on = going_on
        self._answered, self._silent = time.monotonic(), False

    def check(self) -> None:
        """Raises ConnectionError: the head took this node for dead, or has long been silent."""
        import ray

        here, why = ray.get_runtime_context(), None
        if self._head_answers(here.gcs_address):
            own = here.get_node_id()
            if not any(node["NodeID"] == own and node["Alive"] for node in ray.nodes()):
                why = "it took this node for dead"
        elif time.monotonic() - self._answered >= SILENCE_S:
            why = f"no answer from {here.gcs_address} for {SILENCE_S:.0f} s"
        if why is not None:
            print(f"gait: the Ray cluster was lost ({why}); {self._going_on} goes on", flush=True)
            raise ConnectionError(f"the Ray cluster was lost ({why})")

    def _head_answers(self, address: str) -> bool:
        try:
            _knock(address, KNOCKING_S)
        except OSError:
            if not self._silent:
                print(
                    f"gait: no answer from the Ray cluster's head at {address}; if that"
                    f" ends the sweep, {self._going_on} goes on",
                    flush=True,
                )
            self._silent = True
            return False
        if self._silent:
            print("gait: the Ray cluster's head answers again", flush=True)
        self._answered, self._silent = time.monotonic(), False
        return True


def closed_ports(nodes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Of nodes, as Ray describes them, the ports that do not let this machine in."""
    closed = []
    for node in nodes:
        address = node["NodeManagerAddress"]
        for port in (node["NodeManagerPort"], node["ObjectManagerPort"]) if node["Alive"] else ():
            try:
                socket.create_connection((address, port), timeout=CONNECTING_S).close()
            except OSError as error:
                closed.append(f"{node['NodeManagerHostname']} {address}:{port} ({error})")
    return closed


def libraries() -> dict[str, str]:
    """The versions of what a trial's figures depend on, and a node brings itself."""
    return {name: version(name) for name in ("torch", "numpy")}


def own_code(rules: Sequence[str]) -> dict[str, str]:
    """What a trial computes with that no driver sends: libraries, and packages of such rules.

    Of libraries it says the version, of rules whose copy of which checksum.
    """
    return {**libraries(), **{f"the rule {rule}": _package(rule) for rule in rules}}


def _package(rule: str) -> str:
    # PyTorch comes with these: nodes that are asked for versions alone need not wait for it.
    from gaitprop.errors import ArgumentError
    from pipeline.training.plugin_source import plugin_of

    try:
        plugin = plugin_of(rule)
    except ArgumentError as error:
        return str(error)
    if plugin is None:
        return "not installed"
    return f"of {plugin['distribution']} with SHA-256 {plugin['sha256'][:12]}…"


def difference(there: Mapping[str, str], here: Mapping[str, str]) -> str:
    """Which versions are others there than here; empty if none is."""
    return "; ".join(f"{n} {v}, here {here[n]}" for n, v in there.items() if v != here[n])


def other_versions(rules: Sequence[str]) -> tuple[list[str], list[str]]:
    """Of the nodes that train, those whose ``own_code`` is other than here, and those silent."""
    import ray
    from ray.exceptions import RayError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    ask, here = ray.remote(num_cpus=0)(own_code), own_code(rules)
    asked: dict[Any, str] = {}
    for node in ray.nodes():
        if node["Alive"] and node["Resources"].get("CPU"):
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            answer = ask.options(scheduling_strategy=there).remote(rules)
            asked[answer] = node["NodeManagerHostname"]
    if not asked:
        return [], []
    answered, silent = ray.wait(list(asked), num_returns=len(asked), timeout=ANSWERING_S)
    found = []
    for each in answered:
        # A node that is lost by now is none that will train.
        with suppress(RayError):
            if unlike := difference(ray.get(each), here):
                found.append(f"{asked[each]} ({unlike})")
    return found, [asked[each] for each in silent]


def lacking(wanted: Resources, nodes: Sequence[Mapping[str, float]]) -> str | None:
    """What no node has for a trial, as a sentence; None if one has it."""
    if any(n.get("CPU", 0) >= wanted.cpus and n.get("GPU", 0) >= wanted.gpus for n in nodes):
        return None
    have = ", ".join(f"{n.get('CPU', 0):g} CPUs and {n.get('GPU', 0):g} GPUs" for n in nodes)
    return (
        f"params.yaml, sweep.resources: received cpus: {wanted.cpus}, gpus: {wanted.gpus:g}, but no"
        f" node has as many; allowed: what fits one of the nodes ({have})"
    )


def _check_reachable(address: str) -> None:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        return
    try:
        _knock(address, CONNECTING_S)
    except (OSError, OverflowError, UnicodeError) as error:
        raise _unusable(address, str(error)) from None


def _knock(address: str, timeout_s: float) -> None:
    """Connects once, also to [HOST]:PORT, as addresses of IPv6 are written; OSError if in vain."""
    host, _, port = address.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), timeout=timeout_s).close()


def _unusable(address: str, why: str) -> GaitError:
    return GaitError(
        f"the Ray cluster {shown(address)} cannot be used ({without_password(why, address)});"
        " check --address with `ray status`, and that RAY_AUTH_MODE is the cluster's"
    )


def _no_node_here(address: str) -> GaitError:
    address = shown(_meant(address))
    return GaitError(
        f"the Ray cluster {address} has no living node on this machine, as a sweep needs;"
        f" `ray start --address={address}` makes one, or have a machine that has one run it:"
        " `ray job submit -- gait sweep --address auto`"
    )


def _free_left_places() -> None:
    """Removes what sweeps that are over still keep of the cluster's processors.

    Ray does so where a driver ends. But what one asks for at the moment in which the head takes its
    node for dead is nobody's, and kept from everybody for ever.
    """
    import ray
    from ray._private.state import jobs  # Its public list needs the dashboard.
    from ray.util.placement_group import PlacementGroup

    over = {job["JobID"] for job in jobs() if job["IsDead"] and _SWEEP.search(job["Entrypoint"])}
    for name, known in ray.util.placement_group_table().items():
        # The id of the job that asked for it ends its own.
        if known["state"] != "REMOVED" and name.endswith(tuple(over)):
            number = ray.PlacementGroupID(bytes.fromhex(name))
            ray.util.remove_placement_group(PlacementGroup(number))


def _project() -> dict[str, Any]:
    """The runtime environment in which the nodes run the driver's own code."""
    import gaitprop
    import pipeline

    modules = [str(Path(str(module.__file__)).parent) for module in (gaitprop, pipeline)]
    return {"py_modules": modules, "env_vars": {**QUIET, "DO_NOT_TRACK": "true"}}


def first_line(error: BaseException) -> str:
    """What an error says in its first line; all of it where Ray sets versions below each other."""
    if str(error).startswith("Version mismatch"):
        return " ".join(str(error).split())
    lines = str(error).strip().splitlines() or [type(error).__name__]
    # Of an error within its own loop Ray hands on the traceback.
    return lines[-1 if lines[0].startswith("Traceback") else 0]
