"""The sandbox's executable, run for real where the machine fits."""

from __future__ import annotations

import io
import os
import platform
import signal
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

from meshkube.node import pause


@pytest.mark.parametrize("machine", ["amd64", "x86_64", "arm64", "aarch64"])
def test_it_is_a_small_static_executable(machine: str) -> None:
    content = pause.executable(machine)
    assert content[:4] == b"\x7fELF"
    assert len(content) < 400


def test_an_unknown_machine_is_named() -> None:
    with pytest.raises(ValueError, match="m68k"):
        pause.executable("m68k")


def test_the_archive_is_the_same_each_time() -> None:
    archive = pause.root_filesystem("amd64")
    assert archive == pause.root_filesystem("amd64")
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        [entry] = tar.getmembers()
        assert (entry.name, entry.mode) == ("pause", 0o755)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="no such executable")
def test_it_sleeps_until_it_is_asked_to_end(tmp_path: Path) -> None:
    path = tmp_path / "pause"
    path.write_bytes(pause.executable(platform.machine()))
    path.chmod(0o755)
    process = subprocess.Popen([path])
    try:
        time.sleep(0.1)
        os.kill(process.pid, signal.SIGCHLD)
        time.sleep(0.1)
        assert process.poll() is None
        process.terminate()
        assert process.wait(5) == 0
    finally:
        process.kill()
        process.wait()
