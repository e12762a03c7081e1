"""Requests and answers of etcd's v3 API in the JSON of its gateway: pure functions.

Bytes are base64, 64-bit numbers are text, and what is zero or empty is left out (the proto3 JSON
mapping; etcd's documents "gRPC gateway" and "API reference").

A store has its keys under `<prefix>/data`. Each of its writes also puts the key
`<prefix>/meta/head`, so the revision at which that was put is the newest one of this store: others
may share the etcd cluster and move its revision, and never make us wait for an event that does not
come.
"""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import orjson

from meshkube.store.base import Event, Guard, KeyValue, RangeResult, Write

Answer: TypeAlias = dict[str, Any]

RANGE = "kv/range"
TXN = "kv/txn"
PUT = "kv/put"
COMPACT = "kv/compaction"
WATCH = "watch"
AUTHENTICATE = "auth/authenticate"
STATUS = "maintenance/status"


def text64(data: bytes) -> str:
    """Base64 as JSON holds it."""
    return b2a_base64(data, newline=False).decode()


def end_of(prefix: bytes) -> bytes:
    """The first key after all those that begin with `prefix`."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes([kept[-1] + 1])


@dataclass(frozen=True, slots=True)
class Head:
    """What the head key says, and the cluster's revision when it was read."""

    created: int
    """The first revision of this store; 0 when nothing was ever written."""
    revision: int
    cluster: int


