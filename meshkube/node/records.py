"""What the runtime has, by pod: kept current from its changes and from lists."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from meshkube.node.runtime import Record


class Records:
    """Every container record, by pod uid. `changed(uid)` is called after each change."""

    def __init__(self, changed: Callable[[str], None]) -> None:
        self._changed = changed
        self._pods: dict[str, dict[str, Record]] = {}
        self._owners: dict[str, str] = {}
        self.complete = False
        """Everything has been listed at least once."""

    def of(self, uid: str) -> tuple[Record, ...]:
        return tuple(self._pods.get(uid, {}).values())

    def uids(self) -> set[str]:
        return set(self._pods)

    def image_ids(self) -> set[str]:
        """Of the images that some container has, running or not."""
        return {
            record.image_id
            for pod in self._pods.values()
            for record in pod.values()
            if record.image_id
        }

    def put(self, record: Record) -> None:
        pod = self._pods.setdefault(record.pod.uid, {})
        if pod.get(record.id) != record:
            pod[record.id] = record
            self._owners[record.id] = record.pod.uid
            self._changed(record.pod.uid)

    def forget(self, id: str) -> None:
        uid = self._owners.pop(id, None)
        if uid is None:
            return
        pod = self._pods[uid]
        del pod[id]
        if not pod:
            del self._pods[uid]
        self._changed(uid)

    def replace(self, records: Iterable[Record]) -> None:
        """Takes a full list."""
        listed = {record.id: record for record in records}
        for id in self._owners.keys() - listed.keys():
            self.forget(id)
        for record in listed.values():
            self.put(record)
        self.complete = True
