"""Two servers on one etcd: what is unique stays so, whichever of them is asked."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from meshkube.api import kinds, meta
from meshkube.api.errors import ApiError
from meshkube.api.types import Object
from meshkube.control.apiserver import claims
from meshkube.control.apiserver.claiming import repair
from meshkube.control.apiserver.local import LocalClient
from meshkube.control.apiserver.options import WriteOptions
from meshkube.control.apiserver.registry import Registry
from meshkube.control.fence import Fence
from meshkube.store import Store
from meshkube.store.etcd import EtcdStore
from meshkube.store.sqlite import SqliteStore
from tests.support.api import running_registry

SMALL = {
    "service_cidr": "10.43.0.0/28",
    "cluster_dns": "10.43.0.10",
    "node_ports": range(30000, 30012),
}
"""14 addresses, two of them taken from the start, and 12 ports."""


def service(name: str, type: str = "ClusterIP", **spec: Any) -> Object:
    spec = {"type": type, "ports": [{"port": 80}], "selector": {"app": name}, **spec}
    return {"metadata": {"name": name, "namespace": "default"}, "spec": spec}


@contextlib.asynccontextmanager
async def two(tmp_path: Path, url: str, **settings: Any) -> AsyncIterator[list[Registry]]:
    async with (
        running_registry(tmp_path, etcd=url, **settings) as one,
        running_registry(tmp_path, etcd=url, **settings) as other,
    ):
        yield [one, other]


@pytest.fixture
async def registries(tmp_path: Path, etcd_url: str) -> AsyncIterator[list[Registry]]:
    async with two(tmp_path, etcd_url, **SMALL) as registries:
        yield registries


@pytest.fixture
def clients(registries: list[Registry]) -> list[LocalClient]:
    return [LocalClient(registry) for registry in registries]


async def create_all(clients: list[LocalClient], services: list[Object]) -> list[Any]:
    """Side by side, in turn through each server."""
    return await asyncio.gather(
        *(
            clients[number % len(clients)].create(kinds.SERVICE, one)
            for number, one in enumerate(services)
        ),
        return_exceptions=True,
    )


async def test_addresses_are_handed_out_once_until_there_are_none(
    clients: list[LocalClient],
) -> None:
    results = await create_all(clients, [service(f"s{n}") for n in range(14)])
    made = [one for one in results if not isinstance(one, BaseException)]
    refused = [one for one in results if isinstance(one, ApiError)]
    assert len({one["spec"]["clusterIP"] for one in made}) == len(made) == 12
    assert [error.message for error in refused] == [
        "Internal error occurred: failed to allocate a serviceIP: range is full"
    ] * 2


async def test_of_those_who_ask_for_one_address_exactly_one_gets_it(
    clients: list[LocalClient],
) -> None:
    wanted = [service(f"s{n}", clusterIP="10.43.0.7") for n in range(8)]
    results = await create_all(clients, wanted)
    refused = [one for one in results if isinstance(one, ApiError)]
    assert len(refused) == 7
    for error in refused:
        assert error.code == 422
        assert error.message.endswith(
            'spec.clusterIPs: Invalid value: ["10.43.0.7"]: failed to allocate IP 10.43.0.7:'
            " provided IP is already allocated"
        )


async def test_node_ports_and_health_check_ports_are_handed_out_once(
    clients: list[LocalClient],
) -> None:
    wanted = [service(f"s{n}", "LoadBalancer", externalTrafficPolicy="Local") for n in range(6)]
    made = await create_all(clients, wanted)
    ports = [one["spec"]["ports"][0]["nodePort"] for one in made]
    ports += [one["spec"]["healthCheckNodePort"] for one in made]
    assert sorted(ports) == list(range(30000, 30012))
    (refused,) = await create_all(clients, [service("more", "NodePort")])
    assert "range is full" in str(refused)


async def test_one_asked_for_port_goes_to_one_also_by_update(clients: list[LocalClient]) -> None:
    await create_all(clients, [service(f"s{n}") for n in range(6)])
    spec = {"type": "NodePort", "ports": [{"port": 80, "nodePort": 30005}]}
    results = await asyncio.gather(
        *(
            clients[n % 2].patch(kinds.SERVICE, f"s{n}", {"spec": spec}, "default")
            for n in range(6)
        ),
        return_exceptions=True,
    )
    refused = [one for one in results if isinstance(one, ApiError)]
    assert len(refused) == 5
    assert {error.code for error in refused} == {422}
    assert all("provided port is already allocated" in error.message for error in refused)


async def test_what_one_server_frees_another_may_hand_out(clients: list[LocalClient]) -> None:
    one, other = clients
    for turn in range(4):
        wanted = service(f"s{turn}", "NodePort", clusterIP="10.43.0.7")
        wanted["spec"]["ports"][0]["nodePort"] = 30003
        await one.create(kinds.SERVICE, wanted)
        if turn % 2:
            spec = {"type": "ExternalName", "externalName": "a.b", "clusterIP": None}
            await other.patch(kinds.SERVICE, f"s{turn}", {"spec": spec}, "default")
        else:
            await other.delete(kinds.SERVICE, f"s{turn}", "default")
        one, other = other, one


async def test_the_same_name_twice_is_told_as_that(clients: list[LocalClient]) -> None:
    wanted = service("s", clusterIP="10.43.0.7")
    results = await create_all(clients, [meta.copy(wanted) for _ in range(4)])
    refused = [one for one in results if isinstance(one, ApiError)]
    assert [error.reason for error in refused] == ["AlreadyExists"] * 3


async def test_a_dry_run_takes_nothing(
    registries: list[Registry], clients: list[LocalClient]
) -> None:
    wanted = service("s", clusterIP="10.43.0.7")
    await registries[0].create(
        kinds.SERVICE, meta.copy(wanted), "default", WriteOptions(dry_run=True)
    )
    await clients[1].create(kinds.SERVICE, wanted)


# Claims after accidents


@pytest.fixture(params=["sqlite", "etcd"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """What lies under `registry`."""
    opened: Store
    if request.param == "etcd":
        opened = await EtcdStore.open(request.getfixturevalue("etcd_url"))
    else:
        opened = await SqliteStore.open(tmp_path / "store.db")
    yield opened
    await opened.aclose()


async def claimed(store: Store) -> dict[str, str]:
    """Owner by claim."""
    kvs = (await store.range(claims.ROOT)).kvs
    return {kv.key[len(claims.ROOT) :]: "/".join(claims.owner_of(kv.value)) for kv in kvs}


async def test_claims_come_and_go_with_their_services(tmp_path: Path, store: Store) -> None:
    async with running_registry(tmp_path, store=store, **SMALL) as registry:
        client = LocalClient(registry)
        before = await claimed(store)
        assert before == {
            "address/10.43.0.1": "default/kubernetes",
            "address/10.43.0.10": "kube-system/kube-dns",
        }
        made = await client.create(kinds.SERVICE, service("s", "NodePort"))
        port, address = made["spec"]["ports"][0]["nodePort"], made["spec"]["clusterIP"]
        mine = {f"address/{address}": "default/s", f"port/{port}": "default/s"}
        assert await claimed(store) == before | mine
        await client.patch(kinds.SERVICE, "s", {"spec": {"type": "ClusterIP"}}, "default")
        assert await claimed(store) == before | {f"address/{address}": "default/s"}
        await client.delete(kinds.SERVICE, "s", "default")
        assert await claimed(store) == before


async def test_a_claim_of_nobody_is_taken_over(tmp_path: Path, store: Store) -> None:
    async with running_registry(tmp_path, store=store, **SMALL) as registry:
        client = LocalClient(registry)
        await store.create("/claims/address/10.43.0.7", b"default/gone/1")
        await store.create("/claims/port/30004", b"garbage")
        wanted = service("s", "NodePort", clusterIP="10.43.0.7")
        wanted["spec"]["ports"][0]["nodePort"] = 30004
        await client.create(kinds.SERVICE, wanted)
        found = await claimed(store)
        assert found["address/10.43.0.7"] == found["port/30004"] == "default/s"


async def test_claims_are_repaired(tmp_path: Path, store: Store) -> None:
    async with running_registry(tmp_path, store=store, **SMALL) as registry:
        client = LocalClient(registry)
        await client.create(kinds.SERVICE, service("s", "NodePort"))
        due = await claimed(store)
        for kv in (await store.range(claims.ROOT)).kvs:
            await store.delete(kv.key, kv.mod_revision)
        await store.create("/claims/port/30999", b"default/s/other")
        assert await repair(store, registry.feed) == len(due) + 1
        assert await claimed(store) == due
        assert await repair(store, registry.feed) == 0


# Quotas


async def test_a_quota_holds_across_servers_and_is_charged_with_what_was_made(
    clients: list[LocalClient],
) -> None:
    quota = {
        "metadata": {"name": "q", "namespace": "default"},
        "spec": {"hard": {"configmaps": "7"}},
    }
    made = await clients[0].create(kinds.RESOURCE_QUOTA, quota)
    status = {"hard": {"configmaps": "7"}, "used": {"configmaps": "0"}}
    await clients[0].update(kinds.RESOURCE_QUOTA, {**made, "status": status}, subresource="status")
    names = [f"c{n % 10}" for n in range(20)]
    results = await asyncio.gather(
        *(
            clients[n // 10].create(
                kinds.CONFIG_MAP, {"metadata": {"name": name, "namespace": "default"}}
            )
            for n, name in enumerate(names)
        ),
        return_exceptions=True,
    )
    made_names = [meta.name(one) for one in results if not isinstance(one, BaseException)]
    assert len(made_names) == 7
    reasons = {one.reason for one in results if isinstance(one, ApiError)}
    assert reasons <= {"AlreadyExists", "Forbidden"}
    found = await clients[1].get(kinds.RESOURCE_QUOTA, "q", "default")
    assert found["status"]["used"] == {"configmaps": "7"}


# Terms


async def take(client: LocalClient, holder: str) -> Object:
    """Writes the Lease as an election does."""
    lease = {
        "metadata": {"name": "meshkube", "namespace": "kube-system"},
        "spec": {"holderIdentity": holder, "leaseTransitions": 0},
    }
    try:
        found = await client.get(kinds.LEASE, "meshkube", "kube-system")
    except ApiError:
        return await client.create(kinds.LEASE, lease)
    transitions = found["spec"]["leaseTransitions"] + 1
    spec = {"holderIdentity": holder, "leaseTransitions": transitions}
    return await client.update(kinds.LEASE, {**found, "spec": spec})


async def test_a_leader_that_was_followed_by_another_one_writes_nothing(
    registries: list[Registry], clients: list[LocalClient]
) -> None:
    fences = [Fence(), Fence()]
    leading = [
        LocalClient(registry, fence=fence)
        for registry, fence in zip(registries, fences, strict=True)
    ]
    with pytest.raises(ApiError, match="does not lead") as none:
        await leading[0].create(kinds.SERVICE, service("s"))
    assert none.value.code == 503
    fences[0].hold(await take(clients[0], "a"))
    await leading[0].create(kinds.SERVICE, service("s"))
    fences[1].hold(await take(clients[1], "b"))
    for late in (
        leading[0].create(kinds.SERVICE, service("t")),
        leading[0].patch(kinds.SERVICE, "s", {"metadata": {"labels": {"a": "b"}}}, "default"),
        leading[0].delete(kinds.SERVICE, "s", "default"),
    ):
        with pytest.raises(ApiError, match="another server leads") as refused:
            await late
        assert refused.value.code == 503
    await leading[1].delete(kinds.SERVICE, "s", "default")
    await clients[0].delete(kinds.LEASE, "meshkube", "kube-system")
    with pytest.raises(ApiError, match="another server leads"):
        await leading[1].create(kinds.SERVICE, service("t"))


async def test_a_renewal_of_the_lease_ends_no_term(
    registries: list[Registry], clients: list[LocalClient]
) -> None:
    fence = Fence()
    lease = await take(clients[0], "a")
    fence.hold(lease)
    renewed = {**lease, "spec": {**lease["spec"], "renewTime": "2026-01-01T00:00:00.000000Z"}}
    await clients[0].update(kinds.LEASE, renewed)
    await LocalClient(registries[1], fence=fence).create(kinds.SERVICE, service("s"))


# What changes while a write is on its way


class Held:
    """A store whose transactions wait."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.goes = asyncio.Event()
        self.goes.set()
        self.waits = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def transact(self, writes: Any, guards: Any = ()) -> Any:
        self.waits.set()
        await self.goes.wait()
        return await self._store.transact(writes, guards)


