"""Carries Ethernet frames between two TAP devices, late and not all of them.

What tc's netem does, a module that few containers have: ``relay.py ONE OTHER SECONDS LOSS``, until
its standard input ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import select
import struct
import sys
import time
from collections import deque

# Of linux/if_tun.h: the request, and a device of bare Ethernet frames.
TUNSETIFF, TAP = 0x400454CA, 0x0002 | 0x1000
LARGEST = 65536


def device(name: str) -> int:
    """A new TAP device, which is there as long as its file is open."""
    file = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(file, TUNSETIFF, struct.pack("16sH22x", name.encode(), TAP))
    return file


def carry(one: int, other: int, seconds: float, loss: float) -> None:
    """Each frame in both directions, so many seconds late, unless it is one that is lost."""
    draw, to = random.Random(0), {one: other, other: one}
    due: deque[tuple[float, int, bytes]] = deque()
    while True:
        wait = max(0.0, due[0][0] - time.monotonic()) if due else None
        ready, _, _ = select.select([one, other, sys.stdin], [], [], wait)
        if sys.stdin in ready:
            return
        for file in ready:
            frame = os.read(file, LARGEST)
            if draw.random() >= loss:
                due.append((time.monotonic() + seconds, to[file], frame))
        while due and due[0][0] <= time.monotonic():
            _, file, frame = due.popleft()
            # Not up yet, or its queue is full: one more that is lost.
            with contextlib.suppress(OSError):
                os.write(file, frame)


if __name__ == "__main__":
    files = device(sys.argv[1]), device(sys.argv[2])
    print("up", flush=True)
    carry(*files, float(sys.argv[3]), float(sys.argv[4]))
