"""The process around the parts: one per data directory, until a signal ends it."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import signal
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import IO

import uvloop

from meshkube import garbage
from meshkube.config import Config, ConfigError

log = logging.getLogger(__name__)


def run(config: Config, serve: Callable[[Config], Awaitable[None]]) -> int:
    """Runs `serve(config)` until SIGTERM or SIGINT; returns the exit code."""
    with _only_one(config.data_dir):
        return run_alone(config, serve)


def run_alone(config: Config, serve: Callable[[Config], Awaitable[None]]) -> int:
    """The same for what keeps nothing in the data directory."""
    garbage.tame()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_until_signal(config, serve))
    return 0


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


async def _until_signal(config: Config, serve: Callable[[Config], Awaitable[None]]) -> None:
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None
    garbage.keep(loop)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await serve(config)
    log.info("stopped; workloads keep running", extra={"node": config.node_name})


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
