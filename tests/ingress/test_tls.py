# ruff: noqa: SIM117 -- server, proxy and client read better one inside the other
"""HTTPS with real certificates and Python's own client, which verifies them."""

import asyncio
import base64
import contextlib
import select
import socket
import ssl
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from meshkube import pki
from meshkube.ingress.certificates import CertificateError, Certificates, new_context, pair_of
from meshkube.ingress.host_tls import HostTls
from meshkube.ingress.listener import CannotListen, listen, port_of
from meshkube.ingress.proxy import Proxy
from meshkube.ingress.settings import Settings
from tests.support.ingress import Origin, client, response, table_to

AUTHORITY = pki.new_authority("test")
GET = b"GET / HTTP/1.1\r\nHost: a.io\r\n\r\n"


def secret(name: str, *hosts: str, pair: pki.Pair | None = None) -> dict[str, Any]:
    pair = pair or pki.issue(AUTHORITY, hosts[0], names=hosts)
    data = {"tls.crt": pair.certificate, "tls.key": pair.key}
    return {
        "metadata": {"name": name, "namespace": "shop"},
        "type": "kubernetes.io/tls",
        "data": {key: base64.b64encode(value).decode() for key, value in data.items()},
    }


def trusting(**options: Any) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=AUTHORITY.certificate.decode())
    for name, value in options.items():
        setattr(context, name, value)
    return context


@contextlib.asynccontextmanager
async def https(certificates: Certificates, *origins: Origin) -> AsyncIterator[tuple[Proxy, int]]:
    async with asyncio.TaskGroup() as group:
        table = table_to(*(origin.port for origin in origins))
        proxy = Proxy(table, Settings(drain_timeout=1), group.create_task)
        server = await listen(proxy, "127.0.0.1", 0, certificates)
        try:
            yield proxy, port_of(server)
        finally:
            server.close()
            await proxy.drain()


SECRETS = {
    "shop/a": secret("a", "a.io"),
    "shop/wild": secret("wild", "*.a.io"),
    "shop/own": secret("own", "own.a.io"),
}
HOSTS = {
    "a.io": HostTls(("shop/a",)),
    "*.a.io": HostTls(("shop/wild",)),
    "own.a.io": HostTls(("shop/own",)),
}


def loaded() -> Certificates:
    certificates = Certificates()
    assert certificates.update(HOSTS, SECRETS.get) == {}
    return certificates


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.io", "a.io"), ("A.io", "a.io"), ("x.a.io", "*.a.io"), ("own.a.io", "own.a.io")],
)
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_the_server_name_chooses_the_most_exact_certificate(
    name: str, expected: str, version: ssl.TLSVersion
) -> None:
    context = trusting(maximum_version=version, minimum_version=version)
    context.set_alpn_protocols(["http/1.1"])
    async with Origin() as origin, https(loaded(), origin) as (_, port):
        async with client(port, ssl=context, server_hostname=name) as c:
            assert (await c.ask(GET)).body == b"ok"
            connection = c.writer.get_extra_info("ssl_object")
            assert dict(connection.getpeercert()["subject"][0])["commonName"] == expected
            assert connection.selected_alpn_protocol() == "http/1.1"
    assert b"X-Forwarded-Proto: https\r\n" in origin.requests[0]


async def test_other_names_get_the_default_certificate() -> None:
    async with Origin() as origin, https(loaded(), origin) as (_, port):
        for name in ("b.io", "x.y.a.io"):
            with pytest.raises(ssl.SSLCertVerificationError):
                async with client(port, ssl=trusting(), server_hostname=name):
                    pass
        blind = trusting(check_hostname=False, verify_mode=ssl.CERT_NONE)
        async with client(port, ssl=blind) as c:
            assert (await c.ask(GET)).status == 200


async def test_obsolete_ciphers_are_refused() -> None:
    """HTTP/2 forbids them, and no browser of the last ten years needs them."""
    async with Origin() as origin, https(loaded(), origin) as (_, port):
        for ciphers, served in (("ECDHE+AES128:!AESGCM:!AESCCM", False), ("ECDHE+AESGCM", True)):
            context = trusting(maximum_version=ssl.TLSVersion.TLSv1_2)
            context.set_ciphers(ciphers)
            with contextlib.nullcontext() if served else pytest.raises(ssl.SSLError):
                async with client(port, ssl=context, server_hostname="a.io") as c:
                    assert (await c.ask(GET)).status == 200


async def test_old_versions_of_tls_are_refused() -> None:
    context = trusting()
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    async with Origin() as origin, https(loaded(), origin) as (_, port):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            async with client(port, ssl=context, server_hostname="a.io"):
                pass


async def test_a_hello_in_pieces_gets_its_certificate_too() -> None:
    def names_after_pieces(port: int) -> str:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = trusting().wrap_bio(incoming, outgoing, server_hostname="x.a.io")
        with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while True:
                try:
                    tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    while data := outgoing.read(100):
                        raw.sendall(data)
                        time.sleep(0.02)
                    incoming.write(raw.recv(65536))
        found = tls.getpeercert()
        assert found is not None
        return str(found["subjectAltName"])

    async with Origin() as origin, https(loaded(), origin) as (_, port):
        assert "*.a.io" in await asyncio.to_thread(names_after_pieces, port)


