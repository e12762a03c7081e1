"""Connects a client with a process: standard streams, terminal sizes, the end."""

from __future__ import annotations

import asyncio

from meshkube.node import channels
from meshkube.node.remote import Remote
from meshkube.node.runtime import Process, RuntimeFailure


async def stream(
    remote: Remote, process: Process, *, stdout: bool = True, stderr: bool = True
) -> None:
    """Until the process has ended or the client is gone. Each direction waits for its reader, so
    neither side is ever flooded."""
    try:
        async with asyncio.TaskGroup() as group:
            output = group.create_task(_output(remote, process, stdout, stderr))
            incoming = group.create_task(_incoming(remote, process))
            await asyncio.wait((output, incoming), return_when=asyncio.FIRST_COMPLETED)
            if output.done():
                await _end(remote, process, output.result())
            output.cancel()
            incoming.cancel()
    finally:
        await process.close()


async def _output(remote: Remote, process: Process, stdout: bool, stderr: bool) -> bool:
    """True at the end of the output; False where the client is gone."""
    wanted = {1: stdout, 2: stderr}
    try:
        while (piece := await process.read()) is not None:
            if wanted.get(piece.stream):
                await remote.output(piece.stream, piece.data)
    except ConnectionError:
        return False
    return True


async def _incoming(remote: Remote, process: Process) -> None:
    while (found := await remote.incoming()) is not None:
        match found:
            case channels.Stdin(data):
                await process.write(data)
            case channels.StdinClosed():
                await process.close_stdin()
            case channels.Resize(width, height):
                await process.resize(width, height)


async def _end(remote: Remote, process: Process, complete: bool) -> None:
    if not complete:
        return
    try:
        status = channels.exit_status(await process.exit_code())
    except RuntimeFailure as failure:
        status = channels.failure_status(str(failure))
    await remote.finish(status)
