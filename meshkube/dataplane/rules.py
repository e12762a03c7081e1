"""From Services to elements of nftables maps and sets, and from one state to the next.

Pure. The layout has no chain and no rule per Service: for each *number of backends* N there is one
class (a map and the chains that pick a backend in it), and a Service is elements in it. So a change
is elements in and elements out, whatever the number of Services.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from meshkube.api import meta
from meshkube.api.types import Object
from meshkube.dataplane.services import (
    PROTOCOLS,
    Front,
    Frontend,
    Frontends,
    Left,
    Settings,
    Stale,
    family_of,
    frontends,
)

SERVICE_LABEL = "kubernetes.io/service-name"
NODES = "nodes"
"""The key under which a `Table` holds what comes of the cluster's Nodes; no Service's."""

_ANY = {4: "0.0.0.0", 6: "::"}

Ruleset = dict[str, dict[str, str]]
"""Map or set -> element -> its value (empty in a set). Only those that have elements are in it."""


@dataclass(slots=True)
class Change:
    """What leads from one ruleset to another. A new value for an element is in both."""

    deleted: dict[str, list[str]] = field(default_factory=dict)
    added: dict[str, dict[str, str]] = field(default_factory=dict)
    classes_added: list[str] = field(default_factory=list)
    classes_deleted: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.deleted or self.added)

    def note(self, name: str, element: str, old: str | None, new: str | None) -> None:
        if old == new:
            return
        if old is not None:
            self.deleted.setdefault(name, []).append(element)
        if new is not None:
            self.added.setdefault(name, {})[element] = new


def is_class(name: str) -> bool:
    """Whether a map is that of a class, made and removed with its elements."""
    return "_" in name and name.rpartition("_")[2].isdigit()


def is_memory(name: str) -> bool:
    """Whether a class is one of fronts with affinity, by time-out; else it is one of fronts by
    their number of backends."""
    return name.startswith("remember")


def compile(services: Iterable[Object], slices: Iterable[Object], settings: Settings) -> Ruleset:
    """The whole ruleset at once."""
    by_service: dict[str, list[Object]] = {}
    for piece in slices:
        by_service.setdefault(service_of(piece), []).append(piece)
    table = Table()
    for service in services:
        key = meta.key(service)
        table.put(key, frontends(service, by_service.get(key, ()), settings))
    return table.ruleset


def service_of(piece: Object) -> str:
    """The key of the Service that an EndpointSlice belongs to; empty where it names none."""
    name = meta.labels(piece).get(SERVICE_LABEL)
    return f"{meta.namespace(piece)}/{name}" if name else ""


def of_nodes(addresses: Iterable[str]) -> Frontends:
    """What Nodes with these addresses add: they and pods see each other as they are."""
    return Frontends(members=frozenset((f"nodes{family_of(a)}", a) for a in addresses))


def diff(old: Mapping[str, Mapping[str, str]], new: Mapping[str, Mapping[str, str]]) -> Change:
    """What to change in `old` to get `new`."""
    change = Change()
    for name in sorted(old.keys() | new.keys()):
        before, after = old.get(name, {}), new.get(name, {})
        for element in before.keys() | after.keys():
            change.note(name, element, before.get(element), after.get(element))
        if is_class(name) and bool(before) != bool(after):
            (change.classes_added if after else change.classes_deleted).append(name)
    return change


def apply(change: Change, old: Mapping[str, Mapping[str, str]]) -> Ruleset:
    """What the kernel holds after the change: the model of one transaction."""
    result = {name: dict(elements) for name, elements in old.items()}
    for name, gone in change.deleted.items():
        for element in gone:
            del result[name][element]
    for name, added in change.added.items():
        result.setdefault(name, {}).update(added)
    return {name: elements for name, elements in result.items() if elements}


def binds(ruleset: Ruleset, key: str, backend: str) -> bool:
    """Whether a client's affinity (`client . front`) is to one who still answers there."""
    _, front = key.split(" . ", 1)
    family = family_of(key.split(" . ", 1)[0])
    port = front.split(" . ", 1)[1]
    for kind, place in ((f"services{family}", front), (f"nodeports{family}", port)):
        goto = ruleset.get(kind, {}).get(place, "").removeprefix("goto ")
        if goto.startswith("sticky_"):
            members = ruleset.get(goto.removeprefix("sticky_"), {})
            count = int(goto.rpartition("_")[2])
            return backend in {members.get(f"{place} . {index}") for index in range(count)}
    return False


