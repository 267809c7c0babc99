"""Runs a command on this Intel processor as if it were an AMD, at full speed.

    python tests/portable/as_amd.py gait reproduce --check results/mnist1d --all

Which kernels the libraries take depends on what the processor calls itself: as_amd.c has it call
itself an AMD EPYC of Zen 3. What the two makes compute otherwise with one and the same instruction
(approximations of 1 / x and 1 / √x alone) stays this processor's.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCE = Path(__file__).with_suffix(".c")


def why_not() -> str:
    """What is missing here, or nothing."""
    try:
        processor = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return "needs Linux"
    if "GenuineIntel" not in processor or " cpuid_fault" not in processor:
        return "needs an Intel processor whose /proc/cpuinfo has cpuid_fault"
    if shutil.which("cc") is None:
        return "needs a C compiler, cc"
    lines = SOURCE.read_text(encoding="utf-8").splitlines()
    headers = "\n".join(line for line in lines if line.startswith("#include"))
    check = ["cc", "-fsyntax-only", "-x", "c", "-"]
    done = subprocess.run(check, input=headers, text=True, capture_output=True, check=False)
    return "" if done.returncode == 0 else "needs the C library's headers (Debian: libc6-dev)"


def build(folder: Path) -> Path:
    """The library to preload (LD_PRELOAD), made in the folder."""
    library = folder / "as_amd.so"
    options = ["-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run(["cc", *options, "-o", str(library), str(SOURCE)], check=True)
    return library


if __name__ == "__main__":
    if missing := why_not() or ("" if sys.argv[1:] else "needs a command to run"):
        print(f"as_amd.py {missing}", file=sys.stderr)
        sys.exit(2)
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(subprocess.call(["env", f"LD_PRELOAD={build(Path(folder))}", *sys.argv[1:]]))
