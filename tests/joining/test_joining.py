"""What a host that joins believes, says and keeps: before anything is trusted, and after."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest
from aiohttp import web

from meshkube import csr, join_token, pki
from meshkube.client.http import HttpClient
from meshkube.clock import SystemClock
from meshkube.config import Config, ConfigError, adopt
from meshkube.joining import authority, cluster, enrolment, requests, servers
from meshkube.joining.identity import CLIENT, SERVING, Identity
from meshkube.joining.rotation import due

CA = pki.new_authority("test")


@dataclass
class Door:
    """A TLS server that notes who asks for what."""

    ca: bytes = CA.certificate
    status: int = 401
    url: str = ""
    asked: list[tuple[str, str]] = field(default_factory=list)
    """Path, and what was said in `Authorization`."""

    async def handle(self, request: web.Request) -> web.Response:
        self.asked.append((request.path, request.headers.get("Authorization", "")))
        if request.path == authority.CA_PATH:
            return web.Response(body=self.ca)
        return web.json_response({"kind": "Status", "code": self.status, "message": "no"},
                                 status=self.status)  # fmt: skip


@contextlib.asynccontextmanager
async def standing(door: Door, directory: Path) -> AsyncIterator[Door]:
    pki.save(pki.issue(CA, "api", names=["127.0.0.1"]), directory / "api")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "api.crt", directory / "api.key")
    runner = web.ServerRunner(web.Server(door.handle))
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        door.url = f"https://127.0.0.1:{runner.addresses[0][1]}"
        yield door
    finally:
        await runner.cleanup()


def token() -> join_token.JoinToken:
    return join_token.new(pki.fingerprint(CA.certificate))


async def test_the_ca_is_taken_when_its_hash_is_that_of_the_token(tmp_path: Path):
    async with standing(Door(), tmp_path) as door:
        assert await authority.fetch((door.url,), token()) == CA.certificate
    assert door.asked == [(authority.CA_PATH, "")]


async def test_another_ca_is_refused_before_the_token_is_sent(tmp_path: Path):
    other = pki.new_authority("other").certificate
    async with standing(Door(ca=other), tmp_path) as door:
        config = Config(data_dir=tmp_path / "host", token=str(token()))
        with pytest.raises(ConfigError, match="of another cluster than the token"):
            await enrolment.enrol(config, (door.url,), SystemClock())
    assert door.asked == [(authority.CA_PATH, "")]


async def test_what_follows_the_hashed_certificate_is_not_trusted(tmp_path: Path):
    smuggled = CA.certificate + pki.new_authority("other").certificate
    async with standing(Door(ca=smuggled), tmp_path) as door:
        assert await authority.fetch((door.url,), token()) == CA.certificate


async def test_a_server_of_another_kind_is_named(tmp_path: Path):
    async with standing(Door(ca=b"<html>"), tmp_path) as door:
        with pytest.raises(ConfigError, match="holds no certificate"):
            await authority.fetch((door.url,), token())


@pytest.mark.parametrize(("status", "said"), [(401, "is not valid"), (403, "for this purpose")])
async def test_a_refused_token_is_said_in_one_line(tmp_path: Path, status: int, said: str):
    async with standing(Door(status=status), tmp_path) as door:
        config = Config(data_dir=tmp_path / "host", token=str(token()))
        with pytest.raises(ConfigError, match=said) as raised:
            await enrolment.enrol(config, (door.url,), SystemClock())
    assert "\n" not in str(raised.value)
    assert config.token not in str(raised.value)
    assert config.token not in repr(config)


def test_a_clock_that_is_behind_is_named():
    pem = csr.new(pki.new_key(), "n1")
    later = datetime.now(UTC) + timedelta(hours=2)
    made = csr.sign(CA, pem, ["client auth"], timedelta(hours=1), later)
    with pytest.raises(ConfigError, match="this host's clock and the cluster's differ"):
        authority.check_clock(made)


async def test_a_host_with_a_certificate_asks_nobody(tmp_path: Path):
    identity = Identity(tmp_path / "pki", CA.certificate)
    pem = csr.new(identity.key, requests.node_user("n1"), organizations=["system:nodes"])
    now = datetime.now(UTC)
    made = csr.sign(CA, pem, ["client auth"], timedelta(hours=1), now)
    identity.take(CLIENT, made)
    config = Config(data_dir=tmp_path)
    again = await enrolment.enrol(config, (), SystemClock())
    assert again.certificate(CLIENT) == made
    ended = csr.sign(CA, pem, ["client auth"], timedelta(seconds=1), now - timedelta(hours=1))
    pki.write_private(tmp_path / "pki" / f"{CLIENT}.crt", ended)
    with pytest.raises(ConfigError, match="certificate has ended"):
        await enrolment.enrol(config, (), SystemClock())
    other = Config(data_dir=tmp_path, token=str(join_token.new("0" * 64)))
    with pytest.raises(ConfigError, match="for another cluster"):
        await enrolment.enrol(other, (), SystemClock())


def test_a_certificate_for_another_key_is_none(tmp_path: Path):
    identity = Identity(tmp_path, CA.certificate)
    made = csr.sign(CA, csr.new(pki.new_key(), "n1"), [], timedelta(hours=1), datetime.now(UTC))
    (tmp_path / f"{SERVING}.crt").write_bytes(made)
    assert identity.certificate(SERVING) == b""
    (tmp_path / f"{SERVING}.crt").write_bytes(b"broken")
    assert identity.certificate(SERVING) == b""


def test_renewal_is_spread_over_the_last_third_of_a_life():
    made = csr.sign(CA, csr.new(pki.new_key(), "n1"), [], timedelta(days=10), datetime.now(UTC))
    start, end = pki.validity(made)
    assert due(made, 0.0) == start + (end - start) * 0.7
    assert due(made, 1.0) == start + (end - start) * 0.9


def test_the_list_of_servers_is_what_was_given_and_then_what_was_learnt(tmp_path: Path):
    assert servers.known(tmp_path, ["https://a:1"]) == ("https://a:1",)
    (tmp_path / servers.FILE).write_bytes(orjson.dumps(["https://b:1", "https://a:1", 7]))
    assert servers.known(tmp_path, ["https://a:1"]) == ("https://a:1", "https://b:1")
    (tmp_path / servers.FILE).write_text("{")
    assert servers.known(tmp_path, []) == ()
    slice = {
        "ports": [{"name": "https", "port": 6443}],
        "endpoints": [
            {"addresses": ["192.0.2.1"], "conditions": {"ready": True}},
            {"addresses": ["2001:db8::1"]},
            {"addresses": ["192.0.2.9"], "conditions": {"ready": False}},
        ],
    }
    assert servers.urls([slice]) == ["https://192.0.2.1:6443", "https://[2001:db8::1]:6443"]


async def test_what_the_cluster_has_decided_is_kept_for_when_the_api_is_away(tmp_path: Path):
    (tmp_path / cluster.FILE).write_bytes(orjson.dumps({"settings": {"pod_cidr": "10.9.0.0/16"}}))
    async with HttpClient("https://127.0.0.1:1") as client:
        found = await cluster.settings(client, tmp_path, SystemClock())
    assert found == {"pod_cidr": "10.9.0.0/16"}
    assert adopt(Config(), found).pod_cidr == "10.9.0.0/16"
    given = Config(pod_cidr="10.8.0.0/16", given=frozenset({"pod_cidr"}))
    with pytest.raises(ConfigError, match="contradicts the cluster"):
        adopt(given, found)


async def test_a_host_that_the_cluster_no_longer_knows_is_told_so(tmp_path: Path):
    trust = authority.trusting(CA.certificate)
    async with standing(Door(status=401), tmp_path) as door, HttpClient(door.url, trust) as client:
        with pytest.raises(ConfigError, match="does not accept this host's certificate"):
            await cluster.settings(client, tmp_path, SystemClock())
