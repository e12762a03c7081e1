"""A `meshkube agent` on a test host."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.lab.cluster import MESHKUBE
from tests.lab.host import Host


class Agent:
    """The daemon of a host that joins the server at an address."""

    def __init__(self, host: Host, server: str, *flags: str, name: str = "") -> None:
        self.host = host
        self.name = name or host.name
        self.data_dir: Path = host.directory / "meshkube"
        self._flags = (f"--server=https://{server}:6443", *flags)
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @property
    def pki(self) -> Path:
        return self.data_dir / "pki"

    @property
    def _log_file(self) -> Path:
        return self.host.directory / "agent.log"

    @property
    def log_since_start(self) -> str:
        """What the daemon has logged since it was last started."""
        return self._log_file.read_text()[self._log_start :]

    def command(self, token: str = "") -> list[str]:
        """As a user types it."""
        given = [f"--token={token}"] if token else []
        names = [f"--data-dir={self.data_dir}", f"--node-name={self.name}"]
        return [MESHKUBE, "agent", *names, *self._flags, *given]

    def start(self, token: str = "") -> None:
        """Starts the daemon and does not wait."""
        if self._log_file.exists():
            self._log_start = len(self._log_file.read_text())
        self._process = self.host.start(*self.command(token), log="agent.log")

    def stop(self) -> None:
        """Ends the daemon as an operator would."""
        assert self._process is not None
        self.host.stop(self._process)
        self._process = None

    def refused(self, token: str = "", timeout: float = 20) -> str:
        """Starts the daemon, which must end by itself with a failure: the line that it says."""
        done = self.host.run(*self.command(token), check=False, timeout=timeout)
        assert done.returncode != 0, done.stderr
        return done.stderr.strip().splitlines()[-1]
