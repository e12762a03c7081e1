"""10,000 Services loaded and one endpoint changed, beside a chain per Service: one kernel, one run.

The peer is the layout that kube-proxy uses with nftables, generated here for the same Services: a
verdict map that leads to a chain for each Service port, which picks one of its endpoint chains.
Both run in a network namespace of their own.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator

import uvloop

from bench import harness
from meshkube.api import kinds
from meshkube.api.types import Object
from meshkube.dataplane import libnft, rules, script
from meshkube.dataplane.nftables import NftKernel
from meshkube.dataplane.proxy import ServiceProxy
from meshkube.dataplane.rules import Change
from meshkube.dataplane.services import Settings
from tests.lab.host import lab
from tests.lab.pods import inside
from tests.support.memory_client import MemoryClient

SERVICES = 10_000
ENDPOINTS = 2
CHANGES = 30
PEER_CHANGES = 5
BAR_RATIO, BAR_MS = 25, 10.0
PODS, CLUSTER = "10.32.0.0/12", "10.64.0.0/16"
SETTINGS = Settings(node_name="h1", pod_cidrs=(PODS,), service_cidrs=(CLUSTER,))


def address(number: int) -> str:
    return f"10.64.{number // 250}.{1 + number % 250}"


def pod(number: int) -> str:
    return f"10.{32 + number // 62500}.{number // 250 % 250}.{1 + number % 250}"


def pods_of(number: int) -> list[str]:
    return [pod(number * ENDPOINTS + index) for index in range(ENDPOINTS)]


def service(number: int) -> Object:
    ports = [{"port": 80, "protocol": "TCP"}]
    return {
        "metadata": {"name": f"app{number}", "namespace": "bench"},
        "spec": {"type": "ClusterIP", "clusterIP": address(number), "ports": ports},
    }


def endpoint_slice(number: int, pods: list[str]) -> Object:
    name = f"app{number}"
    return {
        "metadata": {
            "name": f"{name}-1",
            "namespace": "bench",
            "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": "IPv4",
        "ports": [{"port": 8080, "protocol": "TCP"}],
        "endpoints": [{"addresses": [each], "nodeName": "h2"} for each in pods],
    }


def chain_per_service() -> Iterator[str]:
    """The peer's whole table, in one transaction."""
    yield "add table ip peer"
    yield "delete table ip peer"
    yield "table ip peer {"
    yield "map service-ips { type ipv4_addr . inet_proto . inet_service : verdict; }"
    yield "chain mark-for-masquerade { meta mark set meta mark | 0x4000; }"
    yield "chain services { ip daddr . meta l4proto . th dport vmap @service-ips; }"
    yield "chain prerouting { type nat hook prerouting priority -100; jump services; }"
    yield "chain output { type nat hook output priority -100; jump services; }"
    yield "}"
    for number in range(SERVICES):
        for each in pods_of(number):
            yield from endpoint_chain(number, each)
        yield f"add chain ip peer {service_chain(number)}"
        yield from service_rules(number, pods_of(number))
    elements = (f"{address(n)} . tcp . 80 : goto {service_chain(n)}" for n in range(SERVICES))
    yield f"add element ip peer service-ips {{ {', '.join(elements)} }}"


def service_chain(number: int) -> str:
    return f"service-bench/app{number}/tcp/80"


def endpoint_name(number: int, each: str) -> str:
    return f"endpoint-bench/app{number}/tcp/80__{each}/8080"


def endpoint_chain(number: int, each: str) -> Iterator[str]:
    chain = endpoint_name(number, each)
    yield f"add chain ip peer {chain}"
    yield f"add rule ip peer {chain} ip saddr {each} jump mark-for-masquerade"
    yield f"add rule ip peer {chain} meta l4proto tcp dnat to {each}:8080"


def service_rules(number: int, pods: list[str]) -> Iterator[str]:
    chain = service_chain(number)
    yield (
        f"add rule ip peer {chain} ip daddr {address(number)} tcp dport 80"
        f" ip saddr != {PODS} jump mark-for-masquerade"
    )
    picks = (f"{index} : goto {endpoint_name(number, each)}" for index, each in enumerate(pods))
    yield (f"add rule ip peer {chain} numgen random mod {len(pods)} vmap {{ {', '.join(picks)} }}")


def peer_change(number: int, old: list[str], new: list[str]) -> Iterator[str]:
    """One endpoint out, another in: the chain of the Service is written anew."""
    for each in set(new) - set(old):
        yield from endpoint_chain(number, each)
    yield f"flush chain ip peer {service_chain(number)}"
    yield from service_rules(number, new)
    for each in set(old) - set(new):
        yield f"delete chain ip peer {endpoint_name(number, each)}"


