"""HTTP probes and hooks: one GET over a connection of its own. Redirects to the same host are
followed, as the kubelet does; one that leads elsewhere is as good as an answer, with a warning.
"""

from __future__ import annotations

import asyncio
import functools
import ssl
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import SplitResult, urljoin, urlsplit

from meshkube.api.types import Object
from meshkube.node.probes import Answer, http_url

USER_AGENT = "kube-probe/1.33"
LONGEST_CHAIN = 10
_REDIRECTS = (301, 302, 303, 307, 308)
_BODY_LIMIT = 10 * 1024
_Headers = Sequence[tuple[str, str]]


class _Broken(Exception):
    """What came is no HTTP; or nothing came."""


class _Response(NamedTuple):
    status: int
    location: str
    body: str
    """Of a redirect; else empty."""


async def get(action: Object, container: Object, address: str, timeout: float) -> Answer:
    """Good for a status from 200 to 399. Raises `ValueError` for a bad port."""
    scheme, host, port, path = http_url(action, container, address)
    bracketed = f"[{host}]" if ":" in host else host
    url = f"{scheme}://{bracketed}:{port}{path}"
    headers = [(str(h["name"]), str(h.get("value") or "")) for h in action.get("httpHeaders") or ()]
    try:
        async with asyncio.timeout(timeout):
            return _answer(await _followed(url, headers))
    except TimeoutError:
        return Answer(False, f'Get "{url}": context deadline exceeded')
    except OSError as error:
        return Answer(False, f'Get "{url}": dial tcp {host}:{port}: connect: {reason(error)}')
    except _Broken as error:
        return Answer(False, f'Get "{url}": {error}')


async def _followed(url: str, headers: _Headers) -> _Response:
    """What the last of a chain of redirects within the host says. Raises `OSError`, `_Broken`."""
    host = urlsplit(url).hostname
    for _ in range(LONGEST_CHAIN):
        response = await _one(urlsplit(url), headers)
        if response.status not in _REDIRECTS or not response.location:
            return response
        following = _target(url, response.location)
        if following.scheme not in ("http", "https") or following.hostname != host:
            return response
        if urlsplit(response.location).netloc:
            # The name that was asked for belongs to the first address only.
            headers = [each for each in headers if each[0].lower() != "host"]
        url = following.geturl()
    raise _Broken(f"stopped after {LONGEST_CHAIN} redirects")


def _target(url: str, location: str) -> SplitResult:
    try:
        target = urlsplit(urljoin(url, location))
        target.port  # noqa: B018 (raises where it is none)
    except ValueError as error:
        raise _Broken(f"failed to parse Location header {location!r}: {error}") from error
    return target


async def _one(url: SplitResult, headers: _Headers) -> _Response:
    tls = _untrusting() if url.scheme == "https" else None
    port = url.port or (443 if tls else 80)
    reader, writer = await asyncio.open_connection(url.hostname, port, ssl=tls)
    try:
        writer.write(_request(url, headers))
        line = await reader.readline()
        status = _status(line)
        if status not in range(300, 400):
            return _Response(status, "", "")
        return _Response(status, *await _redirect(reader))
    except ValueError as error:
        # A line that is longer than any that is read.
        raise _malformed() from error
    finally:
        writer.close()


def _request(url: SplitResult, given: _Headers) -> bytes:
    headers = {"Host": url.netloc, "User-Agent": USER_AGENT, "Accept": "*/*"}
    for name, value in given:
        for known in list(headers):
            if known.lower() == name.lower():
                del headers[known]
        headers[name] = value
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    clean = [line.replace("\r", "").replace("\n", "") for line in lines]
    return ("\r\n".join([*clean, "Connection: close"]) + "\r\n\r\n").encode("latin-1", "replace")


def _status(line: bytes) -> int:
    words = line.split(None, 2)
    if not line:
        raise _Broken("EOF")
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        raise _malformed()
    return int(words[1])


def _malformed() -> _Broken:
    return _Broken("net/http: HTTP/1.x transport connection broken: malformed HTTP response")


async def _redirect(reader: asyncio.StreamReader) -> tuple[str, str]:
    """Where it leads, and its body."""
    location, length = "", _BODY_LIMIT
    while line := (await reader.readline()).strip():
        name, _, value = line.decode("latin-1").partition(":")
        if name.lower() == "location":
            location = value.strip()
        elif name.lower() == "content-length" and value.strip().isdigit():
            length = min(length, int(value))
    body = b""
    while len(body) < length and (piece := await reader.read(length - len(body))):
        body += piece
    return location, body.decode(errors="replace")


def _answer(response: _Response) -> Answer:
    if 200 <= response.status < 300:
        return Answer(True)
    if 300 <= response.status < 400:
        said = f"Probe terminated redirects, Response body: {response.body}"
        return Answer(True, said, warning=True)
    return Answer(False, f"HTTP probe failed with statuscode: {response.status}")


def reason(error: OSError) -> str:
    """Why a connection could not be made, in few words."""
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    return (error.strerror or str(error) or type(error).__name__).lower()


@functools.cache
def _untrusting() -> ssl.SSLContext:
    """Probes do not check certificates."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
