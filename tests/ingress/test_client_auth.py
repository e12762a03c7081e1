"""Certificates of clients: demanded, verified, told to pods; two certificates for one host; session
tickets that all nodes understand; certificates near their end."""

import asyncio
import base64
import contextlib
import ssl
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from meshkube import pki
from meshkube.ingress import openssl
from meshkube.ingress.certificates import ENDS, Certificates, expiry_problem
from meshkube.ingress.client_auth import PREFIX, ClientAuth, client_auth
from meshkube.ingress.findings import findings
from meshkube.ingress.host_tls import HostTls
from meshkube.ingress.listener import listen, port_of
from meshkube.ingress.proxy import Proxy
from meshkube.ingress.routes import RouteTable, compile
from meshkube.ingress.settings import Settings
from tests.ingress.test_tls import AUTHORITY, resumed, secret, trusting
from tests.support import http2
from tests.support.ingress import (
    Answer,
    Origin,
    client,
    endpoint,
    ingress,
    ingress_class,
    path,
    service,
    slice_,
)

CLIENTS = pki.new_authority("clients")
GET = b"GET / HTTP/1.1\r\nHost: a.io\r\n\r\n"
DEMAND = {"auth-tls-secret": "shop/clients"}


def authority_secret(authority: pki.Pair) -> dict[str, Any]:
    return {"data": {"ca.crt": base64.b64encode(authority.certificate).decode()}}


SECRETS: Mapping[str, Any] = {
    "shop/a": secret("a", "a.io", "b.io"),
    "shop/clients": authority_secret(CLIENTS),
}


def table(port: int, annotations: dict[str, str]) -> RouteTable:
    given = {PREFIX + name: value for name, value in annotations.items()}
    tls = [{"hosts": ["a.io", "b.io"], "secretName": "a"}]
    guarded = ingress("a", {"a.io": [path("/", "web")]}, annotations=given, tls=tls)
    other = ingress("b", {"b.io": [path("/", "web")]})
    slices = [slice_("web", [endpoint("127.0.0.1")], port)]
    return compile([guarded, other], [ingress_class()], [service("web")], slices)


@contextlib.asynccontextmanager
async def https(
    port: int, annotations: dict[str, str], secrets: Mapping[str, Any] = SECRETS
) -> AsyncIterator[tuple[int, int]]:
    """The ports of a proxy for HTTPS and HTTP."""
    async with asyncio.TaskGroup() as group:
        routes = table(port, annotations)
        certificates = Certificates()
        certificates.update(routes.tls(), secrets.get)
        proxy = Proxy(routes, Settings(drain_timeout=1), group.create_task)
        secure = await listen(proxy, "127.0.0.1", 0, certificates)
        plain = await listen(proxy, "127.0.0.1", 0, None)
        try:
            yield port_of(secure), port_of(plain)
        finally:
            secure.close()
            plain.close()
            await proxy.drain()


def showing(directory: Path, pair: pki.Pair | None, **options: Any) -> ssl.SSLContext:
    context = trusting(**options)
    if pair is not None:
        both = directory / "client.pem"
        both.write_bytes(pair.certificate + pair.key)
        context.load_cert_chain(both)
    return context


async def ask(
    port: int, context: ssl.SSLContext, name: str = "a.io", request: bytes = GET
) -> Answer:
    async with client(port, ssl=context, server_hostname=name) as c:
        return await c.ask(request)


async def test_only_clients_with_a_certificate_of_the_authority_are_served(tmp_path: Path) -> None:
    pair = pki.issue(CLIENTS, "ann", organizations=["dev"])
    stranger = pki.issue(AUTHORITY, "eve")
    async with Origin() as origin, https(origin.port, DEMAND) as (port, plain):
        forged = GET[:-2] + b"Ssl-Client-Verify: SUCCESS\r\nssl_client_subject_dn: CN=root\r\n\r\n"
        answer = await ask(port, showing(tmp_path, pair), request=forged)
        assert answer.status == 200
        head = origin.requests[0].decode().lower()
        assert "ssl-client-verify: success\r\n" in head
        assert "ssl-client-subject-dn: cn=ann,o=dev\r\n" in head
        assert "ssl-client-issuer-dn: cn=clients\r\n" in head
        assert "root" not in head
        assert "ssl-client-cert" not in head
        assert (await ask(port, trusting())).status == 400
        with contextlib.suppress(ssl.SSLError, ConnectionError, asyncio.IncompleteReadError):
            await ask(port, showing(tmp_path, stranger))
            pytest.fail("a certificate of another authority was taken")
        async with client(plain) as c:
            assert (await c.ask(GET)).status == 403
        assert len(origin.requests) == 1


async def test_a_connection_for_another_host_does_not_do(tmp_path: Path) -> None:
    async with Origin() as origin, https(origin.port, DEMAND) as (port, _):
        assert (await ask(port, trusting(), "b.io")).status == 421
        async with http2.client(port, trusting(), "b.io") as c:
            assert (await c.ask(authority="a.io")).status == 421
            assert (await c.ask(authority="b.io")).status == 200


