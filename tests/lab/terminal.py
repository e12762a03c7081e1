"""A command on a pseudo-terminal, for what a person types: `kubectl exec -it`."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import time
from collections.abc import Sequence


class Terminal:
    """Runs a command on a terminal of its own; use it in `with`."""

    def __init__(self, command: Sequence[str], columns: int = 80, rows: int = 24) -> None:
        self.shown = ""
        self._command = command
        self._size = (columns, rows)

    def __enter__(self) -> Terminal:
        self._mine, theirs = pty.openpty()
        columns, rows = self._size
        subprocess.run(["stty", "cols", str(columns), "rows", str(rows)], stdin=theirs, check=True)
        self._process = subprocess.Popen(
            self._command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
        )
        os.close(theirs)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        os.close(self._mine)

    def type(self, text: str) -> None:
        """Sends keys."""
        os.write(self._mine, text.encode())

    def wait_for(self, text: str, timeout: float = 20) -> None:
        """Reads until `text` is shown; raises `TimeoutError` with what was shown instead."""
        deadline = time.monotonic() + timeout
        while text not in self.shown:
            self._read(0.1)
            if text not in self.shown and time.monotonic() > deadline:
                raise TimeoutError(f"{text!r} is not shown: {self.shown!r}")

    def _read(self, seconds: float) -> bool:
        """Takes what is shown next; False where nothing came in that time."""
        ready, _, _ = select.select([self._mine], [], [], seconds)
        if not ready:
            return False
        try:
            self.shown += os.read(self._mine, 65536).decode(errors="replace")
        except OSError:  # everybody on the terminal has gone
            time.sleep(seconds)
            return False
        return True

    def exit_code(self, timeout: float = 20) -> int:
        """Waits for the command's end; all that it said is in `shown` then."""
        deadline = time.monotonic() + timeout
        while self._process.poll() is None and time.monotonic() < deadline:
            self._read(0.05)
        while self._read(0):
            pass
        return self._process.wait(max(deadline - time.monotonic(), 0.1))
