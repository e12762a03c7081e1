"""Did two leaders ever write? Told from etcd's own history, which no server of ours can embellish.

    python -m tests.support.leaders etcd://10.0.0.1:2379

prints one JSON object, and fails where a write of a leader lies outside of its term. Each write of
a leader names its term in the value of the store's head key, at its own revision. It has to be the
term that the fence key had then, of the holder that the Lease itself names; and no term comes back.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from binascii import a2b_base64
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from meshkube.store import etcd_options
from meshkube.store import etcd_wire as wire
from meshkube.store.etcd_client import EtcdClient
from meshkube.store.etcd_watch import oldest_revision
from meshkube.store.etcd_wire import Layout

HEAD = "/meta/head"
FENCE = "/data/fences/kube-system/meshkube"
LEASE = "/data/registry/coordination.k8s.io/leases/kube-system/meshkube"
SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Put:
    """One change in etcd: `key` without the store's prefix, `value` None for a deletion."""

    revision: int
    key: str
    value: bytes | None


@dataclass
class Report:
    """What a history says."""

    terms: list[str] = field(default_factory=list)
    """In order; only those in which something was written."""
    leader_writes: int = 0
    writes: int = 0
    violations: list[str] = field(default_factory=list)


def check(history: Iterable[Put]) -> Report:
    """`history` in order, from a moment before the first term."""
    report = Report()
    fence, holder = "", ""
    for put in history:
        text = (put.value or b"").decode(errors="replace")
        if put.key == HEAD:
            report.writes += 1
            if text:
                report.leader_writes += 1
                _judge(report, put.revision, text, fence, holder)
        elif put.key == FENCE:
            fence = text
        elif put.key == LEASE:
            holder = _holder(text)
    return report


def _judge(report: Report, revision: int, term: str, fence: str, holder: str) -> None:
    if term != fence:
        report.violations.append(f"{revision}: {term!r} wrote in the term {fence!r}")
    if term.rpartition(" ")[2] != holder:
        report.violations.append(f"{revision}: {term!r} wrote while {holder!r} held the Lease")
    if report.terms[-1:] != [term]:
        if term in report.terms:
            report.violations.append(f"{revision}: {term!r} wrote again after another one")
        report.terms.append(term)


def _holder(text: str) -> str:
    return str((json.loads(text or "{}").get("spec") or {}).get("holderIdentity") or "")


async def history(url: str) -> list[Put]:
    """All that etcd still has, up to now; what was compacted as the state it left. The head comes
    last in a revision, so what is written there is judged by a Lease written with it."""
    options = etcd_options.parse(url)
    client = EtcdClient(options, None)
    layout = Layout(options.prefix)
    try:
        async with asyncio.timeout(SECONDS):
            oldest = await oldest_revision(client, layout)
            found = await _state(client, layout, oldest) if oldest else []
            answer = await client.read(wire.RANGE, layout.head())
            newest = int(answer["kvs"][0]["mod_revision"])
            return found + await _changes(client, layout, oldest + 1, newest)
    finally:
        await client.aclose()


async def _state(client: EtcdClient, layout: Layout, revision: int) -> list[Put]:
    found = []
    for name in (FENCE, LEASE):
        key = wire.text64(layout.everything[:-1] + name.encode())
        body = json.dumps({"key": key, "revision": revision}).encode()
        kvs = (await client.read(wire.RANGE, body)).get("kvs", ())
        found += [Put(revision, name, a2b_base64(kv.get("value", ""))) for kv in kvs]
    return found


async def _changes(client: EtcdClient, layout: Layout, start: int, newest: int) -> list[Put]:
    create = {
        "key": wire.text64(layout.everything),
        "range_end": wire.text64(wire.end_of(layout.everything)),
        "start_revision": start,
    }
    found: list[Put] = []
    async with client.stream(wire.WATCH, json.dumps({"create_request": create}).encode()) as stream:
        while not any(put.revision >= newest and put.key == HEAD for put in found[-1000:]):
            for result in await stream.read():
                assert not result.get("canceled"), "it was compacted meanwhile: run it again"
                found += _puts(result, len(layout.everything) - 1)
    return found


def _puts(result: Any, cut: int) -> Iterator[Put]:
    for event in result.get("events") or ():
        kv = event["kv"]
        gone = event.get("type") == "DELETE"
        value = None if gone else a2b_base64(kv.get("value", ""))
        yield Put(int(kv["mod_revision"]), a2b_base64(kv["key"])[cut:].decode(), value)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, add_help=True)
    parser.add_argument("url")
    url = parser.parse_args().url
    report = check(asyncio.run(history(url)))
    sys.stdout.write(json.dumps(asdict(report)) + "\n")
    return 1 if report.violations or not report.leader_writes else 0


if __name__ == "__main__":
    sys.exit(main())
