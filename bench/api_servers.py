"""The servers that the API's bench measures, each in processes of its own, all over TLS.

- ours: registry and API server over SQLite, without the daemon's other parts
- plain: aiohttp alone, which answers what was posted from a dict: no API server on it can be below
- kube-apiserver with etcd, where Go can build the one and the other is installed
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import uvloop
from aiohttp import web

from bench import harness
from bench.holds import Holds
from meshkube import credentials, garbage
from meshkube.clock import SystemClock
from meshkube.control.apiserver.registry import Registry
from meshkube.control.apiserver.server import ApiServer
from meshkube.store.sqlite import SqliteStore
from tests.support import etcd

ROOT = Path(__file__).parents[1]


@dataclass
class Target:
    """A server under load."""

    name: str
    url: str
    pids: list[int]
    client: aiohttp.ClientSession
    process: subprocess.Popen[bytes] | None = field(default=None)
    """Ours: says on demand how long its loop was held."""

    def cpu(self) -> float:
        return harness.cpu_seconds(*self.pids)

    def megabytes(self) -> float:
        return sum(map(harness.resident_megabytes, self.pids))

    def hold(self) -> float | None:
        """The longest hold of its loop since the last call, in ms of CPU."""
        if self.process is None:
            return None
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())


def keys(directory: Path) -> credentials.Credentials:
    return credentials.ensure(
        directory / "pki", node_name="bench", addresses=[], domain="cluster.local"
    )


@contextlib.asynccontextmanager
async def session(directory: Path) -> AsyncIterator[aiohttp.ClientSession]:
    """As the admin, whom every server here takes."""
    tls = keys(directory).client_context("admin")
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE  # kube-apiserver signs its own
    connector = aiohttp.TCPConnector(ssl=tls, limit=0)
    async with aiohttp.ClientSession(connector=connector) as opened:
        yield opened


@contextlib.contextmanager
def ours(directory: Path, client: aiohttp.ClientSession) -> Iterator[tuple[Target, Target]]:
    """Our server and plain aiohttp, as soon as both answer."""
    command = [sys.executable, "-m", "bench.api_servers", str(directory)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
    try:
        assert process.stdout is not None
        api, plain = process.stdout.readline().split()
        url = f"https://127.0.0.1:{int(api)}"
        yield (
            Target("meshkube", url, [process.pid], client, process),
            Target("aiohttp", f"https://127.0.0.1:{int(plain)}", [process.pid], client),
        )
    finally:
        process.terminate()
        process.communicate()


def why_no_peer() -> str:
    """Why kube-apiserver is not measured; empty where it can be."""
    if etcd.ETCD is None:
        return "no etcd on this machine"
    command = [str(ROOT / "scripts/need-kube-apiserver")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stderr.strip().splitlines()[-1]


def _built() -> str:
    command = [str(ROOT / "scripts/need-kube-apiserver")]
    return subprocess.check_output(command, text=True).strip()


@contextlib.asynccontextmanager
async def kube_apiserver(directory: Path, client: aiohttp.ClientSession) -> AsyncIterator[Target]:
    """kube-apiserver over one etcd, with our CA and keys, and without the admission that wants
    controllers running."""
    pki = directory / "pki"
    binary = await asyncio.to_thread(_built)
    port = harness.free_port()
    with etcd.etcd() as cluster:
        command = [
            binary,
            f"--etcd-servers={cluster.url.replace('etcd://', 'http://')}",
            "--bind-address=127.0.0.1",
            f"--secure-port={port}",
            f"--cert-dir={directory / 'peer'}",
            f"--client-ca-file={pki / 'ca.crt'}",
            "--authorization-mode=RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={pki / 'admin.crt'}",
            f"--service-account-signing-key-file={pki / 'admin.key'}",
            "--service-cluster-ip-range=10.43.0.0/16",
            "--disable-admission-plugins=ServiceAccount",
            "--endpoint-reconciler-type=none",
        ]
        with (directory / "kube-apiserver.log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)  # noqa: ASYNC220
        try:
            url = f"https://127.0.0.1:{port}"
            await _answers(client, url)
            member = cluster.members[0].process
            assert member is not None
            yield Target("kube-apiserver", url, [process.pid, member.pid], client)
        finally:
            process.terminate()
            process.wait()


async def _answers(client: aiohttp.ClientSession, url: str) -> None:
    """Raises `TimeoutError` where `/readyz` never says ok."""
    async with asyncio.timeout(90):
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                async with client.get(f"{url}/readyz") as answer:
                    if answer.status == 200:
                        return
            await asyncio.sleep(0.2)


async def _serve(directory: Path) -> None:
    """What `ours` starts: prints both ports; for each line that comes, the longest hold."""
    garbage.tame()
    lines = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    tls = keys(directory).server_context("api-server", require_client=False)
    store = await SqliteStore.open(directory / "store.db")
    registry = Registry(store=store, clock=SystemClock())
    api = ApiServer(registry=registry, listen=("127.0.0.1", 0), tls=tls)
    holds = Holds()
    loaded, ready = asyncio.Event(), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(holds.run())
        group.create_task(registry.run(loaded.set))
        await loaded.wait()
        group.create_task(api.run(ready.set))
        await ready.wait()
        print(api.port, await _plain(tls), flush=True)
        while await lines.readline():
            print(holds.take(), flush=True)


async def _plain(tls: ssl.SSLContext) -> int:
    """aiohttp at its barest: what was posted to a path is what a GET of it answers."""
    bodies: dict[str, bytes] = {}
    headers = {"Content-Type": "application/json"}

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        path = request.raw_path
        if request.method in ("PUT", "POST", "PATCH"):
            bodies[path] = await request.read()
            return web.Response(body=bodies[path], status=201, headers=headers)
        if path.startswith("/bytes/"):  # a list is above aiohttp's limit of a body
            found = bodies.setdefault(path, bytes(int(path.rpartition("/")[2])))
        else:
            found = bodies[path]
        return web.Response(body=found, headers=headers)

    runner = web.ServerRunner(web.Server(handle, access_log=None))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    return int(runner.addresses[0][1])


if __name__ == "__main__":
    uvloop.run(_serve(Path(sys.argv[1])))
