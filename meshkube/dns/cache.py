"""Finished answers, found by the packet that asked. Pure.

A query is, after its two bytes of id, the same bytes each time the same resolver asks the same
question: the answer is then one look-up and a new id in front.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

MOST_ENTRIES = 20_000

Tally = list[int]
"""One number: how many answers of this type, code and way were given."""


class Finished(NamedTuple):
    """An answer without its id, in each of its orders, and where it is counted."""

    tally: Tally
    answers: tuple[bytes, ...]


class AnswerCache:
    """Answers by the query without its id; dropped by the names they rest on."""

    def __init__(self, most: int = MOST_ENTRIES) -> None:
        self.entries: dict[bytes, Finished] = {}
        """Read by the hot path."""
        self._most = most
        self._names: dict[bytes, frozenset[bytes]] = {}
        self._by_name: dict[bytes, set[bytes]] = {}
        self._brief: set[bytes] = set()

    def add(self, query: bytes, finished: Finished, depends_on: frozenset[bytes]) -> None:
        """Keeps answers under a query (without id); the oldest entry makes room."""
        self._make_room(query)
        self.entries[query] = finished
        self._names[query] = depends_on
        for name in depends_on:
            self._by_name.setdefault(name, set()).add(query)

    def add_brief(self, query: bytes, finished: Finished) -> None:
        """Keeps answers until `end_brief`: those whose times to live run down."""
        self._make_room(query)
        self.entries[query] = finished
        self._brief.add(query)

    def end_brief(self) -> None:
        """Drops what was added for a moment; to be called once a second."""
        for query in self._brief:
            del self.entries[query]
        self._brief.clear()

    def forget(self, names: Iterable[bytes]) -> None:
        """Drops every answer that rests on one of these names."""
        for name in names:
            for query in tuple(self._by_name.get(name, ())):
                self._drop(query)

    def clear(self) -> None:
        """Drops everything."""
        for kept in (self.entries, self._names, self._by_name, self._brief):
            kept.clear()

    def _make_room(self, query: bytes) -> None:
        if query in self.entries:
            self._drop(query)
        elif len(self.entries) >= self._most:
            self._drop(next(iter(self.entries)))

    def _drop(self, query: bytes) -> None:
        del self.entries[query]
        self._brief.discard(query)
        for name in self._names.pop(query, ()):
            queries = self._by_name[name]
            queries.discard(query)
            if not queries:
                del self._by_name[name]
