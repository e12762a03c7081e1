"""A slow wire: two taps in this network namespace, and every frame of one comes out of the other
some milliseconds later, in order. Stands in for `tc netem`, which many kernels lack.

    python -m tests.lab.wire TAP TAP MILLISECONDS [JITTER]
"""

from __future__ import annotations

import fcntl
import heapq
import os
import random
import select
import struct
import sys
import time

TUNSETIFF = 0x400454CA
IFF_TAP, IFF_NO_PI = 0x0002, 0x1000
LARGEST = 65_536
WAITING = 10_000
"""Frames on their way at one time; more are lost, as in a full queue."""


def open_tap(name: str) -> int:
    """A tap device of that name; it lasts as long as the process."""
    tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
    return tap


def carry(one: int, other: int, delay: float, jitter: float) -> None:
    """Moves frames both ways until killed. Times are in seconds."""
    poll = select.poll()
    poll.register(one, select.POLLIN)
    poll.register(other, select.POLLIN)
    across = {one: other, other: one}
    last = {one: 0.0, other: 0.0}
    queue: list[tuple[float, int, int, bytes]] = []
    count = 0
    while True:
        wait = None if not queue else max(0.0, queue[0][0] - time.monotonic()) * 1000
        for tap, _ in poll.poll(wait):
            frame = _read(tap)
            if frame is None or len(queue) >= WAITING:
                continue
            # Jitter delays; it does not reorder.
            last[tap] = max(last[tap], time.monotonic() + delay + random.random() * jitter)
            count += 1
            heapq.heappush(queue, (last[tap], count, across[tap], frame))
        while queue and queue[0][0] <= time.monotonic():
            _, _, tap, frame = heapq.heappop(queue)
            _write(tap, frame)


def _read(tap: int) -> bytes | None:
    try:
        return os.read(tap, LARGEST)
    except OSError:
        return None


def _write(tap: int, frame: bytes) -> None:
    try:
        os.write(tap, frame)
    except OSError:
        return  # the link is down: the frame is lost


def main() -> None:
    names, numbers = sys.argv[1:3], [float(text) / 1000 for text in sys.argv[3:]]
    one, other = (open_tap(name) for name in names)
    carry(one, other, numbers[0], numbers[1] if len(numbers) > 1 else 0.0)


if __name__ == "__main__":
    main()
