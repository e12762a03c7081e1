"""Objects as trees of fields: which there are, what changed, how two are merged.

Fixed fields (`object`) and free keys (`map`) are merged key by key unless the schema calls them
atomic; lists are one value unless the schema says `map` or `set`; what the schema does not know is
merged key by key, its lists being one value.
"""

from __future__ import annotations

from typing import Any, Protocol

from meshkube.api.apply.fieldsets import SELF, Fields, belongs, key_step, value_step
from meshkube.api.errors import bad_request
from meshkube.api.types import JSON, Object, clone


class TypedNode(Protocol):
    """What server-side apply asks of a place in a schema (`api.schemas.Node` is one)."""

    @property
    def type(self) -> str: ...

    @property
    def items(self) -> TypedNode | None: ...

    @property
    def list_type(self) -> str: ...

    @property
    def map_keys(self) -> tuple[str, ...]: ...

    @property
    def map_type(self) -> str: ...

    def field(self, name: str, /) -> TypedNode | None: ...


# The only key of a list in the API that may be left out: a port's protocol.
_KEY_DEFAULTS = {"protocol": "TCP"}


def granular(value: JSON, node: TypedNode | None) -> bool:
    """True where the parts of a value are told apart, false where it is one value."""
    if isinstance(value, dict):
        return node is None or node.map_type != "atomic"
    return isinstance(value, list) and node is not None and node.list_type in ("map", "set")


def elements(held: list[Any], node: TypedNode) -> dict[str, Any] | None:
    """The elements of a list by the step to each, in order; None where they cannot be told apart
    (one lacks its keys, or comes twice)."""
    found: dict[str, Any] = {}
    for one in held:
        step = _step(one, node)
        if step is None or step in found:
            return None
        found[step] = one
    return found


def _step(element: JSON, node: TypedNode) -> str | None:
    if node.list_type == "set":
        return None if isinstance(element, dict | list) else value_step(element)
    if not isinstance(element, dict):
        return None
    keys = {}
    for key in node.map_keys:
        value = element.get(key)
        if value is None:
            value = _key_default(node, key)
        if value is None:
            return None
        keys[key] = value
    return key_step(keys)


def _key_default(node: TypedNode, key: str) -> JSON:
    """What a key that is left out counts as: the default of its field, where there is one."""
    field = node.items.field(key) if node.items is not None else None
    default = getattr(field, "default", None)
    return default if isinstance(default, str | int) else _KEY_DEFAULTS.get(key)


def declared(value: JSON, node: TypedNode | None) -> Fields:
    """The fields that an applied value declares: its leaves, the elements of its lists and the
    free keys of its maps. Raises `ApiError` 400 where a list's elements cannot be told apart."""
    return _fields(value, node, below_root=False)


def _fields(value: JSON, node: TypedNode | None, *, below_root: bool = True) -> Fields:
    if not value or not granular(value, node):
        return {}
    found: Fields = {}
    if isinstance(value, dict):
        free = below_root and (node is None or node.type != "object")
        for key, held in sorted(value.items()):
            below = _fields(held, node.field(key) if node else None)
            found["f:" + key] = _with_self(below) if free else below
        return found
    assert node is not None
    told = elements(value, node)
    if told is None:
        raise bad_request(_untold(value, node))
    for step, held in told.items():
        found[step] = _with_self(_fields(held, node.items))
    return found


def _untold(value: list[Any], node: TypedNode) -> str:
    """Why the elements of an applied list cannot be told apart."""
    seen = set()
    for element in value:
        step = _step(element, node)
        if step is None:
            keys = ", ".join(f'"{key}"' for key in node.map_keys)
            return (
                "failed to create typed patch object: associative list with keys has an element"
                f" that omits key field {keys} (and doesn't have default value)"
            )
        if step in seen:
            what = "key " if node.list_type == "map" else ""
            return f"failed to create typed patch object: duplicate entries for {what}{step[2:]}"
        seen.add(step)
    return "failed to create typed patch object"


def _all(value: JSON, node: TypedNode | None, *, structs: bool = False) -> Fields:
    """Every place below a value; objects with fixed fields do not belong themselves unless
    `structs`: nobody is said to own `spec`, but with it goes who owned it empty."""
    if not value or not granular(value, node):
        return {}
    found: Fields = {}
    if isinstance(value, dict):
        if structs or node is None or node.type != "object":
            found[SELF] = {}
        for key, held in value.items():
            if isinstance(held, dict | list):
                child = node.field(key) if node else None
                found["f:" + key] = _all(held, child, structs=structs)
            else:
                found["f:" + key] = {}
        return found
    assert node is not None
    for step, held in (elements(value, node) or {}).items():
        found[step] = _with_self(_all(held, node.items, structs=structs))
    return found


def _with_self(below: Fields) -> Fields:
    return {SELF: {}, **below} if below else below


def _gone(value: JSON, node: TypedNode | None) -> Fields:
    """All that goes with a value, the place itself too."""
    return _with_self(_all(value, node, structs=True))


