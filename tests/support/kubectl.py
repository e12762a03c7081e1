"""Which kubectl the tests drive."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from pathlib import Path

OLDEST = 30


@functools.cache
def path() -> str:
    """The kubectl on PATH; where that is a dispatcher among versions, its 1.32. Empty without."""
    found = shutil.which("kubectl")
    if found is None:
        return ""
    chosen = Path(os.path.realpath(found)).with_name("kubectl.1.32")
    return str(chosen) if chosen.exists() else found


@functools.cache
def minor_version() -> int:
    """Its minor version; 0 where there is none."""
    if not path():
        return 0
    command = [path(), "version", "--client"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"v1\.(\d+)", done.stdout)
    return int(found[1]) if found else 0


def why_not() -> str:
    """Why it cannot be judged by; empty where it can."""
    if minor_version() >= OLDEST:
        return ""
    return f"needs kubectl 1.{OLDEST} or later on PATH, found {path() or 'none'}"
