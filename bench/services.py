"""Many Services loaded and one endpoint changed, beside a chain per Service: one kernel, one run.

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
from collections.abc import Callable, Collection, Iterator

import uvloop

from bench import harness
from bench import service_layouts as layouts
from meshkube.api import kinds
from meshkube.dataplane import libnft, rules, script
from meshkube.dataplane.nftables import NftKernel
from meshkube.dataplane.proxy import ServiceProxy
from meshkube.dataplane.rules import Change
from meshkube.dataplane.services import Left
from tests.lab.host import lab
from tests.lab.pods import inside
from tests.support.memory_client import MemoryClient

SIZES = (1_000, 10_000, 30_000)
# The peer takes minutes for more.
PEER_SIZES = (1_000, 10_000)
CHANGES = 30
PEER_CHANGES = 5
BAR_RATIO, BAR_MS = 25, 10.0


class TimedKernel(NftKernel):
    """Notes when each change was in the kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.done = asyncio.Event()
        self.at = 0.0

    async def change(self, change: Change, left: Collection[Left] = ()) -> None:
        await super().change(change, left)
        self.at = time.perf_counter()
        self.done.set()


def timed(work: Callable[[], object]) -> float:
    """Seconds."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def peer(nft: libnft.Command, count: int) -> tuple[float, float]:
    """(seconds to load, median milliseconds of one change) through the `nft` command."""
    text = "\n".join(layouts.chain_per_service(count))
    load = timed(lambda: nft.run(text))
    changes = []
    for number in range(PEER_CHANGES):
        old, new = (
            layouts.pods_of(number),
            layouts.moved(number),
        )
        change = "\n".join(layouts.peer_change(number, old, new))
        changes.append(timed(lambda change=change: nft.run(change)) * 1e3)  # type: ignore[misc]
    nft.run("delete table ip peer")
    return load, statistics.median(changes)


def ours_by_command(nft: libnft.Command, count: int) -> tuple[float, float]:
    """The same through the `nft` command: the layout alone, without the library."""
    services = [layouts.service(number) for number in range(count)]
    slices = [layouts.endpoint_slice(number, layouts.pods_of(number)) for number in range(count)]
    wanted = rules.compile(services, slices, layouts.SETTINGS)
    text = script.load(wanted, layouts.SETTINGS)
    load = timed(lambda: nft.run(text))
    changes = []
    for number in range(PEER_CHANGES):
        slices[number] = layouts.endpoint_slice(number, layouts.moved(number))
        now = rules.compile(services, slices, layouts.SETTINGS)
        change = script.change(rules.diff(wanted, now))
        wanted = now
        changes.append(timed(lambda change=change: nft.run(change)) * 1e3)  # type: ignore[misc]
    nft.run(f"delete table {script.TABLE}")
    return load, statistics.median(changes)


async def ours(count: int) -> tuple[float, float, list[float]]:
    """The whole part over its client: (seconds from start until the kernel has every Service,
    of these in the kernel and its script, milliseconds from each watch event to the kernel)."""
    api, kernel, ready = MemoryClient(), TimedKernel(), asyncio.Event()
    api.put(kinds.SERVICE, *(layouts.service(number) for number in range(count)))
    for number in range(count):
        api.put(kinds.ENDPOINT_SLICE, layouts.endpoint_slice(number, layouts.pods_of(number)))
    proxy = ServiceProxy(
        client=api.as_client(),
        kernel=kernel,
        node_name="h1",
        pod_cidrs=[layouts.PODS],
        service_cidrs=[layouts.CLUSTER],
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
            new = layouts.moved(number)
            api.put(kinds.ENDPOINT_SLICE, layouts.endpoint_slice(number, new))
            await kernel.done.wait()
            changes.append((kernel.at - since) * 1e3)
        task.cancel()
    wanted = rules.compile(
        [layouts.service(number) for number in range(count)],
        [layouts.endpoint_slice(number, layouts.pods_of(number)) for number in range(count)],
        layouts.SETTINGS,
    )
    library = libnft.Library()
    load = timed(lambda: library.run(script.load(wanted, layouts.SETTINGS)))
    return start, load, changes


def main() -> int:
    """Prints the table."""
    if os.geteuid() != 0 or harness.absent("nft"):
        print("bench.services: skipped: needs root and nft")
        return 0
    rows: list[list[object]] = []
    with lab(1) as (host,), inside(host.name):
        for count in SIZES:
            rows += size(count)
    harness.print_table(
        f"Services of {layouts.ENDPOINTS} endpoints (bars at 10000: load {BAR_RATIO} x faster,"
        f" a change under {BAR_MS:.0f} ms)",
        ["Services", "layout", "load s", "x", "change ms", "x", "worst ms"],
        rows,
    )
    print("  meshkube's change is from the watch event to the kernel")
    return 0


def size(count: int) -> Iterator[list[object]]:
    """The rows of as many Services."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        start, load, changes = runner.run(ours(count))
    change, worst = statistics.median(changes), max(changes)
    command = libnft.Command()
    command_load, command_change = ours_by_command(command, count)
    if count in PEER_SIZES:
        peer_load, peer_ms = peer(command, count)
        yield [count, "chain per Service, nft", peer_load, 1.0, peer_ms, 1.0, ""]
        yield [count, "meshkube, nft", command_load, peer_load / command_load,
               command_change, peer_ms / command_change, ""]  # fmt: skip
        yield [count, "meshkube", load, peer_load / load, change, peer_ms / change, worst]
    else:
        yield [count, "meshkube, nft", command_load, "", command_change, "", ""]
        yield [count, "meshkube", load, "", change, "", worst]
    yield [count, "meshkube: ready after", start, "", "", "", ""]


if __name__ == "__main__":
    sys.exit(main())
