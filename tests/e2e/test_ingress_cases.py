"""The ingress' fields, annotations, protocols and Events, asked for from outside in each way that
it runs: in the daemon, alone in a process that has nothing but a kubeconfig (over HTTP/1.1 and
HTTP/2), with workers, and against Kubernetes' own API server."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import ssl
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bench.harness import free_port
from meshkube.api import kinds
from meshkube.api.errors import ApiError
from meshkube.client.http import HttpClient
from tests.e2e.ingress_cases import (  # noqa: F401 -- each adds its cases
    fields,
    guards,
    protocols,
    redirects,
    to_pods,
    traffic,
)
from tests.e2e.ingress_cases import objects as made
from tests.e2e.ingress_cases import pods as running_pods
from tests.e2e.ingress_cases.case import CASES
from tests.e2e.ingress_cases.protocols import PROXY, TRUSTED
from tests.e2e.ingress_cases.site import Ports, Site
from tests.support.ingress import client, host_address, ingress, path
from tests.support.kube_apiserver import kube_apiserver, why_no_kube_apiserver
from tests.support.server import MESHKUBE, Server

pytestmark = pytest.mark.timeout(180)

KINDS = {
    each.kind: each
    for each in (
        kinds.INGRESS_CLASS, kinds.SERVICE, kinds.ENDPOINT_SLICE, kinds.SECRET, kinds.INGRESS,
    )
}  # fmt: skip
BARRIER = "barrier.test"


@dataclass(frozen=True, slots=True)
class Ground:
    """What all ways share."""

    directory: Path
    keys: made.Keys
    pods: running_pods.Running


@dataclass(frozen=True, slots=True)
class Way:
    """An ingress that serves the cases, and the API that it follows."""

    ports: Ports
    protocol: str
    kubeconfig: Path


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    directory = tmp_path_factory.mktemp("ingress")
    keys = made.Keys.made(directory)
    with running_pods.running(keys.pod_context()) as pods:
        yield Ground(directory, keys, pods)


def service_range() -> ipaddress.IPv4Network:
    """A range with the pods' address, so that a Service can have it: no kernel rule is needed."""
    return ipaddress.IPv4Network(f"{host_address()}/24", strict=False)


@dataclass(frozen=True, slots=True)
class Listens:
    """Flags of an ingress, and where it then is."""

    ports: Ports
    flags: list[str]

    @classmethod
    def fresh(cls, name: str, ground: Ground, workers: int = 0) -> Listens:
        log = ground.directory / f"{name}-access.log"
        log.touch()
        ports = Ports(
            name, free_port(), free_port(), ground.keys.site.certificate.decode(),
            ground.keys.file, log, max(workers, 1),
        )  # fmt: skip
        flags = [
            f"--ingress-http={ports.http}", f"--ingress-https={ports.https}",
            f"--ingress-trusted-proxies={TRUSTED}/32", f"--ingress-proxy-protocol={PROXY}/32",
            "--ingress-forwarded=on", "--ingress-gzip=on", "--ingress-trace=on",
            "--ingress-access-log=json", f"--ingress-access-log-file={log}",
            f"--ingress-workers={workers}", "--node-ip=192.0.2.7",
        ]  # fmt: skip
        return cls(ports, flags)


@contextlib.contextmanager
def our_api(name: str, ground: Ground, *flags: str) -> Iterator[Path]:
    """The kubeconfig of a `meshkube server` that has all objects of the cases."""
    off = "node,network,dataplane,dns" + ("" if flags else ",ingress")
    directory = ground.directory / name
    directory.mkdir()
    services = service_range()
    ours = (f"--service-cidr={services}", f"--cluster-dns={services[253]}")
    server = Server(name, directory, "sqlite", *flags, *ours, disabled=off)
    with server.running():
        asyncio.run(server.until_ready())
        kubeconfig = directory / "kubeconfig.yaml"
        asyncio.run(fill(kubeconfig, ground))
        yield kubeconfig


@contextlib.contextmanager
def alone(kubeconfig: Path, ground: Ground, listens: Listens) -> Iterator[None]:
    """`meshkube ingress`, with nothing but that file."""
    command = [MESHKUBE, "ingress", f"--kubeconfig={kubeconfig}", *listens.flags]
    log = ground.directory / f"{listens.ports.name}.log"
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


async def fill(kubeconfig: Path, ground: Ground) -> None:
    """Everything that the cases need, in the API; last what says that all before it is known."""
    auth = f"{ground.pods.address}:{ground.pods.ports['auth']}"
    items = [*made.services(ground.pods), *made.secrets(ground.keys, BARRIER)]
    items += [each for case in CASES.values() for each in case.objects(auth)]
    items += [fault for fault, _, _ in made.FAULTS.values()]
    async with HttpClient.from_kubeconfig(kubeconfig) as api:
        with contextlib.suppress(ApiError):
            await api.create(kinds.NAMESPACE, {"metadata": {"name": "shop"}})
        for start in range(0, len(items), 16):
            await asyncio.gather(*(create(api, item) for item in items[start : start + 16]))
        tls = [{"hosts": [BARRIER], "secretName": "site"}]
        await create(api, ingress("barrier", {BARRIER: [path("/", "web")]}, tls=tls))


