"""JSON Patch, RFC 6902, with JSON pointers, RFC 6901."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from meshkube.api.errors import ApiError, bad_request, too_large
from meshkube.api.patch.values import equal, type_name
from meshkube.api.types import JSON, Object, clone

MOST_OPERATIONS = 10_000
"""More are refused, as Kubernetes does: copies of copies would grow without bound."""

_INDEX = re.compile(r"0|[1-9][0-9]{0,8}", re.ASCII)
_BAD_ESCAPE = re.compile(r"~(?![01])")


def json_patch(doc: JSON, ops: JSON) -> JSON:
    """`doc` after all operations, or none of them.

    Raises `ApiError`: 400 for a malformed patch, 413 for one with too many operations, 422 where
    a test fails, a path does not exist, or an object would become something else.
    """
    if not isinstance(ops, list):
        raise bad_request(f"a JSON patch must be an array, not of type {type_name(ops)}")
    if len(ops) > MOST_OPERATIONS:
        raise too_large(
            f"The allowed maximum operations in a JSON patch is {MOST_OPERATIONS}, got {len(ops)}"
        )
    holder: Object = {"": clone(doc)}  # so that the whole document has a parent too
    for op in ops:
        _apply(holder, op)
    if isinstance(doc, dict) and not isinstance(holder[""], dict):
        raise _misfit("the whole document can only be replaced by an object")
    return holder[""]


def _apply(holder: Object, op: JSON) -> None:
    name = op.get("op") if isinstance(op, dict) else None
    operation = _OPERATIONS.get(name) if isinstance(name, str) else None
    if operation is None:
        raise bad_request(f"error decoding patch: unexpected kind of operation: {name!r}")
    operation(holder, op)


def _misfit(message: str) -> ApiError:
    # Without details: kubectl shows the message of a 422 only where there are none.
    return ApiError(
        422,
        "Invalid",
        f"the server rejected our request due to an error in our request: {message}",
    )


def _missing(op: str, pointer: str) -> ApiError:
    return _misfit(f"{op} operation does not apply: doc is missing path: {pointer}: missing value")


def _pointer(op: Object, member: str) -> tuple[str, list[str]]:
    """A pointer as it was given, and its steps from the holder."""
    text = op.get(member)
    if not isinstance(text, str) or (text and not text.startswith("/")):
        raise bad_request(f'error decoding patch: operation "{op["op"]}" needs a {member}')
    if _BAD_ESCAPE.search(text):
        raise bad_request(f"error decoding patch: invalid escape in {member} {text}")
    return text, [step.replace("~1", "/").replace("~0", "~") for step in text.split("/")]


def _value(op: Object) -> JSON:
    if "value" not in op:
        raise bad_request(f'error decoding patch: operation "{op["op"]}" needs a value')
    return clone(op["value"])


def _parent(holder: Object, op: Object, member: str = "path") -> tuple[Any, str, str]:
    """`(the container, the last step, the pointer)` of a pointer."""
    text, steps = _pointer(op, member)
    container: Any = holder
    for step in steps[:-1]:
        container = _child(container, step, op["op"], text)
    if not isinstance(container, dict | list):
        raise _missing(op["op"], text)
    return container, steps[-1], text


def _child(container: Any, step: str, op: str, pointer: str) -> Any:
    if isinstance(container, dict) and step in container:
        return container[step]
    if isinstance(container, list):
        return container[_index(container, step, op, pointer, len(container) - 1)]
    raise _missing(op, pointer)


def _index(held: list[Any], step: str, op: str, pointer: str, most: int) -> int:
    if not _INDEX.fullmatch(step) or int(step) > most:
        raise _misfit(
            f"{op} operation does not apply: doc is missing path: {pointer}: invalid index"
            f" {step!r} of an array of {len(held)}"
        )
    return int(step)


def _add(holder: Object, op: Object) -> None:
    _put(holder, op, _value(op))


def _put(holder: Object, op: Object, value: JSON) -> None:
    container, step, pointer = _parent(holder, op)
    if isinstance(container, dict):
        container[step] = value
    elif step == "-":
        container.append(value)
    else:
        container.insert(_index(container, step, op["op"], pointer, len(container)), value)


def _take(holder: Object, op: Object, member: str = "path") -> JSON:
    container, step, pointer = _parent(holder, op, member)
    held = _child(container, step, op["op"], pointer)
    if isinstance(container, dict):
        del container[step]
    else:
        del container[int(step)]
    return held


def _remove(holder: Object, op: Object) -> None:
    _take(holder, op)
    holder.setdefault("", None)  # the whole document was removed


def _replace(holder: Object, op: Object) -> None:
    value = _value(op)
    container, step, pointer = _parent(holder, op)
    _child(container, step, op["op"], pointer)
    if isinstance(container, dict):
        container[step] = value
    else:
        container[int(step)] = value


def _move(holder: Object, op: Object) -> None:
    (source, _), (target, _) = _pointer(op, "from"), _pointer(op, "path")
    if target.startswith(f"{source}/"):
        raise bad_request(f"error decoding patch: cannot move {source} into itself")
    if source != target:
        _put(holder, op, _take(holder, op, "from"))
        return
    container, step, pointer = _parent(holder, op, "from")
    _child(container, step, op["op"], pointer)


def _copy(holder: Object, op: Object) -> None:
    container, step, pointer = _parent(holder, op, "from")
    _put(holder, op, clone(_child(container, step, op["op"], pointer)))


def _test(holder: Object, op: Object) -> None:
    expected = _value(op)
    container, step, pointer = _parent(holder, op)
    if not equal(_child(container, step, op["op"], pointer), expected):
        raise _misfit(f"testing value {pointer} failed: test failed")


_OPERATIONS: dict[str, Callable[[Object, Object], None]] = {
    "add": _add,
    "remove": _remove,
    "replace": _replace,
    "move": _move,
    "copy": _copy,
    "test": _test,
}
