"""Fronts and backends read back out of a ruleset: what nftables does with its elements, for those
who carry the traffic without it.

Pure. The inverse of `rules`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

from meshkube.dataplane.rules import Change, Ruleset, is_class, is_memory
from meshkube.dataplane.services import Backend, Family, Front, Frontend

Sources = tuple[str, ...]
"""CIDRs and addresses that may reach a front; empty: all."""


def patch(ruleset: Ruleset, change: Change) -> None:
    """Changes `ruleset` in place. Raises `KeyError` where it does not hold what the change
    starts from."""
    for name, gone in change.deleted.items():
        held = ruleset[name]
        for element in gone:
            del held[element]
        if not held:
            del ruleset[name]
    for name, added in change.added.items():
        ruleset.setdefault(name, {}).update(added)


def touched(names: Mapping[str, object]) -> set[Front]:
    """The fronts that elements are about, by the names of their maps and sets."""
    found = set()
    for name, elements in names.items():
        for element in cast(Mapping[str, str], elements):
            found |= set(_fronts(name, element))
    return found


def changed(change: Change) -> set[Front]:
    """The fronts that a change is about."""
    return touched(change.deleted) | touched(change.added)


def frontend(ruleset: Ruleset, front: Front) -> Frontend | None:
    """What a front leads to; None where nobody has it."""
    kind, key = _kind(front), _key(front)
    verdict = ruleset.get(kind, {}).get(key)
    if verdict is None:
        refused = key in ruleset.get(f"refused_{kind}", {})
        return Frontend(front, ()) if refused else None
    if verdict == "drop":
        return Frontend(front, ())
    name = verdict.partition("_")[2]
    members = ruleset.get(name, {})
    count = int(name.rpartition("_")[2])
    backends = tuple(_backend(members[f"{key} . {index}"]) for index in range(count))
    return Frontend(front, backends, _sticky(ruleset, front, verdict))


def sources(ruleset: Ruleset, front: Front) -> Sources:
    """Who may reach a balancer's address."""
    key = _key(front)
    if key not in ruleset.get(f"guarded{front.family}", {}):
        return ()
    start = f"{key} . "
    allowed = ruleset.get(f"allowed{front.family}", {})
    return tuple(each.removeprefix(start) for each in allowed if each.startswith(start))


def _sticky(ruleset: Ruleset, front: Front, verdict: str) -> int:
    if not verdict.startswith("goto sticky_"):
        return 0
    kind = _kind(front._replace(outside=False))
    memory = ruleset.get(f"remember_{kind}", {}).get(_key(front), "")
    return int(memory.rpartition("_")[2] or 0)


def _fronts(name: str, element: str) -> Iterator[Front]:
    if is_class(name):
        if is_memory(name):
            return
        name, element = name.rpartition("_")[0], element.rpartition(" . ")[0]
    outside = name.startswith("outside_")
    base = name.removeprefix("outside_").removeprefix("refused_").removeprefix("remember_")
    family: Family = 6 if base.endswith("6") else 4
    words = element.split(" . ")
    match base[:-1]:
        case "services" | "guarded" | "allowed":
            yield Front(family, words[0], int(words[1]), int(words[2]), outside)
        case "nodeports":
            yield Front(family, "", int(words[0]), int(words[1]), outside)


def _kind(front: Front) -> str:
    kind = "services" if front.address else "nodeports"
    return f"{'outside_' if front.outside else ''}{kind}{front.family}"


def _key(front: Front) -> str:
    key = f"{front.protocol} . {front.port}"
    return f"{front.address} . {key}" if front.address else key


def _backend(value: str) -> Backend:
    address, _, port = value.partition(" . ")
    return Backend(address, int(port))
