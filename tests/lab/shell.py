"""Commands run to their end, and conditions waited for."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path


def run(
    *command: str,
    check: bool = True,
    timeout: float = 60,
    stdin: str | None = None,
    cwd: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end; a failure raises with what it printed."""
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=timeout, check=False, input=stdin, cwd=cwd
    )
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def wait_for(condition: object, timeout: float, what: str) -> None:
    """Polls a callable until it returns something true; raises `TimeoutError` naming `what`."""
    assert callable(condition)
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {timeout} s")
        time.sleep(0.05)