async def test_options(tmp_path: Path) -> None:
    pair = pki.issue(CLIENTS, "ann")
    optional = DEMAND | {"auth-tls-verify-client": "optional"}
    async with Origin() as origin, https(origin.port, optional) as (port, _):
        assert (await ask(port, trusting())).status == 200
        assert b"ssl-client-verify: NONE\r\n" in origin.requests[-1]
    passing = DEMAND | {"auth-tls-pass-certificate-to-upstream": "true"}
    async with Origin() as origin, https(origin.port, passing) as (port, _):
        async with http2.client(port, showing(tmp_path, pair)) as c:
            assert (await c.ask()).status == 200
        line = next(
            x for x in origin.requests[0].split(b"\r\n") if x.startswith(b"ssl-client-cert")
        )
        assert unquote(line.split(b": ")[1].decode()).split() == pair.certificate.decode().split()
    page = DEMAND | {"auth-tls-error-page": "https://a.io/why"}
    async with Origin() as origin, https(origin.port, page) as (port, _):
        answer = await ask(port, trusting())
        assert (answer.status, answer.header("location")) == (302, "https://a.io/why")


@pytest.mark.parametrize("secrets", [{}, {"shop/clients": {"data": {"ca.crt": "bm8="}}}])
async def test_without_an_authority_nobody_is_served(
    tmp_path: Path, secrets: dict[str, Any]
) -> None:
    held = {"shop/a": SECRETS["shop/a"], **secrets}
    async with Origin() as origin, https(origin.port, DEMAND, held) as (port, _):
        assert (await ask(port, trusting())).status == 400
        with contextlib.suppress(ssl.SSLError, ConnectionError, asyncio.IncompleteReadError):
            await ask(port, showing(tmp_path, pki.issue(CLIENTS, "ann")))
            pytest.fail("a certificate was taken that nothing verifies")
        assert origin.requests == []


@pytest.mark.parametrize(
    ("annotations", "expected"),
    [
        ({}, None),
        (DEMAND, ClientAuth("shop/clients")),
        ({"auth-tls-secret": "clients"}, ClientAuth("shop/clients")),
        (DEMAND | {"auth-tls-verify-client": "off"}, None),
        (DEMAND | {"auth-tls-verify-depth": "3"}, ClientAuth("shop/clients", depth=3)),
        (DEMAND | {"auth-tls-verify-client": "optional_no_ca"}, ClientAuth()),
        (DEMAND | {"auth-tls-verify-depth": "-1"}, ClientAuth()),
        (DEMAND | {"auth-tls-error-page": "/x"}, ClientAuth()),
        (DEMAND | {"auth-tls-pass-certificate-to-upstream": "1"}, ClientAuth()),
        ({"auth-tls-secret": "other/clients"}, ClientAuth()),
        ({"auth-tls-verify-client": "on"}, ClientAuth()),
    ],
)
def test_annotations(annotations: dict[str, str], expected: ClientAuth | None) -> None:
    given = {PREFIX + name: value for name, value in annotations.items()}
    found, problems = client_auth(given, "shop")
    assert found == expected
    assert bool(problems) == (expected == ClientAuth())
    rule = ingress("a", {"a.io": [path("/", "web")]}, annotations=given)
    events = findings(compile([rule], [ingress_class()], [], []), "shop/a", rule, {})
    assert [e.message for e in events if e.reason == "AnnotationUnsupported"] == problems


def test_the_depth_of_a_chain_is_limited() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    assert openssl.set_verify_depth(context, 3)


# Two certificates for one host


def rsa_pair(*names: str, life: tuple[datetime, datetime] | None = None) -> pki.Pair:
    key = rsa.generate_private_key(65537, 2048)
    ec = x509.load_pem_x509_certificate(pki.issue(AUTHORITY, names[0], names=names).certificate)
    signer = serialization.load_pem_private_key(AUTHORITY.key, None)
    begin, end = life or (ec.not_valid_before_utc, ec.not_valid_after_utc)
    builder = (
        x509.CertificateBuilder(subject_name=ec.subject, issuer_name=ec.issuer)
        .public_key(key.public_key())
        .serial_number(ec.serial_number)
        .not_valid_before(begin)
        .not_valid_after(end)
    )
    for extension in ec.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    made = builder.sign(signer, hashes.SHA256())  # type: ignore[arg-type]
    return pki.Pair(
        made.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )


