"""Making `FieldError`s: the reasons and the words of Kubernetes' field errors.

Paths are plain text, `spec.containers[0].name`; `child`, `item` and `at` extend them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Final, TypeAlias

from meshkube.api.errors import FieldError
from meshkube.api.types import JSON

Faults: TypeAlias = list[FieldError]

IMMUTABLE: Final = "field is immutable"
NOT_NEGATIVE: Final = "must be greater than or equal to 0"


class Shown(str):
    """A bad value that is shown as it is, not quoted: a struct or a map in Go's notation."""

    __slots__ = ()


def required(path: str, detail: str = "") -> FieldError:
    return _fault(path, "FieldValueRequired", "Required value", detail)


def invalid(path: str, value: JSON, detail: str) -> FieldError:
    return _fault(path, "FieldValueInvalid", f"Invalid value: {shown(value)}", detail)


def without_value(path: str, detail: str) -> FieldError:
    """An invalid value that is not shown."""
    return _fault(path, "FieldValueInvalid", "Invalid value", detail)


def not_supported(path: str, value: JSON, supported: Iterable[str]) -> FieldError:
    names = ", ".join(quoted(name) for name in supported)
    detail = f"supported values: {names}" if names else ""
    return _fault(path, "FieldValueNotSupported", f"Unsupported value: {shown(value)}", detail)


def duplicate(path: str, value: JSON) -> FieldError:
    return _fault(path, "FieldValueDuplicate", f"Duplicate value: {shown(value)}", "")


def forbidden(path: str, detail: str) -> FieldError:
    return _fault(path, "FieldValueForbidden", "Forbidden", detail)


def not_found(path: str, value: JSON) -> FieldError:
    return _fault(path, "FieldValueNotFound", f"Not found: {shown(value)}", "")


def too_long(path: str, limit: int) -> FieldError:
    return _fault(path, "FieldValueTooLong", "Too long", f"may not be more than {limit} bytes")


def too_many(path: str, count: int, limit: int) -> FieldError:
    detail = f"must have at most {limit} items"
    return _fault(path, "FieldValueTooMany", f"Too many: {count}", detail)


def _fault(path: str, reason: str, message: str, detail: str) -> FieldError:
    return FieldError(path, reason, f"{message}: {detail}" if detail else message)


def shown(value: JSON) -> str:
    """A value as messages show it."""
    match value:
        case Shown():
            return str(value)
        case None:
            return '"null"'
        case bool():
            return "true" if value else "false"
        case str():
            return quoted(value)
        case dict():
            return go_map(value)
        case list():
            return go_strings(value)
    return str(value)


def quoted(text: str) -> str:
    """Quoted as Go does (`%q`): escapes for quotes, backslashes and what does not print."""
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    return '"' + "".join(_escaped(letter) for letter in text) + '"'


_ESCAPES: Final = {
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
    '"': '\\"',
    "\\": "\\\\",
}


def _escaped(letter: str) -> str:
    if letter in _ESCAPES:
        return _ESCAPES[letter]
    if letter.isprintable():
        return letter
    code = ord(letter)
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def go_map(values: dict[str, JSON]) -> Shown:
    """`map[string]string{"a":"b"}`, sorted by key."""
    if not all(isinstance(value, str) for value in values.values()):
        return Shown(json.dumps(values, sort_keys=True))
    inside = ", ".join(f"{quoted(key)}:{quoted(values[key])}" for key in sorted(values))
    return Shown("map[string]string{" + inside + "}")


def go_strings(values: list[JSON]) -> Shown:
    """`[]string{"a", "b"}`."""
    if not all(isinstance(value, str) for value in values):
        return Shown(json.dumps(values))
    return Shown("[]string{" + ", ".join(map(quoted, values)) + "}")


def child(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def item(path: str, index: int) -> str:
    return f"{path}[{index}]"


def at(path: str, key: str) -> str:
    """The value of a map under a key: `data[tls.crt]`."""
    return f"{path}[{key}]"
