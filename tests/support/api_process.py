"""An API server in a process of its own, so that its memory and its loop can be judged.

`python -m tests.support.api_process DIRECTORY` prints its port, then for each line of its input
the longest hold of its loop since the last one, in milliseconds of CPU.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

import uvloop

from bench.holds import Holds
from meshkube import garbage
from tests.support.api import serving_api


async def main(directory: Path) -> None:
    garbage.tame()
    logging.basicConfig(filename=directory / "api.log", level=logging.INFO)
    lines = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(lines)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    holds = Holds()
    async with serving_api(directory) as served, asyncio.TaskGroup() as group:
        ticking = group.create_task(holds.run())
        print(served.url.rpartition(":")[2], flush=True)  # noqa: T201
        while await lines.readline():
            print(holds.take(), flush=True)  # noqa: T201
        ticking.cancel()


if __name__ == "__main__":
    uvloop.run(main(Path(sys.argv[1])))
