"""Carries out what probes and lifecycle hooks ask for: HTTP, TCP, gRPC, a command.

No client session and no pool: each try opens one connection, sends a few bytes and closes it, so
thousands of probes cost little.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl

from meshkube.api.types import Object
from meshkube.node import grpc_probe
from meshkube.node.probes import Answer, http_url, port_number
from meshkube.node.runtime import Record, Runtime, RuntimeFailure

USER_AGENT = "kube-probe/1.33"
# What of an answer is read, and what of a command's output ends up in an Event.
OUTPUT_LIMIT = 10 * 1024


def _untrusting() -> ssl.SSLContext:
    """Probes do not check certificates."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Handlers:
    """Tries actions on containers."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._tls: ssl.SSLContext | None = None

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
                return await self.http(action["httpGet"], container, address, timeout)
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

    async def http(self, action: Object, container: Object, address: str, timeout: float) -> Answer:
        """Good for a status from 200 to 399. Raises `ValueError` for a bad port."""
        scheme, host, port, path = http_url(action, container, address)
        url = f"{scheme}://{host}:{port}{path}"
        writer: asyncio.StreamWriter | None = None
        try:
            async with asyncio.timeout(timeout):
                tls = self._context() if scheme == "https" else None
                reader, writer = await asyncio.open_connection(host, port, ssl=tls)
                writer.write(_request(path, host, port, action))
                line = await reader.readline()
        except TimeoutError:
            return Answer(False, f'Get "{url}": context deadline exceeded')
        except OSError as error:
            return Answer(False, f'Get "{url}": dial tcp {host}:{port}: connect: {_reason(error)}')
        except ValueError:
            return Answer(False, f'Get "{url}": malformed HTTP response')
        finally:
            if writer is not None:
                writer.close()
        return _http_answer(line, url)

    async def _tcp(self, action: Object, container: Object, address: str, timeout: float) -> Answer:
        host = str(action.get("host") or address)
        port = port_number(action["port"], container)
        try:
            async with asyncio.timeout(timeout):
                _, writer = await asyncio.open_connection(host, port)
        except TimeoutError:
            return Answer(False, f"dial tcp {host}:{port}: i/o timeout")
        except OSError as error:
            return Answer(False, f"dial tcp {host}:{port}: connect: {_reason(error)}")
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

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = _untrusting()
        return self._tls


def _request(path: str, host: str, port: int, action: Object) -> bytes:
    headers = {"Host": f"{host}:{port}", "User-Agent": USER_AGENT, "Accept": "*/*"}
    for header in action.get("httpHeaders") or ():
        name = str(header["name"])
        for known in list(headers):
            if known.lower() == name.lower():
                del headers[known]
        headers[name] = str(header.get("value") or "")
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    clean = [line.replace("\r", "").replace("\n", "") for line in lines]
    return ("\r\n".join([*clean, "Connection: close"]) + "\r\n\r\n").encode("latin-1", "replace")


def _http_answer(line: bytes, url: str) -> Answer:
    words = line.split(None, 2)
    if not line:
        return Answer(False, f'Get "{url}": EOF')
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        return Answer(False, f'Get "{url}": net/http: HTTP/1.x transport connection broken:'
                             f" malformed HTTP response")  # fmt: skip
    status = int(words[1])
    if 200 <= status < 400:
        return Answer(True)
    return Answer(False, f"HTTP probe failed with statuscode: {status}")


def _quoted(command: list[str]) -> str:
    return '"' + " ".join(command) + '"'


def _reason(error: OSError) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    return (error.strerror or str(error) or type(error).__name__).lower()
