"""Carries out what probes and lifecycle hooks ask for: HTTP, TCP, gRPC, a command.

No client session and no pool: each try opens one connection, sends a few bytes and closes it, so
thousands of probes cost little.
"""

from __future__ import annotations

import asyncio
import contextlib

from meshkube.api.types import Object
from meshkube.node import grpc_probe, http_probe
from meshkube.node.probes import Answer, port_number
from meshkube.node.runtime import Record, Runtime, RuntimeFailure

# What of an answer is read, and what of a command's output ends up in an Event.
OUTPUT_LIMIT = 10 * 1024


class Handlers:
    """Tries actions on containers."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def probe(
        self, action: Object, container: Object, record: Record, address: str, timeout: float
    ) -> Answer:
        """One try of a probe; never raises, never takes much longer than `timeout` seconds."""
        if not self._runtime.answers:
            return Answer(True)
        try:
            if "exec" in action:
                return await self.command(record.id, action["exec"].get("command") or [], timeout)
            if "httpGet" in action:
                return await http_probe.get(action["httpGet"], container, address, timeout)
            if "tcpSocket" in action:
                return await self._tcp(action["tcpSocket"], container, address, timeout)
            if "grpc" in action:
                grpc = action["grpc"]
                port = port_number(grpc["port"], container)
                service = str(grpc.get("service") or "")
                return await grpc_probe.check(address, port, service, timeout)
        except ValueError as error:
            return Answer(False, str(error))
        return Answer(False, "missing probe handler")

    async def _tcp(self, action: Object, container: Object, address: str, timeout: float) -> Answer:
        host = str(action.get("host") or address)
        port = port_number(action["port"], container)
        try:
            async with asyncio.timeout(timeout):
                _, writer = await asyncio.open_connection(host, port)
        except TimeoutError:
            return Answer(False, f"dial tcp {host}:{port}: i/o timeout")
        except OSError as error:
            return Answer(False, f"dial tcp {host}:{port}: connect: {http_probe.reason(error)}")
        writer.close()
        return Answer(True)

    async def command(self, id: str, command: list[str], timeout: float) -> Answer:
        """Runs a command in the container; one that hangs is ended."""
        output = bytearray()
        try:
            async with asyncio.timeout(timeout):
                process = await self._runtime.exec(id, command)
        except TimeoutError:
            return Answer(False, f"command timed out: {_quoted(command)}")
        except RuntimeFailure as failure:
            return Answer(False, str(failure))
        try:
            async with asyncio.timeout(timeout):
                while (piece := await process.read()) is not None:
                    if len(output) < OUTPUT_LIMIT:
                        output += piece.data
                code = await process.exit_code()
        except TimeoutError:
            await process.kill()
            return Answer(False, f"command timed out: {_quoted(command)} timed out after"
                                 f" {timeout:g}s")  # fmt: skip
        except RuntimeFailure as failure:
            return Answer(False, str(failure))
        finally:
            with contextlib.suppress(RuntimeFailure):
                await process.close()
        return Answer(code == 0, output[:OUTPUT_LIMIT].decode(errors="replace"))


def _quoted(command: list[str]) -> str:
    return '"' + " ".join(command) + '"'
