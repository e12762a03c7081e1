"""What the runtime has, by pod: kept current from its changes and from lists."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable

from meshkube.node.runtime import Record, Runtime


class Records:
    """Every container record, by pod uid. `changed(uid)` is called after each change.

    The runtime is asked about a container from several places at once, and a slow answer may come
    after a newer one. So each question has a number (`ask`), and what was asked before the newest
    word on a container changes nothing: a list that took seconds does not take away what was made
    meanwhile.
    """

    def __init__(self, changed: Callable[[str], None]) -> None:
        self._changed = changed
        self._pods: dict[str, dict[str, Record]] = {}
        self._owners: dict[str, str] = {}
        self._questions = itertools.count(1)
        self._heard: dict[str, int] = {}
        """The question whose answer is the newest word on a container, gone or not."""
        self.complete = False
        """Everything has been listed at least once."""

    def of(self, uid: str) -> tuple[Record, ...]:
        return tuple(self._pods.get(uid, {}).values())

    def uids(self) -> set[str]:
        return set(self._pods)

    def ids(self) -> set[str]:
        """Of every container."""
        return set(self._owners)

    def image_ids(self) -> set[str]:
        """Of the images that some container has, running or not."""
        return {
            record.image_id
            for pod in self._pods.values()
            for record in pod.values()
            if record.image_id
        }

    def ask(self) -> int:
        """The number of a question that is about to be put to the runtime."""
        return next(self._questions)

    def hear(self, id: str, record: Record | None, asked: int) -> None:
        """Takes the answer to question `asked` about one container; None: there is no such one."""
        if asked < self._heard.get(id, 0):
            return
        self._heard[id] = asked
        if record is None:
            self._forget(id)
        else:
            self._put(record)

    def hear_all(self, records: Iterable[Record], asked: int) -> None:
        """Takes a full list, which is the answer to question `asked`."""
        listed = {record.id: record for record in records}
        for id in self._owners.keys() - listed.keys():
            self.hear(id, None, asked)
        for id, record in listed.items():
            self.hear(id, record, asked)
        # Those that were gone before this question are in nobody's answer any more.
        self._heard = {
            id: number
            for id, number in self._heard.items()
            if id in self._owners or number >= asked
        }
        self.complete = True

    def _put(self, record: Record) -> None:
        pod = self._pods.setdefault(record.pod.uid, {})
        if pod.get(record.id) != record:
            pod[record.id] = record
            self._owners[record.id] = record.pod.uid
            self._changed(record.pod.uid)

    def _forget(self, id: str) -> None:
        uid = self._owners.pop(id, None)
        if uid is None:
            return
        pod = self._pods[uid]
        del pod[id]
        if not pod:
            del self._pods[uid]
        self._changed(uid)


async def look_at(runtime: Runtime, records: Records, id: str) -> Record | None:
    """Looks at one container anew. Raises `RuntimeFailure`."""
    asked = records.ask()
    record = await runtime.inspect(id)
    records.hear(id, record, asked)
    return record


async def look_at_all(runtime: Runtime, records: Records) -> None:
    """Looks at every container anew. Raises `RuntimeFailure`.

    One that the list leaves out is asked for by its id before it is taken for gone: a busy engine's
    list may be older than its word on one container, and a pod would fail for that.
    """
    asked = records.ask()
    listed = await runtime.list()
    for id in records.ids() - {record.id for record in listed}:
        await look_at(runtime, records, id)
    records.hear_all(listed, asked)
