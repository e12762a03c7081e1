"""Logs, exec and attach as the API server asks for them: HTTPS with client certificates."""

from __future__ import annotations

import asyncio
import contextlib
import io
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import orjson
import pytest

from meshkube import pki
from meshkube.node.channels import of_text
from meshkube.node.runtime import RuntimeFailure
from meshkube.node.server import NodeServer
from tests.lab.host import Host
from tests.node.world import (
    IMAGE,
    World,
    container,
    container_id,
    docker_world,
    in_host,
    pod,
    status_of,
)

pytestmark = [pytest.mark.root, pytest.mark.docker]

V5, V4 = "v5.channel.k8s.io", "v4.channel.k8s.io"


def contexts(directory: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The server's and a client's."""
    authority = pki.new_authority("test")
    (directory / "ca.crt").write_bytes(authority.certificate)
    pki.save(pki.issue(authority, "node", names=["127.0.0.1"]), directory / "server")
    node = pki.issue(authority, "system:node:other", organizations=["system:nodes"])
    pki.save(node, directory / "other")
    pki.save(pki.issue(authority, "api", organizations=["system:masters"]), directory / "client")
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=directory / "ca.crt")
    server.verify_mode = ssl.CERT_OPTIONAL
    server.load_cert_chain(directory / "server.crt", directory / "server.key")
    client = ssl.create_default_context(cafile=directory / "ca.crt")
    client.load_cert_chain(directory / "client.crt", directory / "client.key")
    return server, client


class Node:
    """A client of the node's server."""

    def __init__(self, session: aiohttp.ClientSession, base: str, world: World) -> None:
        self.session = session
        self.base = base
        self.world = world

    async def logs(self, pod: str, container: str = "c", **query: str) -> str:
        path = f"{self.base}/containerLogs/default/{pod}/{container}"
        async with self.session.get(path, params=query) as response:
            response.raise_for_status()
            return await response.text()

    async def exec(
        self,
        pod: str,
        *command: str,
        stdin: bytes | None = None,
        tty: bool = False,
        protocol: str = V5,
        resize: tuple[int, int] | None = None,
    ) -> tuple[bytes, bytes, dict[str, object]]:
        """`(stdout, stderr, status)` of a command."""
        query = [("command", word) for word in command]
        query += [("output", "1"), ("error", "1"), ("tty", str(int(tty)))]
        query += [("input", "1")] if stdin is not None or tty else []
        url = f"{self.base}/exec/default/{pod}/c"
        async with self.session.ws_connect(
            url, params=query, protocols=[protocol], max_msg_size=0
        ) as socket:
            assert socket.protocol == protocol
            if resize:
                size = {"Width": resize[0], "Height": resize[1]}
                await socket.send_bytes(b"\x04" + orjson.dumps(size))
            sending = asyncio.create_task(self._send(socket, stdin))
            outputs: dict[int, bytearray] = {1: bytearray(), 2: bytearray(), 3: bytearray()}
            async for message in socket:
                outputs[message.data[0]] += message.data[1:]
            await sending
            return bytes(outputs[1]), bytes(outputs[2]), orjson.loads(outputs[3])

    async def _send(self, socket: aiohttp.ClientWebSocketResponse, stdin: bytes | None) -> None:
        if stdin is None:
            return
        for start in range(0, len(stdin), 32768):
            await socket.send_bytes(b"\x00" + stdin[start : start + 32768])
        await socket.send_bytes(b"\xff\x00")


@contextlib.asynccontextmanager
async def serving(host: Host, tmp_path: Path) -> AsyncIterator[Node]:
    server_tls, client_tls = await asyncio.to_thread(contexts, tmp_path)
    async with docker_world(host, tmp_path) as world:
        server = NodeServer(
            runtime=world.runtime,
            records=world.agent.records,
            images=world.agent.images,
            pods=world.agent.pods,
            volumes=world.agent.volumes,
            client=world.client,
            node_name="n1",
            tls=server_tls,
            host="127.0.0.1",
            port=0,
        )
        ready = asyncio.Event()
        task = asyncio.create_task(server.run(ready.set))
        waiting = asyncio.create_task(ready.wait())
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        assert server.address is not None
        connector = aiohttp.TCPConnector(ssl=client_tls)
        try:
            async with aiohttp.ClientSession(connector=connector) as session:
                yield Node(session, f"https://127.0.0.1:{server.address[1]}", world)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def test_who_has_no_certificate_is_turned_away(docker_host: Host, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(docker_host, tmp_path) as node:
            async with node.session.get(f"{node.base}/healthz") as response:
                assert await response.text() == "ok"
            stranger = await asyncio.to_thread(
                ssl.create_default_context, cafile=tmp_path / "ca.crt"
            )
            connector = aiohttp.TCPConnector(ssl=stranger)
            async with (
                aiohttp.ClientSession(connector=connector) as session,
                session.get(f"{node.base}/healthz") as response,
            ):
                assert response.status == 401

    in_host(docker_host, scenario())


def test_other_nodes_may_fetch_images_and_nothing_else(docker_host: Host, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(docker_host, tmp_path) as node:
            other = await asyncio.to_thread(ssl.create_default_context, cafile=tmp_path / "ca.crt")
            other.load_cert_chain(tmp_path / "other.crt", tmp_path / "other.key")
            async with aiohttp.ClientSession(
                node.base, connector=aiohttp.TCPConnector(ssl=other)
            ) as session:
                async with session.get("/images") as response:
                    listed = {name: one for one in (await response.json())["images"]
                              for name in one["names"]}  # fmt: skip
                async with session.get("/images/archive", params={"name": IMAGE}) as response:
                    assert response.headers["X-Image-Id"] == listed[IMAGE]["id"]
                    archive = await response.read()
                async with session.get("/images/archive", params={"name": "nope"}) as response:
                    assert response.status == 404
                for method, path in (("POST", "/images"), ("GET", "/stats/summary")):
                    async with session.request(method, path) as response:
                        assert response.status == 403
            async with node.session.post(
                f"{node.base}/images", data=io.BytesIO(archive)
            ) as response:
                assert await response.json() == {"images": [IMAGE]}
            async with node.session.post(f"{node.base}/images", data=b"x" * 2048) as response:
                assert response.status in (400, 500)

    in_host(docker_host, scenario())


def test_logs(docker_host: Host, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(docker_host, tmp_path) as node:
            script = "for i in 1 2 3; do echo line $i; done; echo oops >&2; sleep 2; echo last"
            await node.world.create(
                pod("a", container("c", script, plain=True), restartPolicy="Never")
            )
            await node.world.running("a")
            await node.world.prints("a", "oops")
            text = await node.logs("a")
            assert sorted(text.splitlines()) == ["line 1", "line 2", "line 3", "oops"]
            assert len((await node.logs("a", tailLines="2")).splitlines()) == 2
            stamped = await node.logs("a", timestamps="true")
            assert stamped[:2] == "20"
            assert stamped.splitlines()[0].partition(" ")[0].endswith("Z")
            assert len(await node.logs("a", limitBytes="5")) == 5
            assert "last" in await node.logs("a", follow="true")
            await asyncio.sleep(1.1)
            assert await node.logs("a", sinceSeconds="1") == ""
            for bad in ({"previous": "true"}, {"tailLines": "x"}):
                with pytest.raises(aiohttp.ClientResponseError) as caught:
                    await node.logs("a", **bad)
                assert caught.value.status == 400
            with pytest.raises(aiohttp.ClientResponseError) as caught:
                await node.logs("a", "other")
            assert caught.value.status == 400
            assert await node.logs("a", stream="Stderr") == "oops\n"

    in_host(docker_host, scenario())


def test_logs_of_the_attempt_before(docker_host: Host, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(docker_host, tmp_path) as node:
            script = "test -e /v/x && exec sleep 1000; touch /v/x; echo first; exit 1"
            mounts = [{"name": "v", "mountPath": "/v"}]
            await node.world.create(
                pod(
                    "a",
                    container("c", script, plain=True, volumeMounts=mounts),
                    volumes=[{"name": "v", "emptyDir": {}}],
                )
            )
            await node.world.until("a", lambda p: status_of(p)["restartCount"] == 1)
            await node.world.running("a")
            assert await node.logs("a", previous="true") == "first\n"

    in_host(docker_host, scenario())


def test_exec(docker_host: Host, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(docker_host, tmp_path) as node:
            await node.world.create(pod("a"))
            await node.world.running("a")
            out, err, status = await node.exec("a", "sh", "-c", "echo out; echo err >&2")
            assert (out, err) == (b"out\n", b"err\n")
            assert status == {"metadata": {}, "status": "Success"}
            _, _, status = await node.exec("a", "sh", "-c", "exit 7", protocol=V4)
            assert status["reason"] == "NonZeroExitCode"
            assert status["details"] == {"causes": [{"reason": "ExitCode", "message": "7"}]}
            _, _, status = await node.exec("a", "/no/such/program")
            assert status["status"] == "Failure"
            out, _, _ = await node.exec("a", "echo", "a" * 20_000)
            assert len(out) == 20_001
            out, _, _ = await node.exec("a", "stty", "size", tty=True, resize=(132, 43))
            again = await node.exec(
                "a", "sh", "-c", "sleep 0.3; stty size", tty=True, resize=(132, 43)
            )
            assert b"43 132" in again[0]

    in_host(docker_host, scenario())


def test_exec_in_the_framings_of_browsers(docker_host: Host, tmp_path: Path) -> None:
    """Text, and the first version: which tells a failure as plain text, and success not at all."""

    async def scenario() -> None:
        async with serving(docker_host, tmp_path) as node:
            await node.world.create(pod("a"))
            await node.world.running("a")
            command = [("command", "sh"), ("command", "-c"), ("command", "echo hi; exit 3")]
            url = f"{node.base}/exec/default/a/c"
            for protocol in ("base64.channel.k8s.io", "v4.base64.channel.k8s.io", "channel.k8s.io"):
                heard = []
                async with node.session.ws_connect(
                    url, params=[*command, ("output", "1")], protocols=[protocol]
                ) as socket:
                    async for message in socket:
                        data = message.data
                        heard.append(of_text(data.encode()) if isinstance(data, str) else data)
                assert b"".join(one[1:] for one in heard if one[0] == 1) == b"hi\n"
                why = b"".join(one[1:] for one in heard if one[0] == 3).decode()
                assert "exit status 3" in why
                assert why.startswith("{") == protocol.startswith("v4")

    in_host(docker_host, scenario())


def test_large_transfers_both_ways(docker_host: Host, tmp_path: Path) -> None:
    """As `kubectl cp` does it, with the end of standard input told by v5."""

    async def scenario() -> None:
        async with serving(docker_host, tmp_path) as node:
            await node.world.create(pod("a"))
            await node.world.running("a")
            content = bytes(range(256)) * (16 * 4096)
            out, _, status = await node.exec("a", "wc", "-c", stdin=content)
            assert (int(out), status["status"]) == (len(content), "Success")
            out, _, _ = await node.exec("a", "cat", stdin=content)
            assert out == content
            out, _, _ = await node.exec("a", "head", "-c", "20000000", "/dev/zero")
            assert len(out) == 20_000_000

    in_host(docker_host, scenario())


def test_attach(docker_host: Host, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(docker_host, tmp_path) as node:
            await node.world.create(
                pod("a", container("c", "echo early; cat", plain=True, stdin=True, stdinOnce=True))
            )
            await node.world.running("a")
            url = f"{node.base}/attach/default/a/c?input=1&output=1&error=1"
            async with node.session.ws_connect(url, protocols=[V5]) as socket:
                await socket.send_bytes(b"\x00hello\n")
                got = b""
                while b"hello" not in got:
                    message = await socket.receive(timeout=10)
                    if message.data[0] == 1:
                        got += message.data[1:]
                assert got == b"early\nhello\n"
            # One may end between the look that found it running and Docker's answer.
            await node.world.create(pod("b", container("c", "true"), restartPolicy="Never"))
            ended = container_id(await node.world.phase("b", "Succeeded"))
            with pytest.raises(RuntimeFailure, match="does not run"):
                async with asyncio.timeout(20):
                    await node.world.runtime.attach(ended)

    in_host(docker_host, scenario())


def test_what_the_node_tells_of_itself(docker_host: Host, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(docker_host, tmp_path) as node:
            script = "dd if=/dev/zero of=/own bs=1000 count=100; dd if=/dev/zero of=/s/x bs=1000"
            mounts = [{"name": "scratch", "mountPath": "/s"}]
            probe = {"exec": {"command": ["true"]}, "periodSeconds": 1}
            writer = container(
                "c", script + " count=200; sleep 1000", volumeMounts=mounts, readinessProbe=probe
            )
            await node.world.create(pod("a", writer, volumes=[{"name": "scratch", "emptyDir": {}}]))
            await node.world.running("a")

            async def get(path: str) -> str:
                async with node.session.get(node.base + path) as response:
                    response.raise_for_status()
                    return await response.text()

            await asyncio.sleep(1.1)
            found = orjson.loads(await get("/stats/summary"))
            assert found["node"]["nodeName"] == "n1"
            assert found["node"]["memory"]["workingSetBytes"] > 0
            assert found["node"]["fs"]["capacityBytes"] > found["node"]["fs"]["availableBytes"] > 0
            assert found["node"]["rlimit"]["curproc"] > 10
            [told] = found["pods"]
            assert told["podRef"]["name"] == "a"
            assert told["containers"][0]["cpu"]["usageCoreNanoSeconds"] > 0
            assert told["cpu"]["usageCoreNanoSeconds"] > 0
            assert told["network"]["name"] == "eth0"
            assert told["process_stats"]["process_count"] >= 2
            [volume] = told["volume"]
            assert volume["name"] == "scratch"
            assert 200_000 <= volume["usedBytes"] < 400_000
            own = told["containers"][0]
            assert own["rootfs"]["usedBytes"] >= 100_000
            assert own["memory"]["rssBytes"] > 0
            assert told["ephemeral-storage"]["usedBytes"] >= 300_000
            before = orjson.loads(await get("/stats/summary?only_cpu_and_memory=true"))
            assert "network" not in before["pods"][0]
            await asyncio.sleep(1.1)
            again = orjson.loads(await get("/stats/summary?only_cpu_and_memory=true"))
            assert 0 <= again["pods"][0]["cpu"]["usageNanoCores"] < 2_000_000_000
            assert again["node"]["cpu"]["usageNanoCores"] > 0
            [listed] = orjson.loads(await get("/pods"))["items"]
            assert listed["status"]["phase"] == "Running"
            [running] = orjson.loads(await get("/runningpods/"))["items"]
            assert running["metadata"]["uid"] == listed["metadata"]["uid"]
            labels = 'container="c",namespace="default",pod="a"'
            assert f"container_cpu_usage_seconds_total{{{labels}}} " in await get(
                "/metrics/resource"
            )
            of_cadvisor = await get("/metrics/cadvisor")
            assert f"container_memory_working_set_bytes{{{labels}," in of_cadvisor
            assert 'container="POD",namespace="default",pod="a"' in of_cadvisor
            assert 'interface="eth0"' in of_cadvisor
            assert "container_fs_usage_bytes" in of_cadvisor
            own_metrics = await get("/metrics")
            assert "process_cpu_seconds_total" in own_metrics
            assert 'kubelet_running_containers{container_state="running"} 1' in own_metrics
            probed = await get("/metrics/probes")
            assert f'prober_probe_total{{{labels},pod_uid="{running["metadata"]["uid"]}",' in probed
            run = f"{node.base}/run/default/a/c"
            async with node.session.post(run, params={"cmd": "echo it runs"}) as response:
                assert await response.text() == "it runs\n"

    in_host(docker_host, scenario())