@contextlib.asynccontextmanager
async def on_its_way(
    tmp_path: Path, url: str, client: LocalClient
) -> AsyncIterator[asyncio.Task[Object]]:
    """A create in the namespace `space` that reaches the store after what the block does."""
    await client.create(kinds.NAMESPACE, {"metadata": {"name": "space"}})
    store = await EtcdStore.open(url)
    held = Held(store)
    async with running_registry(tmp_path, store=held, **SMALL) as registry:  # type: ignore[arg-type]
        held.goes.clear()
        held.waits.clear()
        made = {"metadata": {"name": "late", "namespace": "space", "labels": {"a": "b"}}}
        task = asyncio.ensure_future(LocalClient(registry).create(kinds.CONFIG_MAP, made))
        await held.waits.wait()
        yield task
        held.goes.set()
        await asyncio.wait([task])
    await store.aclose()


async def test_nothing_is_made_in_a_namespace_that_is_deleted_meanwhile(
    tmp_path: Path, etcd_url: str, clients: list[LocalClient]
) -> None:
    async with on_its_way(tmp_path, etcd_url, clients[0]) as late:
        await clients[0].delete(kinds.NAMESPACE, "space")
    with pytest.raises(ApiError, match="because it is being terminated"):
        await late
    assert (await clients[1].list(kinds.CONFIG_MAP, "space")).items == []


async def test_a_namespace_that_is_only_changed_meanwhile_is_no_reason(
    tmp_path: Path, etcd_url: str, clients: list[LocalClient]
) -> None:
    async with on_its_way(tmp_path, etcd_url, clients[0]) as late:
        await clients[0].patch(kinds.NAMESPACE, "space", {"metadata": {"labels": {"x": "y"}}})
    made = await late
    assert meta.labels(made) == {"a": "b"}
    assert len(made["metadata"]["managedFields"]) == 1
