"""Cases of how pods are spoken to, of CORS, and of what passes through."""

from __future__ import annotations

import asyncio
import json

from tests.e2e.ingress_cases.case import case
from tests.e2e.ingress_cases.site import Site
from tests.support.ingress import TestClient

SECURE = {"backend-protocol": "HTTPS"}
VERIFIED = SECURE | {"proxy-ssl-secret": "shop/pods", "proxy-ssl-verify": "on"}


@case(SECURE, service="tls")
async def backend_protocol(site: Site) -> None:
    assert (await site.get()).pod == "tls"


@case({}, service="tls", shows=("backend-protocol",))
async def backend_protocol_is_plain(site: Site) -> None:
    assert (await site.get()).status == 502


@case(VERIFIED | {"proxy-ssl-name": "pod.test", "proxy-ssl-server-name": "on"}, service="tls")
async def proxy_ssl(site: Site) -> None:
    assert (await site.get()).pod == "tls"


@case(VERIFIED | {"proxy-ssl-name": "other.test"}, service="tls", shows=("proxy-ssl-name",))
async def proxy_ssl_name(site: Site) -> None:
    assert (await site.get()).status == 502


@case(VERIFIED | {"proxy-ssl-secret": "shop/site"}, service="tls", shows=("proxy-ssl-secret",))
async def proxy_ssl_secret(site: Site) -> None:
    got = await site.get()
    assert (got.status, b"shop/site" in got.body) == (502, True)


async def grpc(site: Site) -> None:
    """One call with its status in the trailers, where the client can have any."""
    frame = b"\0\0\0\0\5hello"
    lines = ("Content-Type: application/grpc", "TE: trailers")
    got = await site.get("/shop.Shop/Get", *lines, method="POST", body=frame)
    assert (got.status, got.body) == (200, frame)
    if site.protocol == "HTTP/2":
        assert got.trailers[b"grpc-status"] == b"0"


@case({"backend-protocol": "GRPC"}, service="grpc")
async def backend_protocol_grpc(site: Site) -> None:
    await grpc(site)


@case({"backend-protocol": "GRPCS"}, service="grpcs")
async def backend_protocol_grpcs(site: Site) -> None:
    await grpc(site)


ORIGIN = "Origin: https://a.test"
PREFLIGHT = (ORIGIN, "Access-Control-Request-Method: PUT", "Access-Control-Request-Headers: X-A")


@case({"enable-cors": "true", "cors-allow-origin": "https://*.b.test, https://a.test"})
async def cors(site: Site) -> None:
    got = await site.get("/", ORIGIN)
    assert got.pod
    assert got.header("access-control-allow-origin") == "https://a.test"
    got = await site.get("/", "Origin: https://x.b.test")
    assert got.header("access-control-allow-origin") == "https://x.b.test"
    got = await site.get("/", "Origin: https://evil.test")
    assert got.header("access-control-allow-origin") == ""
    got = await site.get("/", *PREFLIGHT, method="OPTIONS")
    assert (got.status, got.header("access-control-max-age")) == (204, "1728000")


@case(
    {
        "enable-cors": "true", "cors-allow-methods": "GET, PATCH",
        "cors-allow-headers": "X-One,X-Two", "cors-expose-headers": "X-Three",
        "cors-allow-credentials": "false", "cors-max-age": "600",
    }
)  # fmt: skip
async def cors_parts(site: Site) -> None:
    got = await site.get("/", *PREFLIGHT, method="OPTIONS")
    assert got.header("access-control-allow-methods") == "GET, PATCH"
    assert got.header("access-control-allow-headers") == "X-One, X-Two"
    assert got.header("access-control-max-age") == "600"
    assert got.header("access-control-allow-credentials") == ""
    assert (await site.get("/", ORIGIN)).header("access-control-expose-headers") == "X-Three"


@case({"proxy-http-version": "1.1", "proxy-buffering": "off", "proxy-request-buffering": "off"})
async def nothing_is_buffered(site: Site) -> None:
    got = await site.get("/", "X-Do: slowly", "TE: trailers")
    assert json.loads(got.body)["pod"]
    if site.protocol == "HTTP/2":
        assert got.trailers == {b"x-sum": b"7"}
        return
    async with site.link() as link:
        assert isinstance(link, TestClient)
        link.send(f"GET / HTTP/1.1\r\nHost: {site.host}\r\nX-Do: slowly\r\n\r\n".encode())
        async with asyncio.timeout(5):
            head = await link.reader.readuntil(b"\r\n\r\n")
            assert b"chunked" in head.lower()
            begun = asyncio.get_running_loop().time()
            await link.reader.readuntil(b"}\r\n")
            rest = await link.reader.readuntil(b"0\r\n")
            assert rest
            assert asyncio.get_running_loop().time() - begun > 0.1, "the first piece came at once"


@case({"enable-access-log": "false"})
async def enable_access_log(site: Site) -> None:
    log = site.ports.access_log
    assert (await site.get("/unlogged")).status == 200
    assert (await site.get(f"/logged-{site.host}", host="fields-0.test")).status
    async with asyncio.timeout(10):
        while f"/logged-{site.host}" not in log.read_text():
            await asyncio.sleep(0.05)
    assert f'"{site.host}"' not in log.read_text()