class Layout:
    """The keys of one store inside an etcd cluster, and the requests and answers about them."""

    def __init__(self, prefix: str) -> None:
        self.data = f"{prefix}/data".encode()
        self.everything = f"{prefix}/".encode()
        self.compaction = f"{prefix}/meta/compaction".encode()
        self._head = text64(f"{prefix}/meta/head".encode())
        self._cut = len(self.data)
        self._put_head = {"request_put": {"key": self._head}}
        self._read_head = {"request_range": {"key": self._head}}

    def key(self, key: str) -> str:
        return text64(self.data + key.encode())

    # Requests

    def get(self, key: str) -> bytes:
        return orjson.dumps({"key": self.key(key)})

    def head(self) -> bytes:
        return orjson.dumps({"key": self._head})

    def transact(
        self, writes: Sequence[Write], guards: Sequence[Guard], *, head: bool = True
    ) -> bytes:
        """The head says which term wrote, so that etcd's history tells it of each revision."""
        compare: list[Answer] = []
        failure: list[Answer] = []
        success: list[Answer] = []
        for write in writes:
            name = self.key(write.key)
            if write.revision is not None:
                compare.append(_at(name, write.revision, absent=write.value is not None))
            failure.append({"request_range": {"key": name}})
            success.append(_operation(name, write.value))
        first = writes[0]
        if first.value is not None and first.revision:
            # Its create revision is in no other part of the answer.
            success.append({"request_range": {"key": self.key(first.key), "keys_only": True}})
        put_head = [self._put_head] if head else []
        for guard in guards:
            name = self.key(guard.key)
            failure.append({"request_range": {"key": name}})
            if guard.value is None:
                compare.append(_at(name, guard.revision, absent=False))
                continue
            value = text64(guard.value)
            compare.append({"key": name, "target": "VALUE", "result": "EQUAL", "value": value})
            if head:
                put_head = [{"request_put": {"key": self._head, "value": value}}]
        return orjson.dumps(
            {"compare": compare, "success": [*success, *put_head], "failure": failure}
        )

    def range(self, prefix: str, start_after: str, limit: int, revision: int) -> bytes:
        """With the head in the same moment. Where the store has not changed since `revision` the
        present is read: that one is never compacted."""
        low, end = self.data + prefix.encode(), end_of(self.data + prefix.encode())
        if start_after:
            low = max(low, self.data + start_after.encode() + b"\0")
        scope = {"key": text64(low), "range_end": text64(end), "limit": limit}
        # An empty range in this API would be the key `low` alone.
        read = [{"request_range": scope}] if low < end else []
        if not revision:
            return orjson.dumps({"success": [*read, self._read_head]})
        unchanged = {
            "key": self._head,
            "target": "MOD",
            "result": "LESS",
            "mod_revision": revision + 1,
        }
        past = [{"request_range": {**scope, "revision": revision}}] if low < end else []
        return orjson.dumps(
            {
                "compare": [unchanged],
                "success": [*read, self._read_head],
                "failure": [*past, self._read_head],
            }
        )

    def watch(self, start: int) -> bytes:
        """Over all the data: a store's watch learns from the changes elsewhere how far it is."""
        create = {
            "key": text64(self.data),
            "range_end": text64(end_of(self.data)),
            "start_revision": start,
            "prev_kv": True,
            "fragment": True,
        }
        return orjson.dumps({"create_request": create})

    # Answers

    def read_head(self, answer: Answer) -> Head:
        """Of `head`."""
        kvs = answer.get("kvs")
        cluster = revision_of(answer)
        if not kvs:
            return Head(0, 0, cluster)
        return Head(int(kvs[0]["create_revision"]), int(kvs[0]["mod_revision"]), cluster)

    def read_get(self, answer: Answer) -> KeyValue | None:
        """Of `get`, and of the failure of a write: what the key holds."""
        kvs = answer.get("kvs")
        return self._pair(kvs[0]) if kvs else None

    def read_range(self, answer: Answer) -> tuple[RangeResult, Head]:
        """Of `range`; its `revision` is that of the head."""
        *read, head = answer["responses"]
        found = self.read_head(
            {"header": answer["header"], "kvs": head["response_range"].get("kvs")}
        )
        if not read:
            return RangeResult((), found.revision, 0), found
        page = read[0]["response_range"]
        kvs = tuple(self._pair(kv) for kv in page.get("kvs") or ())
        remaining = int(page.get("count", 0)) - len(kvs)
        return RangeResult(kvs, found.revision, remaining), found

    def read_first(self, first: Write, answer: Answer) -> KeyValue:
        """Of `transact` that succeeded: what became of the first write."""
        revision = revision_of(answer)
        responses = answer["responses"]
        if first.value is None:
            (last,) = responses[0]["response_delete_range"]["prev_kvs"]
            value = a2b_base64(last.get("value", ""))
            return KeyValue(first.key, value, int(last["create_revision"]), revision)
        created = revision
        if first.revision:
            (found,) = responses[-2]["response_range"]["kvs"]
            created = int(found["create_revision"])
        return KeyValue(first.key, first.value, created, revision)

    def read_refused(self, answer: Answer) -> list[KeyValue | None]:
        """Of `transact` that was refused: what the key of each write holds, then of each guard."""
        return [self.read_get(one["response_range"]) for one in answer["responses"]]

    def read_event(self, event: Answer) -> Event | None:
        """None where what came before is missing: it was compacted in the meantime."""
        kv = event["kv"]
        before = event.get("prev_kv")
        previous = self._pair(before) if before else None
        if event.get("type") == "DELETE":
            if previous is None:
                return None
            revision = int(kv["mod_revision"])
            last = KeyValue(previous.key, previous.value, previous.create_revision, revision)
            return Event(last, True, previous)
        now = self._pair(kv)
        if previous is None and now.create_revision != now.mod_revision:
            return None
        return Event(now, False, previous)

    def _pair(self, kv: Answer) -> KeyValue:
        return KeyValue(
            a2b_base64(kv["key"])[self._cut :].decode(),
            a2b_base64(kv.get("value", "")),
            int(kv["create_revision"]),
            int(kv["mod_revision"]),
        )


def revision_of(answer: Answer) -> int:
    """The cluster's revision when it answered; that of the write where it was one."""
    return int(answer["header"].get("revision", 0))


def _operation(name: str, value: bytes | None) -> Answer:
    if value is None:
        return {"request_delete_range": {"key": name, "prev_kv": True}}
    return {"request_put": {"key": name, "value": text64(value)}}


def _at(name: str, revision: int, *, absent: bool) -> Answer:
    """The key is at that revision; `absent`: 0 means that it is not there."""
    if not revision and absent:
        return {"key": name, "target": "CREATE", "result": "EQUAL", "create_revision": 0}
    # A key that is absent is at revision 0, and not to be written.
    at = revision if revision > 0 else -1
    return {"key": name, "target": "MOD", "result": "EQUAL", "mod_revision": at}
