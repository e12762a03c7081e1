"""TLS to pods: real certificates, verified or not, and certificates of the ingress' own."""

import asyncio
import base64
import contextlib
import ssl
from collections.abc import AsyncIterator
from typing import Any

import pytest

from meshkube import pki
from meshkube.ingress import pod_annotations
from meshkube.ingress.certificates import load_pair
from meshkube.ingress.findings import findings
from meshkube.ingress.pod_annotations import PREFIX
from meshkube.ingress.proxy import Proxy
from meshkube.ingress.routes import compile
from meshkube.ingress.via import PodTls, Via
from tests.support.http2_origin import Http2Origin
from tests.support.ingress import (
    Origin,
    client,
    endpoint,
    ingress,
    ingress_class,
    path,
    running_proxy,
    service,
    slice_,
)

AUTHORITY = pki.new_authority("pods")
OTHER = pki.new_authority("other")
NAME = "web.shop.svc"
GET = b"GET / HTTP/1.1\r\nHost: a.io\r\n\r\n"
HTTPS = {"backend-protocol": "HTTPS"}
VERIFIED = {**HTTPS, "proxy-ssl-secret": "shop/pods", "proxy-ssl-verify": "on"}


def pod_context(name: str = NAME, *, client_ca: pki.Pair | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    load_pair(context, pki.issue(AUTHORITY, name, names=[name]))
    context.set_alpn_protocols(["h2", "http/1.1"])
    if client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=client_ca.certificate.decode())
    return context


def secret(**data: bytes) -> dict[str, Any]:
    return {
        "metadata": {"name": "pods", "namespace": "shop"},
        "data": {
            key.replace("_", "."): base64.b64encode(value).decode() for key, value in data.items()
        },
    }


def rule(annotations: dict[str, str]) -> dict[str, Any]:
    given = {PREFIX + name: value for name, value in annotations.items()}
    return ingress("web", {"": [path("/", "web")]}, annotations=given)


@contextlib.asynccontextmanager
async def proxied(
    port: int, annotations: dict[str, str], **secrets: dict[str, Any]
) -> AsyncIterator[tuple[Proxy, int]]:
    slices = [slice_("web", [endpoint("127.0.0.1")], port)]
    table = compile([rule(annotations)], [ingress_class()], [service("web")], slices)
    async with running_proxy(table) as (proxy, at):
        proxy.pool.tls.secret = lambda key: secrets.get(key.replace("/", "_"))
        yield proxy, at


async def status_of(port: int) -> tuple[int, bytes]:
    async with client(port) as c:
        answer = await c.ask(GET)
        return answer.status, answer.body


@contextlib.asynccontextmanager
async def tls_origin(context: ssl.SSLContext) -> AsyncIterator[Origin]:
    origin = Origin()
    server = await asyncio.start_server(origin._serve, "127.0.0.1", 0, ssl=context)
    origin.port = server.sockets[0].getsockname()[1]
    try:
        yield origin
    finally:
        server.close()
        origin.drop_connections()


async def test_pods_are_asked_over_tls_and_connections_kept() -> None:
    async with tls_origin(pod_context("anything")) as pod, proxied(pod.port, HTTPS) as (_, port):
        async with client(port) as c:
            for _ in range(3):
                assert (await c.ask(GET)).body == b"ok"
        assert pod.connections == 1


@pytest.mark.parametrize(
    ("name", "authority", "more", "reason"),
    [
        (NAME, AUTHORITY, {}, ""),
        ("api.io", AUTHORITY, {"proxy-ssl-name": "api.io"}, ""),
        ("api.io", AUTHORITY, {}, "mismatch"),
        (NAME, OTHER, {}, "unable to get local issuer"),
    ],
)
async def test_a_certificate_is_verified_where_asked_for(
    name: str, authority: pki.Pair, more: dict[str, str], reason: str
) -> None:
    async with tls_origin(pod_context(name)) as pod:
        held = secret(ca_crt=authority.certificate)
        async with proxied(pod.port, VERIFIED | more, shop_pods=held) as (_, port):
            status, body = await status_of(port)
            assert status == (502 if reason else 200)
            assert reason in body.decode().lower()
        assert len(pod.requests) == (0 if reason else 1)


async def test_the_ingress_shows_a_certificate_of_its_own_and_takes_a_new_authority() -> None:
    pair = pki.issue(OTHER, "ingress")
    async with tls_origin(pod_context(client_ca=OTHER)) as pod:
        full = secret(ca_crt=AUTHORITY.certificate, tls_crt=pair.certificate, tls_key=pair.key)
        secrets = {"shop_pods": secret(ca_crt=OTHER.certificate)}
        async with proxied(pod.port, VERIFIED) as (proxy, port):
            proxy.pool.tls.secret = lambda key: secrets.get(key.replace("/", "_"))
            assert (await status_of(port))[0] == 502
            secrets["shop_pods"] = full
            async with asyncio.timeout(20):
                while (await status_of(port))[0] != 200:
                    await asyncio.sleep(0.05)


async def test_grpc_over_tls_agrees_on_http2() -> None:
    async with Http2Origin(context=pod_context()) as pod:
        held = secret(ca_crt=AUTHORITY.certificate)
        wanted = VERIFIED | {"backend-protocol": "GRPCS"}
        async with proxied(pod.port, wanted, shop_pods=held) as (_, port):
            assert await status_of(port) == (200, b"hello")
        assert pod.calls[0].headers[b":scheme"] == b"https"


@pytest.mark.parametrize("data", [{}, {"ca_crt": b"nonsense"}])
async def test_a_secret_that_cannot_be_used_trusts_nobody(data: dict[str, bytes]) -> None:
    async with tls_origin(pod_context()) as pod:
        secrets = {"shop_pods": secret(**data)} if data else {}
        async with proxied(pod.port, VERIFIED, **secrets) as (_, port):
            status, body = await status_of(port)
            assert status == 502
            assert b"secret shop/pods" in body
        assert pod.requests == []


@pytest.mark.parametrize(
    ("annotations", "via", "wrong"),
    [
        ({}, None, 0),
        ({"backend-protocol": "http"}, Via(), 0),
        ({"backend-protocol": "GRPC"}, Via(http2=True), 0),
        ({"backend-protocol": "FCGI"}, None, 1),
        (HTTPS, Via(tls=PodTls()), 0),
        (VERIFIED, Via(tls=PodTls("shop/pods", verify=True)), 0),
        ({**HTTPS, "proxy-ssl-name": "A.io"}, Via(tls=PodTls(name="a.io")), 0),
        ({**HTTPS, "proxy-ssl-server-name": "on"}, Via(tls=PodTls(send_name=True)), 0),
        ({**HTTPS, "proxy-ssl-verify": "yes"}, Via(tls=PodTls("shop/", verify=True)), 1),
        (
            {**VERIFIED, "proxy-ssl-secret": "other/pods"},
            Via(tls=PodTls("shop/", verify=True)),
            1,
        ),
    ],
)
def test_annotations(annotations: dict[str, str], via: Via | None, wrong: int) -> None:
    given = {PREFIX + name: value for name, value in annotations.items()}
    found, problems = pod_annotations.via(given, "shop")
    assert found == via
    assert len(problems) == wrong
    table = compile([rule(annotations)], [ingress_class()], [], [])
    events = findings(table, "shop/web", rule(annotations), {})
    assert [e.message for e in events if e.reason == "AnnotationUnsupported"] == problems
