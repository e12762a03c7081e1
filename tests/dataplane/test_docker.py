"""Beside a real dockerd: its FORWARD policy, and its restart."""

from __future__ import annotations

import os
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshkube.api import kinds
from tests.dataplane.world import ADDRESS, World, service, slice_of
from tests.lab.host import lab
from tests.lab.pods import pods, serve, stop

pytestmark = [
    pytest.mark.root,
    pytest.mark.docker,
    pytest.mark.skipif(
        os.geteuid() != 0 or not shutil.which("nft") or not shutil.which("dockerd"),
        reason="needs root, nft and dockerd",
    ),
]


@pytest.fixture
def world() -> Iterator[World]:
    with lab(2) as (host, other):
        host.run("sysctl", "-qw", "net.ipv4.ip_forward=0")
        with pods(host, "10.42.0", 2) as made:
            for pod in made:
                pod.serve(8080)
            yield World(host, other, made)


async def test_pods_are_reached_past_dockers_drop_policy_and_after_its_restart(
    world: World,
) -> None:
    host, (serving, asking) = world.host, world.pods
    dockerd = host.start_docker()
    # Where forwarding was off, dockerd turns it on and drops what it does not know.
    assert "-P FORWARD DROP" in host.run("iptables", "-S", "FORWARD").stdout
    world.api.put(kinds.SERVICE, service())
    world.api.put(kinds.ENDPOINT_SLICE, slice_of(serving.address))
    outside = serve(world.other.name, "out", 9000)

    def check() -> None:
        answer = world.ask(world.other, host.address, 30080)
        assert answer == [serving.name, world.other.address]
        assert world.ask(asking, ADDRESS, 80) == [serving.name, asking.address]
        assert world.ask(asking, world.other.address, 9000) == ["out", host.address]

    try:
        async with world.proxy():
            check()
            host.stop(dockerd)
            host.start_docker()
            assert "-P FORWARD DROP" in host.run("iptables", "-S", "FORWARD").stdout
            check()
    finally:
        stop(outside)
    world.teardown()
    assert "meshkube" not in host.run("iptables-save").stdout


async def test_dockers_chain_is_found_when_docker_comes_later(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meshkube.dataplane.proxy.CHECK_EVERY", 0.2)
    world.api.put(kinds.SERVICE, service())
    world.api.put(kinds.ENDPOINT_SLICE, slice_of(world.pods[0].address))
    async with world.proxy():
        world.host.start_docker()
        world.host.run("iptables", "-P", "FORWARD", "DROP")
        await world.until(lambda: "meshkube" in world.host.run("iptables-save").stdout)
        answer = world.ask(world.other, world.host.address, 30080)
        assert answer[0] == world.pods[0].name


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A root file system with busybox alone, as `docker import` takes it."""
    with tarfile.open(tmp_path / "image.tar", "w") as tar:
        tar.add("/bin/busybox", "bin/busybox")
        for tool in ("sh", "httpd", "wget"):
            link = tarfile.TarInfo(f"bin/{tool}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    return tmp_path / "image.tar"


@pytest.mark.skipif(not Path("/bin/busybox").exists(), reason="needs busybox-static")
async def test_containers_on_dockers_own_bridge(image: Path) -> None:
    """Docker's ports of the bridge, made before and after the proxy, serve as pods' do."""
    with lab(2, docker=False) as (host, other):
        host.start_docker()
        host.run("iptables", "-P", "FORWARD", "DROP")
        host.docker("import", str(image), "busybox")
        host.docker(
            "network", "create", "--subnet", "10.42.0.0/24",
            "--opt", "com.docker.network.bridge.name=meshkube0",
            "--opt", "com.docker.network.bridge.enable_ip_masquerade=false", "meshkube",
        )  # fmt: skip

        def start(address: str) -> str:
            serve = f"echo {address} > /index.html; exec httpd -f -p 8080 -h /"
            given = ("--net", "meshkube", "--ip", address, "--name", f"at-{address}")
            host.docker("run", "-d", *given, "busybox", "/bin/sh", "-c", serve)
            return address

        def fetch(address: str, url: str) -> str:
            done = host.docker("exec", f"at-{address}", "wget", "-qO-", url, check=False)
            return done.stdout.strip()

        world = World(host, other, [])
        first = start("10.42.0.2")
        world.api.put(kinds.SERVICE, service(), service("own", "10.43.0.81", 30081))
        world.api.put(kinds.ENDPOINT_SLICE, slice_of(first))
        async with world.proxy():
            second = start("10.42.0.3")
            world.api.put(kinds.ENDPOINT_SLICE, slice_of(second, name="own"))
            for each in (first, second):
                await world.until(lambda each=each: fetch(each, f"http://{each}:8080/") == each)
            await world.until(lambda: fetch(first, "http://10.43.0.81/") == second)
            for asking in (first, second):
                assert fetch(asking, f"http://{ADDRESS}/") == first
                assert fetch(asking, "http://10.43.0.81/") == second
                assert fetch(asking, f"http://{host.address}:30081/") == second
            done = other.run("curl", "-sm2", f"http://{host.address}:30080/")
            assert done.stdout.strip() == first
