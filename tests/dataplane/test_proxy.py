"""The proxy between an API and a kernel: what it asks of the kernel, and when."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Mapping
from pathlib import Path

import pytest

from meshkube.api import kinds
from meshkube.api.types import Object
from meshkube.client.base import Client
from meshkube.dataplane import rules
from meshkube.dataplane.kernel import Kernel, KernelError
from meshkube.dataplane.proxy import ServiceProxy
from meshkube.dataplane.rules import Change, Ruleset
from meshkube.dataplane.services import Left, Settings, Stale
from tests.dataplane.world import ADDRESS, service, slice_of
from tests.support.api import running_api
from tests.support.memory_client import MemoryClient


class ModelKernel:
    """Holds rules as the kernel would, and counts transactions."""

    def __init__(self) -> None:
        self.held: Ruleset = {}
        self.loads = self.changes = 0
        self.refusals = 0
        self.forgotten: list[Stale] = []
        self.released: list[Left] = []
        self.open_error = ""
        self.closed = False
        self.lacks: dict[str, str] = {}

    @property
    def cannot(self) -> Mapping[str, str]:
        return self.lacks

    @property
    def mode(self) -> str:
        return "model"

    @property
    def limits(self) -> str:
        return ""

    async def open(self, settings: Settings, node_ip: str) -> None:
        if self.open_error:
            raise KernelError(self.open_error)

    async def load(self, ruleset: Ruleset) -> None:
        self._refuse()
        self.loads += 1
        self.held = {name: dict(elements) for name, elements in ruleset.items()}

    async def change(self, change: Change, left: Collection[Left] = ()) -> None:
        await asyncio.sleep(0.001)
        self._refuse()
        self.changes += 1
        self.held = rules.apply(change, self.held)

    async def forget(self, stale: Collection[Stale]) -> int:
        self.forgotten += stale
        return len(stale)

    async def release(self, left: Collection[Left]) -> int:
        self.released += left
        return len(left)

    async def check(self, ruleset: Ruleset) -> list[str]:
        return []

    async def close(self) -> None:
        self.closed = True

    def _refuse(self) -> None:
        if self.refusals:
            self.refusals -= 1
            raise KernelError("not now")


def proxy_of(client: Client, kernel: Kernel) -> ServiceProxy:
    return ServiceProxy(
        client=client,
        kernel=kernel,
        node_name="h1",
        node_ip="192.0.2.1",
        pod_cidrs=["10.42.0.0/16"],
        service_cidrs=["10.43.0.0/16"],
        skip={"10.43.0.10"},
    )


@contextlib.asynccontextmanager
async def running(client: Client, kernel: Kernel) -> AsyncIterator[ServiceProxy]:
    ready = asyncio.Event()
    proxy = proxy_of(client, kernel)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(proxy.run(ready.set))
        async with asyncio.timeout(10):
            await ready.wait()
        yield proxy
        task.cancel()


async def until(condition: object) -> None:
    assert callable(condition)
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.fixture
def api() -> MemoryClient:
    return MemoryClient()


@pytest.fixture
def kernel() -> ModelKernel:
    return ModelKernel()


def backends(kernel: ModelKernel) -> set[str]:
    found: set[str] = set()
    for name, elements in kernel.held.items():
        if rules.is_class(name) and name.startswith("services"):
            found |= {value.split(" . ")[0] for value in elements.values()}
    return found


async def test_all_services_are_loaded_at_once_before_it_is_ready(
    api: MemoryClient, kernel: ModelKernel
) -> None:
    for number in range(300):
        api.put(kinds.SERVICE, service(f"s{number}", f"10.43.1.{number % 250}", 30000 + number))
    async with running(api.as_client(), kernel):
        assert (kernel.loads, kernel.changes) == (1, 0)
        assert len(kernel.held["refused_nodeports4"]) == 600
    assert kernel.closed


async def test_endpoints_come_and_go_as_changes(api: MemoryClient, kernel: ModelKernel) -> None:
    api.put(kinds.SERVICE, service())
    async with running(api.as_client(), kernel):
        assert f"{ADDRESS} . 6 . 80" in kernel.held["refused_services4"]
        for addresses in (["10.42.0.2"], ["10.42.0.3", "10.42.0.4"], []):
            api.put(kinds.ENDPOINT_SLICE, slice_of(*addresses))
            await until(lambda addresses=addresses: backends(kernel) == set(addresses))
        api.delete(kinds.SERVICE, "shop/web")
        await until(lambda: not kernel.held)
        assert (kernel.loads, kernel.changes) == (1, 4)


async def test_a_burst_is_few_transactions(api: MemoryClient, kernel: ModelKernel) -> None:
    async with running(api.as_client(), kernel):
        for number in range(500):
            api.put(kinds.SERVICE, service(f"s{number}", f"10.43.1.{number % 250}", 30000 + number))
            if number % 50 == 0:
                await asyncio.sleep(0)
        await until(lambda: len(kernel.held.get("refused_nodeports4", ())) == 1000)
        assert kernel.changes <= 4


async def test_what_does_not_touch_traffic_is_no_transaction(
    api: MemoryClient, kernel: ModelKernel
) -> None:
    api.put(kinds.SERVICE, service())
    async with running(api.as_client(), kernel):
        relabelled = service()
        relabelled["metadata"]["labels"] = {"a": "b"}
        api.put(kinds.SERVICE, relabelled)
        await asyncio.sleep(0.05)
        assert kernel.changes == 0


async def test_a_refused_change_loads_everything(api: MemoryClient, kernel: ModelKernel) -> None:
    api.put(kinds.SERVICE, service())
    async with running(api.as_client(), kernel):
        kernel.refusals = 1
        api.put(kinds.ENDPOINT_SLICE, slice_of("10.42.0.2"))
        await until(lambda: backends(kernel) == {"10.42.0.2"})
        assert (kernel.loads, kernel.changes) == (2, 0)


async def test_a_service_that_makes_no_sense_harms_no_other(
    api: MemoryClient, kernel: ModelKernel
) -> None:
    broken: Object = {"metadata": {"name": "bad", "namespace": "shop"}, "spec": {"ports": [7]}}
    api.put(kinds.SERVICE, broken, service())
    api.put(kinds.ENDPOINT_SLICE, slice_of("10.42.0.2"))
    async with running(api.as_client(), kernel):
        assert backends(kernel) == {"10.42.0.2"}


async def test_udp_flows_are_forgotten_when_their_backend_leaves(
    api: MemoryClient, kernel: ModelKernel
) -> None:
    api.put(kinds.SERVICE, service())
    api.put(kinds.ENDPOINT_SLICE, slice_of("10.42.0.2", "10.42.0.3"))
    async with running(api.as_client(), kernel):
        assert kernel.forgotten == []
        api.put(kinds.ENDPOINT_SLICE, slice_of("10.42.0.3"))
        await until(lambda: kernel.forgotten)
        assert {stale.backend for stale in kernel.forgotten} == {"10.42.0.2"}
        assert {stale.front.protocol for stale in kernel.forgotten} == {17}


async def test_a_protocol_that_the_node_does_not_carry_is_said_on_the_service(
    api: MemoryClient, kernel: ModelKernel
) -> None:
    kernel.lacks = {"SCTP": "this kernel does not track its connections"}
    wanted = service()
    wanted["spec"]["ports"].append({"name": "sctp", "protocol": "SCTP", "port": 90})
    api.put(kinds.SERVICE, wanted, service("plain", "10.43.0.81", 30081))
    async with running(api.as_client(), kernel):
        await until(lambda: api.held(kinds.EVENT))
        (event,) = api.held(kinds.EVENT)
        assert (event["reason"], event["involvedObject"]["name"]) == ("ProtocolNotServed", "web")
        assert "does not carry SCTP" in event["message"]


async def test_a_host_that_cannot_have_rules_is_a_failure_that_says_why(
    api: MemoryClient, kernel: ModelKernel
) -> None:
    kernel.open_error = "Operation not permitted (you must be root)"
    with pytest.raises(KernelError, match="must be root"):
        await proxy_of(api.as_client(), kernel).run(lambda: None)
    assert kernel.closed


async def test_it_follows_a_real_api(kernel: ModelKernel, tmp_path: Path) -> None:
    async with running_api(tmp_path) as client, running(client, kernel):
        wanted = service(address="10.43.0.80")
        await client.create(
            kinds.NAMESPACE,
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}},
        )
        await client.create(kinds.SERVICE, {"apiVersion": "v1", "kind": "Service", **wanted})
        piece = {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice"}
        await client.create(kinds.ENDPOINT_SLICE, {**piece, **slice_of("10.42.0.2")})
        await until(lambda: "10.42.0.2" in backends(kernel))
        await client.delete(kinds.SERVICE, "web", "shop")
        await until(lambda: "10.42.0.2" not in backends(kernel))
