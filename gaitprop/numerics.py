"""Which arithmetic this process computes with: ``fast``, or ``portable`` to the last bit.

*Fast* is PyTorch as it comes: what a sum gives depends on the make of the processor, on its vector
instructions and on the number of threads, since MKL chooses its kernels by all of them. But on
AMD's processors large products are oneDNN's, in single chains: on one (Zen 5) they ran at 210 to
230 GFLOP/s a thread, MKL's at 101 to 106.

*Portable* gives the same bits on every x86-64 processor with AVX2, whatever the number of threads:

- Products of float32 matrices that are large enough are *defined*: an element is a chain of fused
  multiply-adds in the order of its terms, in pieces of at most ``CHAIN`` terms that are added up in
  order. oneDNN computes just that, with AVX2 and with AVX-512 and on any number of threads (longer
  chains it would cut by the processor's caches).
- Other products, and everything of LAPACK, are MKL's in its mode ``COMPATIBLE``, on one thread.
- PyTorch's own kernels are those for AVX2, on one thread. (Its ``sqrt`` of a tensor is MKL's, which
  is not the same everywhere: norms are taken by ``norm``.)

The libraries look at their settings when a process first uses them, so ``use("portable")`` comes
first; a few sums with known results tell whether it came in time.

A thread of Python's takes the number of its CPU threads from the process when it first computes:
one that does so while another is within ``one_thread`` computes on one thread from then on.
"""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from gaitprop.errors import ArgumentError

MODES = ("portable", "fast")
CHAIN = 256
"""Terms of one chain of multiply-adds: no version of oneDNN that was tried cuts so short a one."""

# Multiply-adds of a product from which oneDNN's is faster than MKL's in its mode COMPATIBLE, and
# the fewest rows or columns with which it is a product to it: a single row is another routine.
_ENOUGH, _FEWEST = 400_000, 8
# Rows, terms and columns from which it is compared to MKL's default: calls take some 15 µs more,
# and a weight that few rows meet is packed for nothing.
_FEWEST_OF_FAST = 190

_SETTINGS = {
    "MKL_CBWR": "COMPATIBLE",
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_DEFAULT_FPMATH_MODE": "STRICT",
}
_KERNELS = "AVX2"
# Of ``_sample``, computed on processors of Intel and of AMD; PyTorch 2.13.0.
_SAMPLE = "7151fa2e4d0a341c"

_mode = "fast"
_threads = 1
_why_not: str | None = None


def use(wanted: str, threads: int | None = None) -> None:
    """Chooses the arithmetic of this process, once and for all of it.

    In portable mode PyTorch has one thread from here on, but for the products that give the same
    bits on any number of them. An optimizer of PyTorch's, in a loop of one's own, has to be fused:
    others take a tensor's square root.

    Args:
        wanted: one of ``MODES``.
        threads: how many CPU threads may be used; None: as many as PyTorch has now.

    Raises:
        ArgumentError: the mode is unknown, threads are below 1, or the process is portable already
            and is asked to be fast.
    """
    global _mode, _threads, _why_not
    if wanted not in MODES:
        raise ArgumentError(f"numerics are {wanted!r}; allowed: {', '.join(MODES)}")
    if threads is not None and threads < 1:
        raise ArgumentError(f"threads are {threads}; allowed: at least 1")
    if wanted == "fast":
        if _mode == "portable":
            raise ArgumentError(
                "numerics are 'fast', but this process has computed with portable ones; allowed:"
                " a process of its own for each"
            )
        torch.set_num_threads(threads or torch.get_num_threads())
        return
    if _mode == "fast":
        _threads = torch.get_num_threads()
        _mode = "portable"
        torch.set_num_threads(1)
        with _environment(_SETTINGS):
            _why_not = _examined()
    _threads = threads or _threads
    torch.set_num_threads(1)


def mode() -> str:
    """The arithmetic of this process: one of ``MODES``."""
    return _mode


def threads() -> int:
    """How many CPU threads may be used."""
    return _threads if _mode == "portable" else torch.get_num_threads()


def why_not_portable() -> str | None:
    """Why other machines may give other bits than this process; None where they give the same."""
    if _mode == "fast":
        return "numerics are fast"
    return _why_not