class TimedKernel(NftKernel):
    """Notes when each change was in the kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.done = asyncio.Event()
        self.at = 0.0

    async def change(self, change: Change) -> None:
        await super().change(change)
        self.at = time.perf_counter()
        self.done.set()


def timed(work: Callable[[], object]) -> float:
    """Seconds."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def peer(nft: libnft.Command) -> tuple[float, float]:
    """(seconds to load, median milliseconds of one change) through the `nft` command."""
    text = "\n".join(chain_per_service())
    load = timed(lambda: nft.run(text))
    changes = []
    for number in range(PEER_CHANGES):
        old, new = pods_of(number), [*pods_of(number)[1:], pod(120_000 + number)]
        change = "\n".join(peer_change(number, old, new))
        changes.append(timed(lambda change=change: nft.run(change)) * 1e3)  # type: ignore[misc]
    nft.run("delete table ip peer")
    return load, statistics.median(changes)


def ours_by_command(nft: libnft.Command) -> tuple[float, float]:
    """The same through the `nft` command: the layout alone, without the library."""
    services = [service(number) for number in range(SERVICES)]
    slices = [endpoint_slice(number, pods_of(number)) for number in range(SERVICES)]
    wanted = rules.compile(services, slices, SETTINGS)
    text = script.load(wanted, SETTINGS)
    load = timed(lambda: nft.run(text))
    changes = []
    for number in range(PEER_CHANGES):
        slices[number] = endpoint_slice(number, [*pods_of(number)[1:], pod(120_000 + number)])
        now = rules.compile(services, slices, SETTINGS)
        change = script.change(rules.diff(wanted, now))
        wanted = now
        changes.append(timed(lambda change=change: nft.run(change)) * 1e3)  # type: ignore[misc]
    nft.run(f"delete table {script.TABLE}")
    return load, statistics.median(changes)


async def ours() -> tuple[float, float, list[float]]:
    """The whole part over its client: (seconds from start until the kernel has every Service,
    of these in the kernel and its script, milliseconds from each watch event to the kernel)."""
    api, kernel, ready = MemoryClient(), TimedKernel(), asyncio.Event()
    api.put(kinds.SERVICE, *(service(number) for number in range(SERVICES)))
    for number in range(SERVICES):
        api.put(kinds.ENDPOINT_SLICE, endpoint_slice(number, pods_of(number)))
    proxy = ServiceProxy(
        client=api.as_client(),
        kernel=kernel,
        node_name="h1",
        pod_cidrs=[PODS],
        service_cidrs=[CLUSTER],
    )
    async with asyncio.TaskGroup() as group:
        started = time.perf_counter()
        task = group.create_task(proxy.run(ready.set))
        await ready.wait()
        start = time.perf_counter() - started
        changes = []
        for number in range(CHANGES):
            await asyncio.sleep(0.05)
            kernel.done.clear()
            since = time.perf_counter()
            new = [*pods_of(number)[1:], pod(120_000 + number)]
            api.put(kinds.ENDPOINT_SLICE, endpoint_slice(number, new))
            await kernel.done.wait()
            changes.append((kernel.at - since) * 1e3)
        task.cancel()
    wanted = rules.compile(
        [service(number) for number in range(SERVICES)],
        [endpoint_slice(number, pods_of(number)) for number in range(SERVICES)],
        SETTINGS,
    )
    library = libnft.Library()
    load = timed(lambda: library.run(script.load(wanted, SETTINGS)))
    return start, load, changes


def main() -> int:
    """Prints the table."""
    if os.geteuid() != 0 or harness.absent("nft"):
        print("bench.services: skipped: needs root and nft")
        return 0
    with lab(1) as (host,), inside(host.name):
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            start, load, changes = runner.run(ours())
        command = libnft.Command()
        command_load, command_change = ours_by_command(command)
        peer_load, peer_change_ms = peer(command)
    change = statistics.median(changes)
    harness.print_table(
        f"{SERVICES} Services of {ENDPOINTS} endpoints (bars: load {BAR_RATIO} x faster,"
        f" a change under {BAR_MS:.0f} ms)",
        ["layout", "load s", "x", "change ms", "x"],
        [
            ["chain per Service, nft", peer_load, 1.0, peer_change_ms, 1.0],
            ["meshkube, nft", command_load, peer_load / command_load,
             command_change, peer_change_ms / command_change],
            ["meshkube", load, peer_load / load, change, peer_change_ms / change],
        ],
    )  # fmt: skip
    print(f"  meshkube's change is from the watch event to the kernel; worst {max(changes):.2f} ms")
    print(f"  its part was ready {start:.2f} s after its start: list, compile, load")
    return 0


if __name__ == "__main__":
    sys.exit(main())