async def test_a_client_gets_the_certificate_whose_key_it_knows() -> None:
    secrets = {
        "shop/ec": secret("ec", "a.io"),
        "shop/rsa": secret("rsa", "a.io", pair=rsa_pair("a.io")),
        "other/ec": secret("ec", "a.io"),
    }
    rule = ingress(
        "a", {"a.io": [path("/", "web")]},
        tls=[{"hosts": ["a.io"], "secretName": name} for name in ("rsa", "ec")],
    )  # fmt: skip
    foreign = ingress(
        "b", {"a.io": [path("/b", "web")]}, namespace="other", created="2027-01-01T00:00:00Z",
        tls=[{"hosts": ["a.io"], "secretName": "ec"}],
    )  # fmt: skip
    hosts = compile([rule, foreign], [ingress_class()], [], []).tls()
    assert hosts == {"a.io": HostTls(("shop/rsa", "shop/ec"))}
    certificates = Certificates()
    assert certificates.update(hosts, secrets.get) == {}
    context = certificates.find("a.io")
    assert context is not None

    def kind(cipher: str) -> str:
        wanted = trusting(maximum_version=ssl.TLSVersion.TLSv1_2)
        wanted.set_ciphers(cipher)
        here, there, back, forth = (ssl.MemoryBIO() for _ in range(4))
        server = context.wrap_bio(here, there, server_side=True)
        asking = wanted.wrap_bio(back, forth, server_hostname="a.io")
        for _ in range(4):
            for side in (asking, server):
                with contextlib.suppress(ssl.SSLWantReadError):
                    side.do_handshake()
                here.write(forth.read())
                back.write(there.read())
        found = asking.getpeercert(binary_form=True)
        assert found is not None
        return pki.key_kind(ssl.DER_cert_to_PEM_cert(found).encode())

    assert kind("ECDHE+aRSA") == "RSA"
    assert kind("ECDHE+ECDSA") == "EC"


# Tickets


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_session_is_resumed_at_every_node_that_knows_its_key(
    version: ssl.TLSVersion,
) -> None:
    nodes = [Certificates(), Certificates()]
    hosts = {"a.io": HostTls(("shop/a",)), "b.io": HostTls(("shop/b",))}
    secrets = {"shop/a": SECRETS["shop/a"], "shop/b": secret("b", "b.io")}
    for node in nodes:
        node.share_tickets(b"k" * 32)
        node.update(hosts, secrets.get)
    context = trusting(maximum_version=version, minimum_version=version)
    async with Origin() as origin, contextlib.AsyncExitStack() as stack:
        ports = []
        for node in nodes:
            group = await stack.enter_async_context(asyncio.TaskGroup())
            routes = table(origin.port, {})
            proxy = Proxy(routes, Settings(drain_timeout=1), group.create_task)
            server = await listen(proxy, "127.0.0.1", 0, node)
            stack.push_async_callback(proxy.drain)
            stack.callback(server.close)
            ports.append(port_of(server))

        async def was_resumed(port: int, session: Any, name: str = "a.io") -> tuple[bool, Any]:
            return await asyncio.to_thread(resumed, port, session, context, name)

        was, session = await was_resumed(ports[0], None)
        assert not was
        was, session = await was_resumed(ports[1], session)
        assert was
        assert (await was_resumed(ports[1], session, "b.io"))[0] is False
        nodes[0].share_tickets(b"n" * 32)
        was, session = await was_resumed(ports[0], session)
        assert not was
        nodes[1].share_tickets(b"n" * 32)
        was, session = await was_resumed(ports[1], session)
        assert was
        # The one before is still read, and the client gets a ticket of the new one for it: in TLS
        # 1.2 a client keeps what it has.
        nodes[0].share_tickets(b"m" * 32, b"n" * 32)
        was, old = await was_resumed(ports[0], session)
        assert was
        assert (await was_resumed(ports[0], None))[0] is False
        nodes[1].share_tickets(b"m" * 32)
        assert (await was_resumed(ports[1], session))[0] is False
        assert (await was_resumed(ports[1], old))[0] is (version == ssl.TLSVersion.TLSv1_3)


# The end of certificates


@pytest.mark.parametrize(
    ("begun", "ends", "says"),
    [
        (timedelta(days=80), timedelta(days=11), ""),
        (timedelta(days=80), timedelta(days=9, minutes=1), f"{ENDS} 9 days"),
        (timedelta(days=2), timedelta(days=5), ""),
        (timedelta(days=6), timedelta(hours=5, minutes=1), f"{ENDS} 5 hours"),
        (timedelta(days=9), timedelta(days=-2, minutes=-1), "ended 2 days ago"),
    ],
)
def test_a_certificate_near_its_end_is_said_to_be(
    begun: timedelta, ends: timedelta, says: str
) -> None:
    now = datetime.now(UTC)
    pair = rsa_pair("a.io", life=(now - begun, now + ends))
    found = expiry_problem(secret("a", "a.io", pair=pair))
    assert found.endswith(says) if says else found == ""


def test_an_event_tells_of_it() -> None:
    rule = ingress("a", {"a.io": [path("/", "web")]}, tls=[{"secretName": "a"}])
    routes = compile([rule], [ingress_class()], [], [])
    found = findings(routes, "shop/a", rule, {}, {"shop/a": f"{ENDS} 3 days"})
    assert ("CertificateExpiring", f"secret shop/a {ENDS} 3 days") in {tuple(f) for f in found}
