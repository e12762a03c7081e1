"""The collector: old objects are set aside, young cycles still go."""

from __future__ import annotations

import subprocess
import sys

# In a process of its own: the collector's settings are the whole process'.
PROBE = """
import asyncio, gc, weakref
from meshkube import garbage

class Node:
    pass

async def main():
    garbage.SETTLED_AFTER = garbage.SET_ASIDE_EVERY = 0.01
    garbage.tame()
    old = [{"n": [n]} for n in range(100_000)]
    garbage.keep(asyncio.get_running_loop())
    await asyncio.sleep(0.3)
    node = Node()
    node.me = node
    gone = weakref.ref(node)
    del node
    await asyncio.sleep(0.3)
    print(gc.get_freeze_count() > 100_000, gone() is None, gc.get_stats()[2]["collections"] > 2)

asyncio.run(main())
"""


def test_old_objects_are_set_aside_and_young_cycles_are_collected() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROBE], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == ["True", "True", "True"]
