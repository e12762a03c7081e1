"""Keys and certificates: kept, renewed when they must be, and good for real TLS."""

from __future__ import annotations

import asyncio
import os
import ssl
import stat
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from meshkube import credentials, pki
from meshkube.client import kubeconfig
from meshkube.config import ConfigError


def ensure(
    directory: Path, addresses=("127.0.0.1",), life: timedelta = pki.LIFE
) -> credentials.Credentials:
    return credentials.ensure(
        directory, node_name="n1", addresses=list(addresses), domain="cluster.local", life=life
    )


def test_what_was_made_is_kept(tmp_path: Path):
    assert ensure(tmp_path) == ensure(tmp_path)


def test_a_new_address_makes_new_certificates_of_the_same_authority(tmp_path: Path):
    before, after = ensure(tmp_path), ensure(tmp_path, ("127.0.0.1", "192.0.2.9"))
    assert before.ca == after.ca
    assert before.admin == after.admin
    assert "192.0.2.9" in pki.alternative_names(after.api_server.certificate)


def test_a_certificate_near_its_end_is_made_again(tmp_path: Path):
    before = ensure(tmp_path, life=timedelta(days=100))
    after = ensure(tmp_path)
    assert before.admin != after.admin
    assert before.ca == after.ca


def test_a_key_that_a_crash_left_beside_another_certificate_is_replaced(tmp_path: Path):
    ensure(tmp_path)
    (tmp_path / "api-server.key").write_bytes(pki.new_key())
    assert pki.belong_together(ensure(tmp_path).api_server)


def test_what_is_due_is_made_again_at_that_moment_and_not_before(tmp_path: Path):
    made = ensure(tmp_path, life=timedelta(seconds=4))
    wait = (made.renew_at() - datetime.now(UTC)).total_seconds()
    assert ensure(tmp_path, life=timedelta(seconds=4)) == made
    time.sleep(max(wait, 0) + 0.01)
    after = ensure(tmp_path, life=timedelta(seconds=4))
    assert not set(after.own()) & set(made.own())


def test_a_host_that_has_joined_does_not_become_a_cluster_of_its_own(tmp_path: Path):
    ensure(tmp_path / "pki")
    (tmp_path / "pki/ca.key").unlink()
    with pytest.raises(ConfigError, match="belongs to a host that has joined a cluster"):
        ensure(tmp_path / "pki")


def test_only_the_owner_reads_keys_and_kubeconfig(tmp_path: Path):
    made = ensure(tmp_path / "pki")
    path = tmp_path / "kubeconfig.yaml"
    credentials.write_kubeconfig(path, made, "https://127.0.0.1:6443")
    for file in (path, tmp_path / "pki/ca.key", tmp_path / "pki/admin.key"):
        assert stat.S_IMODE(os.stat(file).st_mode) == 0o600


async def test_server_and_client_of_one_authority_trust_each_other(tmp_path: Path):
    made = ensure(tmp_path / "pki")
    path = tmp_path / "kubeconfig.yaml"
    credentials.write_kubeconfig(path, made, "https://127.0.0.1:6443")
    access = kubeconfig.load(path)
    users = []

    async def handle(reader, writer):
        users.append(writer.get_extra_info("peercert"))
        writer.write(b"hi")
        await writer.drain()
        writer.close()

    context = made.server_context("api-server", require_client=True)
    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    async with server:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=access.ssl_context)
        assert await reader.read() == b"hi"
        writer.close()
    subject = dict(entry[0] for entry in users[0]["subject"])
    assert subject == {"organizationName": "system:masters", "commonName": "meshkube-admin"}


async def test_a_stranger_is_not_let_in(tmp_path: Path):
    made, other = ensure(tmp_path / "ours"), ensure(tmp_path / "theirs")
    context = made.server_context("api-server", require_client=True)
    server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    async with server:
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncio.open_connection("127.0.0.1", port, ssl=other.client_context("admin"))


def test_the_kubeconfig_is_one_complete_file(tmp_path: Path):
    path = tmp_path / "kubeconfig.yaml"
    credentials.write_kubeconfig(path, ensure(tmp_path / "pki"), "https://127.0.0.1:6443")
    content = yaml.safe_load(path.read_text())
    assert content["current-context"] == "meshkube"
    assert content["clusters"][0]["cluster"]["server"] == "https://127.0.0.1:6443"


def test_tokens_are_signed_by_a_kept_key_that_can_be_rotated(tmp_path: Path) -> None:
    def keys() -> tuple[bytes, ...]:
        return ensure(tmp_path).token_keys

    first = keys()
    assert keys() == first
    assert stat.S_IMODE((tmp_path / "service-account.key").stat().st_mode) == 0o600
    credentials.rotate_token_key(tmp_path)
    second = keys()
    assert second[0] != first[0]
    assert second[1:] == (pki.public_key(first[0]),)
    credentials.rotate_token_key(tmp_path)
    assert len(keys()) == 3
    (tmp_path / "service-account-0001.pub").unlink()
    assert keys()[1:] == (pki.public_key(second[0]),)
    credentials.rotate_token_key(tmp_path)
    assert len(keys()) == 3
