"""Another server that decides whether a request goes on, as nginx' `auth_request` asks it.

It gets the request's head and no body. 2xx lets the request through, 401 and 403 are passed on,
anything else is an error: nobody comes through because a server is away.
"""

from __future__ import annotations

import socket
from collections import OrderedDict
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from meshkube.api.types import Object
from meshkube.ingress.features import ExternalAuth
from meshkube.ingress.policies import Answer, Asked, Denial, Passed, Redirect
from meshkube.ingress.variables import filled

if TYPE_CHECKING:
    import aiohttp

_SECONDS = 10.0
_REMEMBERED = 4096
_DEFAULT_TIMES = ((200, 300.0), (202, 300.0), (401, 300.0))
# They say how this one message is framed, or are ours to say.
_NOT_PASSED = frozenset(
    [
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "upgrade",
        "expect",
        "te",
        "trailer",
        "accept-encoding",
        "x-original-url",
        "x-original-method",
        "x-sent-from",
        "x-auth-request-redirect",
        "x-real-ip",
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-forwarded-host",
    ]
)


class AuthServers:
    """Asks them, and remembers answers where an annotation says so."""

    def __init__(self, service: Callable[[str], Object | None]) -> None:
        """`service` finds a Service by `namespace/name`: their names in the cluster's DNS are
        understood here, whatever the host's resolver knows."""
        self._service = service
        self._session: aiohttp.ClientSession | None = None
        self._known: OrderedDict[tuple[str, str], tuple[float, Answer | Passed]] = OrderedDict()

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def ask(self, wanted: ExternalAuth, asked: Asked) -> Answer | Passed:
        """What becomes of a request."""
        key = (wanted.url, filled(wanted.cache_key, asked)) if wanted.cache_key else None
        if key is not None and (known := self._known.get(key)) and known[0] > monotonic():
            return known[1]
        try:
            status, headers = await self._request(wanted, asked)
        except TimeoutError:
            return Denial(500, f"the server for authentication did not answer in {_SECONDS:g} s")
        except (OSError, ValueError) as error:
            reason = str(error) or type(error).__name__
            return Denial(500, f"the server for authentication could not be asked: {reason}")
        verdict = _verdict(wanted, asked, status, headers)
        if key is not None:
            self._remember(key, wanted, status, verdict)
        return verdict

    async def _request(self, wanted: ExternalAuth, asked: Asked) -> tuple[int, Any]:
        import aiohttp

        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(resolver=_resolver(self._service), limit=512),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=_SECONDS),
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
                auto_decompress=False,
            )
        try:
            async with self._session.request(
                wanted.method,
                filled(wanted.url, asked),
                headers=_headers(wanted, asked),
                allow_redirects=False,
            ) as answer:
                return answer.status, answer.headers
        except aiohttp.ClientError as error:
            raise OSError(str(error) or type(error).__name__) from None

    def _remember(
        self, key: tuple[str, str], wanted: ExternalAuth, status: int, verdict: Answer | Passed
    ) -> None:
        for code, seconds in wanted.cache_times or _DEFAULT_TIMES:
            if code == status:
                self._known[key] = (monotonic() + seconds, verdict)
                self._known.move_to_end(key)
                if len(self._known) > _REMEMBERED:
                    self._known.popitem(last=False)
                return


def _headers(wanted: ExternalAuth, asked: Asked) -> list[tuple[str, str]]:
    given = []
    for line in asked.block.decode("latin-1").split("\r\n"):
        name, colon, value = line.partition(":")
        if colon and name.lower().replace("_", "-") not in _NOT_PASSED:
            given.append((name, value.strip()))
    scheme = "https" if asked.https else "http"
    redirect = filled(wanted.request_redirect, asked) if wanted.request_redirect else asked.target
    return [
        *given,
        ("X-Original-URL", f"{scheme}://{asked.host}{asked.target}"),
        ("X-Original-Method", asked.method),
        ("X-Sent-From", "meshkube"),
        ("X-Auth-Request-Redirect", redirect),
        ("X-Real-IP", asked.client),
        ("X-Forwarded-For", asked.client),
        ("X-Forwarded-Proto", scheme),
        ("X-Forwarded-Host", asked.host),
    ]


def _verdict(wanted: ExternalAuth, asked: Asked, status: int, headers: Any) -> Answer | Passed:
    cookies = _lines("Set-Cookie", headers)
    if 200 <= status < 300:
        lines = b"".join(_lines(name, headers) for name in wanted.response_headers)
        return Passed(
            lines, frozenset(_spelling(name) for name in wanted.response_headers), cookies
        )
    if status == 401 and wanted.signin:
        return Redirect(302, _signin(wanted, asked), cookies)
    if status in (401, 403):
        reason = f"the server for authentication says {status}"
        return Denial(status, reason, _lines("WWW-Authenticate", headers) + cookies)
    return Denial(500, f"the server for authentication answered with {status}")


def _lines(name: str, headers: Any) -> bytes:
    lines = (f"{name}: {value}\r\n" for value in headers.getall(name, ()))
    return "".join(lines).encode("latin-1", "replace")


def _spelling(name: str) -> bytes:
    return name.lower().replace("_", "-").encode()


def _signin(wanted: ExternalAuth, asked: Asked) -> str:
    url = filled(wanted.signin, asked)
    parameter = wanted.signin_parameter
    if f"{parameter}=" in urlsplit(url).query:
        return url
    back = f"{'https' if asked.https else 'http'}://{asked.host}{asked.target}"
    return f"{url}{'&' if '?' in url else '?'}{parameter}={quote(back, safe='')}"


def _resolver(service: Callable[[str], Object | None]) -> aiohttp.abc.AbstractResolver:
    from aiohttp.abc import AbstractResolver, ResolveResult
    from aiohttp.resolver import ThreadedResolver

    class Resolver(AbstractResolver):
        """Names of Services give their addresses; others are the host's to know."""

        def __init__(self) -> None:
            self._others = ThreadedResolver()

        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
        ) -> list[ResolveResult]:
            address = _service_address(host, service)
            if not address:
                return await self._others.resolve(host, port, family)
            kind = socket.AF_INET6 if ":" in address else socket.AF_INET
            flags = socket.AI_NUMERICHOST
            return [
                ResolveResult(
                    hostname=host, host=address, port=port, family=kind, proto=0, flags=flags
                )
            ]

        async def close(self) -> None:
            await self._others.close()

    return Resolver()


def _service_address(host: str, service: Callable[[str], Object | None]) -> str:
    labels = host.rstrip(".").split(".")
    if len(labels) < 3 or labels[2] != "svc":
        return ""
    found = service(f"{labels[1]}/{labels[0]}")
    address = str(((found or {}).get("spec") or {}).get("clusterIP") or "")
    return "" if address == "None" else address
