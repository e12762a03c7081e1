"""What the kernel holds, out of nft's JSON, in the shapes of `rules` and `script`.

Pure. Source: libnftables-json(5).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from meshkube.dataplane.rules import Ruleset
from meshkube.dataplane.script import Affinity
from meshkube.dataplane.services import PROTOCOLS

# nft prints a protocol by name where the host knows its name.
_NUMBERS = {name.lower(): str(number) for name, number in PROTOCOLS.items()}


def shape(items: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Chain -> its number of rules."""
    rules: dict[str, int] = {}
    for item in items:
        if "chain" in item:
            rules.setdefault(item["chain"]["name"], 0)
        elif "rule" in item:
            chain = item["rule"]["chain"]
            rules[chain] = rules.get(chain, 0) + 1
    return rules


def ruleset(items: Iterable[Mapping[str, Any]]) -> Ruleset:
    """Every element of every map and set that has any, but what the kernel itself put there."""
    found: Ruleset = {}
    for item in items:
        named = item.get("map") or item.get("set")
        if named and named.get("elem") and "timeout" not in named.get("flags", ()):
            found[named["name"]] = dict(map(_element, named["elem"]))
    return found


def affinities(items: Iterable[Mapping[str, Any]]) -> dict[str, Affinity]:
    """`client . front` -> whom it keeps to, out of a map whose elements have a time-out."""
    found = {}
    for item in items:
        for key, value in (item.get("map") or {}).get("elem") or ():
            timed = key["elem"] if isinstance(key, dict) and "elem" in key else {}
            if "expires" in timed:
                seconds = timed["timeout"], timed["expires"]
                found[_key(key)] = Affinity(_value(value), *seconds)
    return found


def _element(element: Any) -> tuple[str, str]:
    if isinstance(element, list):
        key, value = element
        return _key(key), _value(value)
    return _key(element), ""


def _key(key: Any) -> str:
    if isinstance(key, dict) and "elem" in key:
        key = key["elem"]["val"]
    if isinstance(key, dict) and "concat" in key:
        return " . ".join(_word(part) for part in key["concat"])
    return _word(key)


def _word(part: Any) -> str:
    if isinstance(part, dict) and "prefix" in part:
        return f"{part['prefix']['addr']}/{part['prefix']['len']}"
    return _NUMBERS.get(part, str(part))


def _value(value: Any) -> str:
    for verdict in ("goto", "jump"):
        if isinstance(value, dict) and verdict in value:
            return f"{verdict} {value[verdict]['target']}"
    if isinstance(value, dict) and "drop" in value:
        return "drop"
    return _key(value)