def compare(
    old: Object, new: Object, node: TypedNode | None, changed: Fields, removed: Fields
) -> None:
    """Adds to `changed` what `new` has that `old` has not, or has with another value, and to
    `removed` what only `old` has."""
    for key, value in new.items():
        if key not in old:
            changed["f:" + key] = _all(value, node.field(key) if node else None)
            continue
        before = old[key]
        if before is not value and before != value:
            child = node.field(key) if node else None
            _compare_values("f:" + key, before, value, child, changed, removed)
    if len(old) == len(new) and old.keys() == new.keys():
        return
    for key, value in old.items():
        if key not in new:
            removed["f:" + key] = _gone(value, node.field(key) if node else None)


def _compare_values(
    step: str,
    before: JSON,
    value: JSON,
    node: TypedNode | None,
    changed: Fields,
    removed: Fields,
) -> None:
    below_changed: Fields = {}
    below_removed: Fields = {}
    told = _granular_pair(before, value, node)
    if told is None:
        changed[step] = _with_self(_all(value, node))
        below_removed = _all(before, node, structs=True)
    elif isinstance(value, dict):
        compare(before, value, node, below_changed, below_removed)
    else:
        _compare_elements(*told, node, below_changed, below_removed)
    if below_changed:
        changed[step] = below_changed
    if below_removed:
        removed[step] = below_removed


def _granular_pair(
    before: JSON, value: JSON, node: TypedNode | None
) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """The parts of both values where they can be compared part by part."""
    if type(before) is not type(value) or not granular(value, node):
        return None
    if isinstance(value, dict):
        return before, value
    assert node is not None
    one, other = elements(before, node), elements(value, node)
    return None if one is None or other is None else (one, other)


def _compare_elements(
    before: dict[str, Any],
    value: dict[str, Any],
    node: TypedNode | None,
    changed: Fields,
    removed: Fields,
) -> None:
    items = node.items if node else None
    for step, element in value.items():
        if step not in before:
            changed[step] = _with_self(_all(element, items))
        elif before[step] != element:
            _compare_values(step, before[step], element, items, changed, removed)
    for step, element in before.items():
        if step not in value:
            removed[step] = _gone(element, items)


def merge(live: JSON, config: JSON, node: TypedNode | None) -> JSON:
    """`config` over `live`: what it names takes its value, all else stays. Shares nothing."""
    told = _granular_pair(live, config, node)
    if told is None:
        return clone(config)
    if isinstance(config, dict):
        merged = {key: clone(held) for key, held in live.items() if key not in config}
        for key, value in config.items():
            child = node.field(key) if node else None
            merged[key] = merge(live[key], value, child) if key in live else clone(value)
        return merged
    return _merge_elements(*told, node)


def _merge_elements(
    live: dict[str, Any], config: dict[str, Any], node: TypedNode | None
) -> list[Any]:
    """In the order of `config`, the elements that only `live` has near where they were."""
    items = node.items if node else None
    order, shared = list(live), [step for step in config if step in live]
    merged: list[Any] = []
    done: set[str] = set()
    at = 0
    for step, value in config.items():
        following = shared[0] if shared else ""
        while at < len(order) and order[at] != step:
            here = order[at]
            if here not in config:
                merged.append(clone(live[here]))
            elif here not in done and following in ("", here):
                break
            at += 1
        merged.append(merge(live[step], value, items) if step in live else clone(value))
        done.add(step)
        if step == following:
            shared.pop(0)
    merged += [clone(live[step]) for step in order[at:] if step not in config]
    return merged


def prune(value: JSON, node: TypedNode | None, last: Fields, owned: Fields | None) -> None:
    """Takes out of `value` itself what belongs to `last` and to nobody in `owned` (None: nobody
    owns anything here), and containers that this empties."""
    if isinstance(value, dict):
        for step, below in last.items():
            key = step[2:]
            if step.startswith("f:") and key in value:
                child = node.field(key) if node else None
                fixed = node is not None and node.type == "object"
                if _prune_one(value[key], child, below, (owned or {}).get(step), fixed=fixed):
                    del value[key]
    elif isinstance(value, list) and node is not None and granular(value, node):
        told = elements(value, node)
        if told is not None:
            value[:] = [
                element
                for step, element in told.items()
                if step not in last
                or not _prune_one(element, node.items, last[step], (owned or {}).get(step))
            ]


def _prune_one(
    value: JSON,
    node: TypedNode | None,
    last: Fields,
    owned: Fields | None,
    *,
    fixed: bool = False,
) -> bool:
    """Prunes below a place; True where the place itself goes. A fixed field stays for whoever owns
    something below it, an element or a free key only for whoever owns it itself."""
    stays = owned is not None and (fixed or belongs(owned))
    if not stays and belongs(last):
        return True
    if not last or not value or not isinstance(value, dict | list):
        return False
    prune(value, node, last, owned)
    return not value
