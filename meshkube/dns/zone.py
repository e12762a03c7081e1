"""The zone in memory: names to records, kept by owner so that one Service changes alone. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from meshkube.dns import names
from meshkube.dns.podnames import PodNames
from meshkube.dns.records import Record

RecordSets = dict[int, list[bytes]]
"""Type -> the data of each record, in order, without repeats."""


class Zone:
    """All records of the cluster, and which names exist.

    A name exists when it or any name below it has a record: that is the difference between NODATA
    and NXDOMAIN (RFC 8020).
    """

    def __init__(self, serial: int = 1, pods: PodNames | None = None) -> None:
        self.serial = serial
        self._pods = pods
        self._by_owner: dict[str, list[Record]] = {}
        # Two owners may give one record (two headless Services over the same pod: one PTR name).
        self._records: dict[bytes, dict[tuple[int, bytes], int]] = {}
        self._below: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._records)

    def find(self, name: bytes) -> RecordSets | None:
        """The records at a name in lower-case wire form: empty where it only exists because of
        names below it, None where it does not exist."""
        records = self._records.get(name)
        if records is None:
            if self._below.get(name):
                return {}
            return None if self._pods is None else self._pods.find(name)
        sets: RecordSets = {}
        for kind, data in records:
            sets.setdefault(kind, []).append(data)
        return sets

    def replace(self, owner: str, records: Iterable[Record]) -> set[bytes]:
        """Gives `owner` exactly these records. Returns every name for which an answer may now
        differ: those of changed records, and those above a name that came or went."""
        new = list(dict.fromkeys(records))
        old = self._by_owner.get(owner, [])
        if new == old:
            return set()
        if new:
            self._by_owner[owner] = new
        else:
            del self._by_owner[owner]
        changed: set[bytes] = set()
        # Order matters too: it is the order in which addresses are given.
        for record in old:
            self._remove(record, changed)
        for record in new:
            self._add(record, changed)
        self.serial += 1
        return changed

    def _add(self, record: Record, changed: set[bytes]) -> None:
        changed.add(record.name)
        at_name = self._records.get(record.name)
        if at_name is None:
            at_name = self._records[record.name] = {}
            for parent in names.parents(record.name):
                self._below[parent] = self._below.get(parent, 0) + 1
                changed.add(parent)
        key = (record.type, record.data)
        at_name[key] = at_name.get(key, 0) + 1

    def _remove(self, record: Record, changed: set[bytes]) -> None:
        changed.add(record.name)
        at_name = self._records[record.name]
        key = (record.type, record.data)
        at_name[key] -= 1
        if at_name[key]:
            return
        del at_name[key]
        if at_name:
            return
        del self._records[record.name]
        for parent in names.parents(record.name):
            self._below[parent] -= 1
            if not self._below[parent]:
                del self._below[parent]
            changed.add(parent)
