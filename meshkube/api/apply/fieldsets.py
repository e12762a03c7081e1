"""Sets of fields, in the very form in which `managedFields` holds them (FieldsV1).

A set is a tree of dicts. Its keys are `f:NAME` (a field), `k:{...}` (the element of a list with
these keys), `v:VALUE` (an element of a set) and `.`, which says that the place itself belongs to
the set and not only something below it. A place with nothing below it, `{}`, always belongs.
The empty set is the empty dict, which only the root may be: functions give None for "nothing".

No function changes a set; results share what did not change, and are the same object where
nothing did.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import orjson

Fields: TypeAlias = dict[str, Any]

SELF = "."
_LEAF: Fields = {}


def belongs(place: Fields) -> bool:
    """True where the place itself is in the set, not only something below it."""
    return not place or SELF in place


def union(one: Fields, other: Fields) -> Fields:
    """Of two sets."""
    result = one
    for step, below in other.items():
        held = one.get(step)
        joined = below if held is None else _join(held, below)
        if joined is not held:
            if result is one:
                result = dict(one)
            result[step] = joined
    return result


def _join(one: Fields, other: Fields) -> Fields:
    """Of two places below the root, each of which belongs or has something below it."""
    if one and other:
        return union(one, other)
    if not one and not other:
        return one
    full = one or other
    return full if SELF in full else {SELF: _LEAF, **full}


def minus(one: Fields, other: Fields) -> Fields:
    """`one` without what belongs to `other`; what lies below a place of `other` stays."""
    return _without(one, other, root=True) or {}


def _without(one: Fields, other: Fields, root: bool = False) -> Fields | None:
    if not root and not one:
        return None if belongs(other) else one
    result = one
    for step, below in other.items():
        held = one.get(step)
        if held is None:
            continue
        left = None if step == SELF else _without(held, below)
        if left is not held:
            if result is one:
                result = dict(one)
            if left is None:
                del result[step]
            else:
                result[step] = left
    if not root and not other and SELF in result:
        result = {step: below for step, below in result.items() if step != SELF}
    return result or None


def common(one: Fields, other: Fields) -> Fields:
    """What belongs to both."""
    return _both(one, other, root=True) or {}


def _both(one: Fields, other: Fields, root: bool = False) -> Fields | None:
    found: Fields = {}
    for step, below in one.items():
        held = other.get(step)
        if held is not None and step != SELF and (both := _both(below, held)) is not None:
            found[step] = both
    if not root and belongs(one) and belongs(other):
        return {SELF: _LEAF, **found} if found else _LEAF
    return found or None


def paths(fields: Fields, above: str = "") -> Iterator[str]:
    """Every place that belongs, as messages name it: `.spec.containers[name="web"].image`."""
    for step, below in fields.items():
        if step == SELF:
            yield above
            continue
        here = above + _text(step)
        if not below:
            yield here
        else:
            yield from paths(below, here)


def _text(step: str) -> str:
    sort, _, rest = step.partition(":")
    if sort == "f":
        return f".{rest}"
    if sort == "k":
        keys = orjson.loads(rest)
        shown = ",".join(f"{key}={_json(value)}" for key, value in keys.items())
        return f"[{shown}]"
    return f"[={rest}]" if sort == "v" else f"[{rest}]"


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()


def key_step(keys: Mapping[str, Any]) -> str:
    """The step to the element of a list that has these keys."""
    return "k:" + orjson.dumps(keys, option=orjson.OPT_SORT_KEYS).decode()


def value_step(value: Any) -> str:
    """The step to a value in a set."""
    return "v:" + _json(value)