def processor() -> str:
    """Make and model of the processor, and the vector instructions that PyTorch uses on it."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    found = dict(line.split(":", 1) for line in lines if ":" in line)
    fields = {key.strip(): value.strip() for key, value in found.items()}
    named = [fields[key] for key in ("vendor_id", "model name") if key in fields]
    return f"{' '.join(named) or name} {torch.backends.cpu.get_cpu_capability()}"


@contextmanager
def one_thread() -> Iterator[None]:
    """One CPU thread within the block: for what would give other bits on several."""
    with _so_many(1):
        yield


@contextmanager
def all_threads() -> Iterator[None]:
    """As many CPU threads as there are within the block: for what they do not change a bit of."""
    with _so_many(threads()):
        yield


def is_chained(left: Tensor, right: Tensor) -> bool:
    """Whether a product of these two is one for ``chained``; decided by shape, dtype and device."""
    fast = _mode == "fast"
    if fast and not (_is_of_amd() and _is_constant(left, right)):
        return False
    if left.dtype != torch.float32 or not left.is_cpu or not _has_onednn():
        return False
    rows, terms, columns = left.shape[-2], left.shape[-1], right.shape[-1]
    if fast:
        return min(rows, terms, columns) >= _FEWEST_OF_FAST
    return min(rows, columns) >= _FEWEST and rows * terms * columns >= _ENOUGH


def chained(left: Tensor, right: Tensor) -> Tensor:
    """The product of two float32 matrices by chains of multiply-adds, see above.

    Args:
        left: (m, k).
        right: (k, n).

    Returns:
        (m, n), contiguous.
    """
    terms = left.shape[-1]
    pieces = -(-terms // CHAIN) if _mode == "portable" else 1
    with all_threads():
        if pieces == 1:
            return _chain(left, right)
        step = -(-terms // pieces)
        total = _chain(left[:, :step], right[:step])
        for start in range(step, terms, step):
            total.add_(_chain(left[:, start : start + step], right[start : start + step]))
    return total


@contextmanager
def _so_many(threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _environment(settings: Mapping[str, str]) -> Iterator[None]:
    """Variables set within the block alone: what is started from here may want to be fast."""
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _chain(left: Tensor, right: Tensor) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(
        _dense(left), _dense(right.mT), None, "none", [], ""
    )
    return product


def _dense(matrix: Tensor) -> Tensor:
    # For a matrix with gaps between its rows oneDNN has a slow reference routine alone.
    return matrix if matrix.is_contiguous() or matrix.mT.is_contiguous() else matrix.contiguous()


def _is_constant(*tensors: Tensor) -> bool:
    """Whether autograd does not look on: a chain has no derivative."""
    return not (torch.is_grad_enabled() and any(each.requires_grad for each in tensors))


@cache
def _is_of_amd() -> bool:
    return "AuthenticAMD" in processor()


def _has_onednn() -> bool:
    return bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]


def _examined() -> str | None:
    """Why this process cannot keep the promise, if so."""
    kernels = torch.backends.cpu.get_cpu_capability()
    machine = platform.machine()
    if machine not in ("x86_64", "AMD64"):
        return f"this machine is {machine}, and portable numerics are for x86-64"
    if not (torch.backends.mkl.is_available() and _has_onednn()):  # type: ignore[no-untyped-call]
        return f"PyTorch {torch.__version__} is built without MKL or oneDNN here"
    if kernels != _KERNELS:
        return (
            f"PyTorch's kernels are those for {kernels} here, not {_KERNELS}: the processor lacks"
            " it, or PyTorch computed before portable numerics were asked for"
        )
    if _sample() != _SAMPLE:
        return (
            f"PyTorch {torch.__version__} computes other bits here than where portable numerics"
            " were tested: it is another version, or MKL was used before they were asked for"
        )
    return None


def _sample() -> str:
    """A checksum over products, solves and decompositions of fixed matrices; milliseconds."""
    wide, tall, small = _fixed(60, 784), _fixed(784, 100), _fixed(64, 64)
    factors, pivots, _ = torch.linalg.lu_factor_ex(small)
    found = [
        chained(wide, tall),
        small @ small,
        small.double() @ small.double(),
        torch.linalg.lu_solve(factors, pivots, small.mT, adjoint=True),
        torch.linalg.qr(small.double())[0],
        torch.linalg.svdvals(small),
        small.exp().sum(),
    ]
    digest = hashlib.sha256()
    for each in found:
        digest.update(bytes(each.contiguous().flatten().view(torch.uint8).tolist()))
    return digest.hexdigest()[:16]


def _fixed(rows: int, columns: int) -> Tensor:
    """Numbers between -1 and 1 that follow from integers alone."""
    steps = torch.arange(rows * columns, dtype=torch.int64, device="cpu")
    whole = (steps * 7_919 + steps * steps % 10_007) % 20_011
    return (whole.float() / 10_005.5 - 1).view(rows, columns)
