"""Which kubectl the tests drive, and a way to."""

from __future__ import annotations

import asyncio
import functools
import json
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


class Kubectl:
    """Runs kubectl as a user with nothing but the kubeconfig."""

    def __init__(self, kubeconfig: Path, home: Path) -> None:
        self.home = home
        self.environment = {
            "KUBECONFIG": str(kubeconfig),
            "HOME": str(home),
            "PATH": os.environ["PATH"],
        }

    async def __call__(
        self, *arguments: str, stdin: object = "", code: int = 0, **environment: str
    ) -> str:
        """What it printed; what it complained of where it must fail. Nothing may come on stderr
        when it succeeds: no warning. What is no text on stdin is sent as JSON."""
        text = stdin if isinstance(stdin, str) else json.dumps(stdin)
        process = await asyncio.create_subprocess_exec(
            path(),
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self.environment | environment,
        )
        async with asyncio.timeout(60):
            out, err = await process.communicate(text.encode())
        assert process.returncode == code, err.decode()
        if code:
            return err.decode()
        assert err.decode() == ""
        return out.decode()