def resumed(port: int, session: Any, context: ssl.SSLContext, name: str) -> tuple[bool, Any]:
    """One request in a thread: whether its session was a resumed one, and the session."""

    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as raw,
        context.wrap_socket(raw, server_hostname=name, session=session) as connection,
    ):
        connection.sendall(GET)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        return bool(connection.session_reused), connection.session


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_sessions_are_resumed_until_their_own_certificate_changes(
    version: ssl.TLSVersion,
) -> None:
    certificates = loaded()
    context = trusting(maximum_version=version, minimum_version=version)
    async with Origin() as origin, https(certificates, origin) as (_, port):
        was, session = await asyncio.to_thread(resumed, port, None, context, "a.io")
        assert was is False
        was, session = await asyncio.to_thread(resumed, port, session, context, "a.io")
        assert was is True
        fresh = {**SECRETS, "shop/own": secret("own", "own.a.io")}
        certificates.update(HOSTS, fresh.get)
        was, session = await asyncio.to_thread(resumed, port, session, context, "a.io")
        assert was is True
        fresh = {**SECRETS, "shop/a": secret("a", "a.io")}
        certificates.update(HOSTS, fresh.get)
        was, _ = await asyncio.to_thread(resumed, port, session, context, "a.io")
        assert was is False


async def test_a_new_certificate_takes_over_and_drops_nobody() -> None:
    certificates = loaded()

    def serial(c: Any) -> str:
        return str(c.writer.get_extra_info("ssl_object").getpeercert()["serialNumber"])

    async with Origin() as origin, https(certificates, origin) as (_, port):
        async with client(port, ssl=trusting(), server_hostname="a.io") as old:
            await old.ask(GET)
            changed = {**SECRETS, "shop/a": secret("a", "a.io")}
            certificates.update(HOSTS, changed.get)
            assert (await old.ask(GET)).status == 200
            async with client(port, ssl=trusting(), server_hostname="a.io") as new:
                assert (await new.ask(GET)).status == 200
                assert serial(new) != serial(old)


@pytest.mark.parametrize("size", [100, 40_000, 3_000_000])
async def test_large_bodies_pass_through_tls(size: int) -> None:
    body = bytes(range(256)) * (size // 256 + 1)
    async with Origin(response(body)) as origin, https(loaded(), origin) as (_, port):
        async with client(port, ssl=trusting(), server_hostname="a.io") as c:
            c.send(
                b"POST / HTTP/1.1\r\nHost: a.io\r\nContent-Length: %d\r\n\r\n" % len(body) + body
            )
            assert (await c.answer()).body == body
        assert origin.bodies == [body]


async def test_a_client_that_reads_nothing_stops_the_backend_through_tls() -> None:
    sent = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 60000000\r\n\r\n")
        for _ in range(600):
            writer.write(b"x" * 100_000)
            await writer.drain()
            sent += 100_000

    async with Origin(serve) as origin, https(loaded(), origin) as (_, port):
        async with client(port, ssl=trusting(), server_hostname="a.io") as c:
            c.writer.transport.pause_reading()
            c.send(GET)
            await asyncio.sleep(0.4)
            stalled = sent
            await asyncio.sleep(0.3)
            assert sent == stalled < 40_000_000
            c.writer.transport.resume_reading()
            await c.reader.readuntil(b"\r\n\r\n")
            left = 60_000_000
            while left:
                piece = await c.reader.read(2**20)
                assert piece
                left -= len(piece)


async def test_rubbish_and_silence_on_the_tls_port_harm_nobody() -> None:
    async with Origin() as origin, https(loaded(), origin) as (proxy, port):
        async with client(port) as c:
            c.send(GET)
            assert b"HTTP/1.1 200" not in await c.reader.read()
        async with client(port), client(port, ssl=trusting(), server_hostname="a.io") as c:
            assert (await c.ask(GET)).status == 200
        async with asyncio.timeout(5):
            while proxy.clients:
                await asyncio.sleep(0.01)


async def test_a_close_request_is_followed_by_a_clean_end_of_tls() -> None:
    async with Origin() as origin, https(loaded(), origin) as (_, port):
        async with client(port, ssl=trusting(), server_hostname="a.io") as c:
            got = await c.ask(b"GET / HTTP/1.1\r\nHost: a.io\r\nConnection: close\r\n\r\n")
            assert (got.body, got.header("connection")) == (b"ok", "close")
            assert await c.at_end()


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (None, "does not exist"),
        ({"data": {}}, "has no tls.crt"),
        ({"data": {"tls.crt": "eA==", "tls.key": "%%%"}}, "tls.key that is not base64"),
        ({"data": {"tls.crt": "eA==", "tls.key": "eA=="}}, "no usable certificate"),
        (
            secret(
                "x",
                pair=pki.Pair(pki.issue(AUTHORITY, "x", names=["x"]).certificate, AUTHORITY.key),
            ),
            "does not belong",
        ),
    ],
)
def test_a_broken_secret_says_what_is_wrong(bad: Any, reason: str) -> None:
    with pytest.raises(CertificateError, match=reason):
        new_context(pair_of(bad))


def test_one_broken_secret_leaves_the_others_be() -> None:
    certificates = Certificates()
    problems = certificates.update({**HOSTS, "b.io": HostTls(("shop/gone",))}, SECRETS.get)
    assert list(problems) == ["shop/gone"]
    assert certificates.find("a.io") is not None
    assert certificates.find("b.io") is None


async def test_a_taken_port_is_said_in_one_sentence() -> None:
    async with Origin() as origin, https(loaded(), origin) as (proxy, port):
        with pytest.raises(CannotListen, match=f"port {port} of 127.0.0.1 for http is taken"):
            await listen(proxy, "127.0.0.1", port, None)


async def test_a_handshake_is_acknowledged_before_the_first_request() -> None:
    """Otherwise a client's Nagle algorithm holds its request back for 40 ms."""

    def readable(port: int) -> bool:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=10) as raw,
            trusting().wrap_socket(raw, server_hostname="a.io") as connection,
        ):
            return bool(select.select([connection], [], [], 5)[0])

    async with Origin() as origin, https(loaded(), origin) as (_, port):
        assert await asyncio.to_thread(readable, port)
