"""What every handler of the HTTP server shares: the call as it came, and answers to it."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import orjson
from aiohttp import web

from meshkube.api import errors
from meshkube.api.errors import ApiError
from meshkube.api.types import JSON as Document
from meshkube.client.base import PatchType
from meshkube.control.apiserver import duplicates, negotiation, protobuf
from meshkube.control.apiserver.routing import Route
from meshkube.control.apiserver.turns import aside
from meshkube.control.auth.users import User

T = TypeVar("T")
Part = bytes | memoryview
"""Of a body: what is encoded already is sent from where it lies."""
JSON = "application/json"
LARGEST_BODY = 3 * 1024 * 1024
BODY_SECONDS = 60.0
GZIP_FROM = 128 * 1024
"""Bytes from which an answer is worth compressing (as in kube-apiserver)."""
_THREAD_FROM = 1024 * 1024
_LONG_TEXT = 32 * 1024
"""Bytes of YAML or protobuf from which reading it takes so long that others go on meanwhile."""
PIECE = 256 * 1024
"""Bytes that are written at a time."""
WARNING_CUT, WARNINGS_CUT = 256, 4096


@dataclass(slots=True)
class Call:
    """One request, read as far as all handlers need it."""

    request: web.BaseRequest
    user: User
    method: str
    path: str
    query: Mapping[str, str]
    route: Route | None
    verb: str = ""
    warnings: list[str] = field(default_factory=list)
    age: int | None = None
    """Of what was read: seconds since it was known to be the newest. None: it is."""
    twice: tuple[str, ...] = ()
    """What the body says twice, in words."""
    started: bool = False
    """The head of a streamed answer is out: no Status can follow it."""
    leave: Callable[[], None] = lambda: None
    """Gives back the place of the request (`fairness`): the work is done."""

    def header(self, name: str) -> str:
        return self.request.headers.get(name, "")

    def flag(self, name: str) -> bool:
        """A boolean of the query. Raises `ApiError` 400."""
        value = self.query.get(name, "")
        if value.lower() in ("", "0", "f", "false"):
            return False
        if value.lower() in ("1", "t", "true"):
            return True
        raise errors.bad_request(f"query parameter {name}: {value!r} is not a boolean")

    def number(self, name: str) -> int | None:
        """A whole number of the query. Raises `ApiError` 400."""
        value = self.query.get(name, "")
        if not value:
            return None
        try:
            return int(value)
        except ValueError:
            raise errors.bad_request(
                f"query parameter {name}: {value!r} is not a whole number"
            ) from None

    async def decoded(self) -> Document:
        """The body of a create or an update. Raises `ApiError` 400, 413, 415 or 504."""
        return await self._read_as(negotiation.body)

    async def patch(self) -> tuple[PatchType, Document]:
        """Raises `ApiError` 400, 413, 415 or 504."""
        return await self._read_as(negotiation.patch_body)

    async def _read_as(self, read: Callable[[bytes, str], T]) -> T:
        content, media = await self.body(), self.header("Content-Type")
        if "json" in media or len(content) < _LONG_TEXT:
            found = read(content, media)
        else:
            found = await asyncio.to_thread(read, content, media)
        await self._look_twice(content, media, found)
        return found

    async def _look_twice(self, content: bytes, media: str, found: Any) -> None:
        """Notes what the body says twice, where the client wants to be told of it."""
        if self.query.get("fieldValidation") == "Ignore" or protobuf.MEDIA_TYPE in media:
            return
        long = len(content) >= _LONG_TEXT
        parsed = found[1] if isinstance(found, tuple) else found
        if "yaml" not in media:
            self.twice = await aside(long, duplicates.of_json, content, parsed)
        elif content.lstrip()[:1] != b"{" or duplicates.of_json(content, parsed):
            self.twice = await aside(long, duplicates.of_yaml, content)

    async def body(self) -> bytes:
        """Raises `ApiError` 413 or 504."""
        try:
            if self.request.content.is_eof():  # it came with its head, as short ones do
                return await self.request.read()
            async with asyncio.timeout(BODY_SECONDS):
                return await self.request.read()
        except TimeoutError:
            raise errors.timeout("the body of the request took too long to come") from None
        except web.HTTPRequestEntityTooLarge:
            raise errors.too_large(f"Request entity too large: limit is {LARGEST_BODY}") from None


def split_target(target: str) -> tuple[str, dict[str, str]]:
    """Path and query of a request target; of a repeated key the first value counts."""
    path, mark, query = target.partition("?")
    if not mark:
        return path, {}
    values: dict[str, str] = {}
    for key, value in parse_qsl(query, keep_blank_values=True):
        values.setdefault(key, value)
    return path, values


def all_values(target: str, key: str) -> list[str]:
    """Every value of a repeated key of the query."""
    return [value for name, value in parse_qsl(target.partition("?")[2], True) if name == key]


async def answer(
    call: Call,
    body: bytes | Sequence[Part],
    status: int = 200,
    content_type: str = JSON,
    headers: Mapping[str, str] | None = None,
) -> web.StreamResponse:
    """A whole body, or its parts in order; compressed where it is big and the client can read
    that, and sent in turns where it is big."""
    parts = [body] if isinstance(body, bytes) else body
    size = sum(map(len, parts))
    sent = {"Content-Type": content_type, "Cache-Control": "no-cache, private", **(headers or {})}
    if call.age is not None:
        sent["Age"] = str(call.age)
    if size >= GZIP_FROM and "gzip" in call.header("Accept-Encoding"):
        if size >= _THREAD_FROM:
            parts = [await asyncio.to_thread(_compressed, parts)]
        else:
            parts = [_compressed(parts)]
        size = len(parts[0])
        sent |= {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
    response: web.StreamResponse
    if size < PIECE:
        response = web.Response(body=b"".join(parts), status=status, headers=sent)
    else:
        response = web.StreamResponse(status=status, headers=sent)
        response.content_length = size
    for warning in _warnings(call.warnings):
        response.headers.add("Warning", warning)
    if size >= PIECE:
        await _send(call, response, parts)
    return response


def _compressed(parts: Sequence[Part]) -> bytes:
    packer = zlib.compressobj(1, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    return b"".join([*map(packer.compress, parts), packer.flush()])


async def _send(call: Call, response: web.StreamResponse, parts: Sequence[Part]) -> None:
    """Piece by piece: encrypting 30 MB at once would keep the loop for 100 ms."""
    call.leave()  # who reads slowly keeps nobody from being served
    await response.prepare(call.request)
    call.started = True
    waiting: list[Part] = []
    size = 0
    for part in parts:
        for start in range(0, len(part), PIECE):
            waiting.append(part[start : start + PIECE])
            size += len(waiting[-1])
            if size >= PIECE:
                await response.write(b"".join(waiting))
                await asyncio.sleep(0)
                waiting, size = [], 0
    await response.write(b"".join(waiting))
    await response.write_eof()


async def stream(call: Call, content_type: str = JSON) -> web.StreamResponse:
    """The head of an answer without a known end."""
    response = web.StreamResponse(
        headers={"Content-Type": content_type, "Cache-Control": "no-cache, private"}
    )
    for warning in _warnings(call.warnings):
        response.headers.add("Warning", warning)
    response.enable_chunked_encoding()
    await response.prepare(call.request)
    call.started = True
    return response


async def document(
    call: Call, content: Any, status: int = 200, *, yaml: bool = False
) -> web.StreamResponse:
    """Any JSON document."""
    if yaml:
        written = await asyncio.to_thread(negotiation.to_yaml, content)
        return await answer(call, written, status, "application/yaml")
    return await answer(call, orjson.dumps(content) + b"\n", status)


def failure(error: ApiError) -> web.Response:
    """A Status."""
    headers = {"Content-Type": JSON, "Cache-Control": "no-cache, private"}
    retry = error.details.get("retryAfterSeconds")
    if retry:
        headers["Retry-After"] = str(retry)
    return web.Response(
        body=orjson.dumps(error.status()) + b"\n", status=error.code, headers=headers
    )


def _warnings(texts: Iterable[str]) -> Iterator[str]:
    """As kube-apiserver bounds them: 256 characters each where they are long together, and 4,096
    in all, as clients refuse heads that are too big."""
    texts = list(texts)
    longest = WARNING_CUT if sum(map(len, texts)) > WARNINGS_CUT else WARNINGS_CUT
    written = 0
    for text in texts:
        written += min(len(text), longest)
        if written > WARNINGS_CUT:
            return
        yield _warning(text[:longest])


def _warning(text: str) -> str:
    """RFC 7234 section 5.5, as Kubernetes writes it; what may not be in a header is a `?`."""
    escaped = " ".join(text.split()).replace("\\", "\\\\").replace('"', '\\"')
    printable = "".join(letter if letter.isprintable() else "?" for letter in escaped)
    return f'299 - "{printable}"'