class Table:
    """The wanted ruleset, kept up to date one Service at a time."""

    def __init__(self) -> None:
        self.ruleset: Ruleset = {}
        self._services: dict[str, Frontends] = {}
        self._claims: dict[Front, dict[str, Frontend]] = {}
        self._owned: dict[Front, Frontend] = {}
        self._members: dict[tuple[str, str], int] = {}
        self._before: dict[tuple[str, str], str | None] = {}
        self._stale: set[Stale] = set()
        self._left: set[Left] = set()

    def __len__(self) -> int:
        """How many Services have rules."""
        return len(self._services) - (NODES in self._services)

    def get(self, key: str) -> Frontends:
        return self._services.get(key, Frontends())

    def keys(self) -> set[str]:
        return set(self._services)

    def put(self, key: str, new: Frontends) -> bool:
        """Replaces what a Service has (nothing: empty `Frontends`). False: nothing changed."""
        old = self._services.get(key, Frontends())
        if new == old:
            return False
        if new.frontends or new.members:
            self._services[key] = new
        else:
            self._services.pop(key, None)
        fresh = {frontend.front: frontend for frontend in new.frontends}
        for front in {frontend.front for frontend in old.frontends} | fresh.keys():
            self._claim(key, front, fresh.get(front))
        self._count(old.members, new.members)
        return True

    def take(self) -> Change:
        """What has changed since the last call."""
        change = Change()
        sizes: dict[str, int] = {}
        for (name, element), old in self._before.items():
            new = self.ruleset.get(name, {}).get(element)
            change.note(name, element, old, new)
            if is_class(name):
                grown = (new is not None) - (old is not None)
                sizes[name] = sizes.get(name, 0) + grown
        for name, grown in sorted(sizes.items()):
            now = len(self.ruleset.get(name, ()))
            if bool(now) != bool(now - grown):
                (change.classes_added if now else change.classes_deleted).append(name)
        self._before.clear()
        return change

    def take_stale(self) -> set[Stale]:
        """UDP flows to be forgotten since the last call: TCP notices by itself."""
        stale, self._stale = self._stale, set()
        return stale

    def take_left(self) -> set[Left]:
        """Whom clients with affinity must not be sent to any more, since the last call."""
        left, self._left = self._left, set()
        return left

    def _claim(self, key: str, front: Front, frontend: Frontend | None) -> None:
        claims = self._claims.setdefault(front, {})
        if frontend is None:
            claims.pop(key, None)
        else:
            claims[key] = frontend
        if not claims:
            del self._claims[front]
        old, new = self._owned.get(front), self._winner(claims)
        if old == new:
            return
        if new is None:
            del self._owned[front]
        else:
            self._owned[front] = new
        if front.protocol == PROTOCOLS["UDP"]:
            self._stale |= _stale(front, old, new)
        if old and old.sticky:
            kept = set(new.backends) if new and new.sticky else set()
            self._left |= {Left(front, each) for each in old.backends if each not in kept}
        before = dict(_elements(old)) if old else {}
        after = dict(_elements(new)) if new else {}
        for place in before.keys() | after.keys():
            self._set(place, after.get(place))

    def _winner(self, claims: Mapping[str, Frontend]) -> Frontend | None:
        if len(claims) <= 1:
            return next(iter(claims.values()), None)
        return claims[min(claims, key=self._rank)]

    def _rank(self, key: str) -> tuple[tuple[str, str], str]:
        return self.get(key).rank, key

    def _count(self, old: frozenset[tuple[str, str]], new: frozenset[tuple[str, str]]) -> None:
        for place in old - new:
            self._members[place] -= 1
            if not self._members[place]:
                del self._members[place]
                self._set(place, None)
        for place in new - old:
            self._members[place] = self._members.get(place, 0) + 1
            self._set(place, "")

    def _set(self, place: tuple[str, str], value: str | None) -> None:
        name, element = place
        elements = self.ruleset.setdefault(name, {})
        self._before.setdefault(place, elements.get(element))
        if value is None:
            elements.pop(element, None)
            if not elements:
                del self.ruleset[name]
        else:
            elements[element] = value


def _stale(front: Front, old: Frontend | None, new: Frontend | None) -> set[Stale]:
    if old is None or not old.backends:
        # Flows from before there was anybody to answer: they went astray.
        return {Stale(front, "")}
    kept = {backend.address for backend in new.backends} if new else set()
    return {Stale(front, address) for address, _ in old.backends if address not in kept}


def _elements(frontend: Frontend) -> Iterator[tuple[tuple[str, str], str]]:
    family, address, protocol, port, outside = frontend.front
    kind = ("outside_" if outside else "") + ("services" if address else "nodeports")
    key = f"{address} . {protocol} . {port}" if address else f"{protocol} . {port}"
    count = len(frontend.backends)
    if not count:
        # From outside there is another node to try: whoever balances between nodes tries again.
        if outside:
            yield (f"{kind}{family}", key), "drop"
        else:
            yield (f"refused_{kind}{family}", key), ""
        return
    how = "sticky" if frontend.sticky else "spread"
    yield (f"{kind}{family}", key), f"goto {how}_{kind}{family}_{count}"
    for index, backend in enumerate(frontend.backends):
        yield (
            (f"{kind}{family}_{count}", f"{key} . {index}"),
            f"{backend.address} . {backend.port}",
        )
    # Who has what comes from outside only has the other as well.
    if frontend.sticky and not outside:
        memory = f"remember{family}_{frontend.sticky}"
        yield (f"remember_{kind}{family}", key), f"jump {memory}"
        yield (memory, key if address else f"{_ANY[family]} . {key}"), ""