async def create(api: HttpClient, item: made.Object) -> None:
    """Also where it is there already: a class of ours is."""
    try:
        await api.create(KINDS[item["kind"]], item, item["metadata"].get("namespace"))
    except ApiError as error:
        if error.reason != "AlreadyExists":
            raise


async def until_all_is_known(ports: Ports) -> None:
    async with asyncio.timeout(60):
        while not await _knows(ports):
            await asyncio.sleep(0.05)


async def _knows(ports: Ports) -> bool:
    """Whether the last Ingress is served with its certificate, by each worker as far as chance
    tells."""
    tls = ssl.create_default_context(cadata=ports.authority)
    secure = {"ssl": tls, "server_hostname": BARRIER}
    for turn in range(2 if ports.workers == 1 else 40):
        port, options = (ports.https, secure) if turn % 2 else (ports.http, {})
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            async with client(port, **options) as c:
                got = await c.ask(f"GET / HTTP/1.1\r\nHost: {BARRIER}\r\n\r\n".encode())
                if got.status == 200:
                    continue
        return False
    return True


@pytest.fixture(scope="module")
def api_alone(ground: Ground) -> Iterator[Path]:
    """An API without an ingress of its own."""
    with our_api("api", ground) as kubeconfig:
        yield kubeconfig


@pytest.fixture(
    scope="module", params=["daemon", "alone", "alone by HTTP/2", "2 workers", "kube-apiserver"]
)
def way(request: pytest.FixtureRequest, ground: Ground) -> Iterator[Way]:
    name = request.param
    protocol = "HTTP/2" if "HTTP/2" in name else "HTTP/1.1"
    listens = Listens.fresh(name.replace("/", ""), ground, 2 if "workers" in name else 0)
    with contextlib.ExitStack() as stack:
        if name == "daemon":
            kubeconfig = stack.enter_context(our_api(name, ground, *listens.flags))
        else:
            if name == "kube-apiserver":
                if why := why_no_kube_apiserver():
                    pytest.skip(why)
                directory = ground.directory / name
                kubeconfig = stack.enter_context(kube_apiserver(directory, str(service_range())))
                asyncio.run(fill(kubeconfig, ground))
            else:
                kubeconfig = request.getfixturevalue("api_alone")
            stack.enter_context(alone(kubeconfig, ground, listens))
        asyncio.run(until_all_is_known(listens.ports))
        yield Way(listens.ports, protocol, kubeconfig)


@pytest.fixture(scope="module")
def outcomes(way: Way) -> dict[str, BaseException | None]:
    """All cases at once: what went wrong with each."""
    return asyncio.run(_outcomes(way))


async def _outcomes(way: Way) -> dict[str, BaseException | None]:
    few = asyncio.Semaphore(12)

    async def one(name: str) -> None:
        async with few, asyncio.timeout(40), contextlib.AsyncExitStack() as stack:
            await CASES[name].run(Site(CASES[name].host, way.ports, way.protocol, stack))

    found = await asyncio.gather(*map(one, CASES), return_exceptions=True)
    return dict(zip(CASES, found, strict=True))


@pytest.mark.parametrize("name", CASES)
def test_each_field_annotation_and_protocol(
    outcomes: dict[str, BaseException | None], name: str
) -> None:
    if (error := outcomes[name]) is not None:
        raise error


async def events(kubeconfig: Path) -> list[Any]:
    async with HttpClient.from_kubeconfig(kubeconfig) as api:
        found = await api.list(kinds.EVENT, "shop")
        return [(e["involvedObject"]["name"], e["reason"], e.get("message")) for e in found.items]


def missing(found: list[Any]) -> list[str]:
    def told(name: str) -> bool:
        _, reason, text = made.FAULTS[name]
        return any(e[:2] == (name, reason) and text in e[2] for e in found)

    return [name for name in made.FAULTS if not told(name)]


def test_each_fault_is_named_by_an_event(way: Way) -> None:
    if way.protocol == "HTTP/2" or way.ports.workers > 1:
        pytest.skip("this API has the Events of another ingress")
    deadline = time.monotonic() + 30
    while left := missing(asyncio.run(events(way.kubeconfig))):
        assert time.monotonic() < deadline, left
        time.sleep(0.2)


def test_the_status_of_each_ingress_says_where_it_is_served(way: Way) -> None:
    async def served() -> list[Any]:
        async with HttpClient.from_kubeconfig(way.kubeconfig) as api:
            found = await api.list(kinds.INGRESS, "shop")
            return [
                each["status"]["loadBalancer"].get("ingress")
                for each in found.items
                if each["spec"]["ingressClassName"] == "meshkube"
            ]

    deadline = time.monotonic() + 30
    while {str(each) for each in asyncio.run(served())} != {"[{'ip': '192.0.2.7'}]"}:
        assert time.monotonic() < deadline
        time.sleep(0.2)
