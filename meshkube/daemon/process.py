"""The process around the parts: one per data directory, until a signal ends it."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import IO

import uvloop

from meshkube import garbage
from meshkube.config import Config, ConfigError
from meshkube.handover import HANDOVER
from meshkube.stalls import STALLS

log = logging.getLogger(__name__)


def run(config: Config, serve: Callable[[Config], Awaitable[None]]) -> int:
    """Runs `serve(config)` until SIGTERM or SIGINT; returns the exit code. SIGUSR2 restarts it in
    place, as what is installed by then."""
    HANDOVER.begin(os.environ)
    ending = Ending()
    with _only_one(config.data_dir):
        code = run_alone(config, serve, ending)
    if ending.restarts:
        # The data directory was let go of just now, and the listening sockets were not.
        os.execve(sys.argv[0], sys.argv, HANDOVER.pass_on(os.environ))
    return code


def run_alone(
    config: Config, serve: Callable[[Config], Awaitable[None]], ending: Ending | None = None
) -> int:
    """The same for what keeps nothing in the data directory."""
    garbage.tame()
    _allow_open_files()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_until_signal(config, serve, ending))
    return 0


def _allow_open_files() -> None:
    """As many as this process may have: each connection is one, and a shell or a container often
    gives 1,024 of them although more are allowed."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextlib.contextmanager
def _only_one(data_dir: Path) -> Iterator[None]:
    """Holds the data directory: two daemons on one store would each believe they own it."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        lock: IO[str] = open(data_dir / "lock", "a+")  # noqa: SIM115
    except OSError as error:
        raise ConfigError(f"--data-dir: {data_dir}: {error.strerror}") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError(
                f"--data-dir: {data_dir} is in use by another meshkube server"
            ) from None
        yield


async def _until_signal(
    config: Config, serve: Callable[[Config], Awaitable[None]], ending: Ending | None
) -> None:
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None
    garbage.keep(loop)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.stop if ending else _cancel, task)
    if ending is not None:
        loop.add_signal_handler(signal.SIGUSR2, ending.restart, task)
    with contextlib.suppress(asyncio.CancelledError), STALLS.over("main"):
        await serve(config)
    log.info("stopped; workloads keep running", extra={"node": config.node_name})


def _cancel(task: asyncio.Task[object]) -> None:
    task.cancel()


class Ending:
    """How this process ends: for good, or by becoming what is installed then."""

    def __init__(self) -> None:
        self.restarts = False
        self._checking = False

    def stop(self, task: asyncio.Task[object]) -> None:
        """For good. Who connects from now on is refused, and may ask another host."""
        self.restarts = False
        HANDOVER.end()
        task.cancel()

    def restart(self, task: asyncio.Task[object]) -> None:
        """As what is installed now, where that starts at all."""
        if not self._checking:
            self._checking = True
            loop = asyncio.get_running_loop()
            threading.Thread(target=self._check, args=(loop, task), daemon=True).start()

    def _check(self, loop: asyncio.AbstractEventLoop, task: asyncio.Task[object]) -> None:
        reason = "it was not started by the command `meshkube`"
        if os.access(sys.argv[0], os.X_OK):
            check = [sys.argv[0], "version"]
            done = subprocess.run(check, capture_output=True, text=True, check=False)
            reason = done.stderr.strip()[-500:] if done.returncode else ""
        if reason:
            log.error("cannot restart in place: this goes on", extra={"reason": reason})
            self._checking = False
            return
        log.info("restarts in place", extra={"as": done.stdout.strip()})
        self.restarts = True
        loop.call_soon_threadsafe(task.cancel)


def is_running(data_dir: Path) -> bool:
    """True while a daemon holds this data directory."""
    try:
        with open(data_dir / "lock") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False
