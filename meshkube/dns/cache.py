"""Finished answers, found by the packet that asked. Pure.

A query is, after its two bytes of id, the same bytes each time the same resolver asks the same
question: the answer is then one look-up and a new id in front.
"""

from __future__ import annotations

from collections.abc import Iterable

MOST_ENTRIES = 20_000


class AnswerCache:
    """Answers without their id, by the query without its id; dropped by the names they rest on."""

    def __init__(self, most: int = MOST_ENTRIES) -> None:
        self.entries: dict[bytes, tuple[bytes, ...]] = {}
        """Read by the hot path: the answer in each of its orders."""
        self._most = most
        self._names: dict[bytes, frozenset[bytes]] = {}
        self._by_name: dict[bytes, set[bytes]] = {}

    def add(self, query: bytes, answers: Iterable[bytes], depends_on: frozenset[bytes]) -> None:
        """Keeps answers under a query (both without id); the oldest entry makes room."""
        if query in self.entries:
            self._drop(query)
        elif len(self.entries) >= self._most:
            self._drop(next(iter(self.entries)))
        self.entries[query] = tuple(answers)
        self._names[query] = depends_on
        for name in depends_on:
            self._by_name.setdefault(name, set()).add(query)

    def forget(self, names: Iterable[bytes]) -> None:
        """Drops every answer that rests on one of these names."""
        for name in names:
            for query in tuple(self._by_name.get(name, ())):
                self._drop(query)

    def _drop(self, query: bytes) -> None:
        del self.entries[query]
        for name in self._names.pop(query):
            queries = self._by_name[name]
            queries.discard(query)
            if not queries:
                del self._by_name[name]
