"""Traffic goes first: threads that carry it get the processor before others that want it."""

from __future__ import annotations

import os
import threading

TRAFFIC = -10
"""As nice(2) has it: half of what root may ask for. A thread at 0 gets a ninth of its share while
both want the same processor, and is interrupted at once when this one wakes."""


def traffic_first() -> bool:
    """Raises this thread, and those it begins. Where that is not allowed nothing changes.

    On Linux each thread has a nice value of its own (setpriority(2), "C library/kernel
    differences").
    """
    try:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), TRAFFIC)
    except OSError:
        return False
    return True
