"""JSONPath as CustomResourceDefinitions use it: `.spec.replicas`,
`.status.conditions[?(@.type=="Ready")].status`, `.metadata.labels['app\\.kubernetes\\.io/name']`.

Source: the Kubernetes documents, "JSONPath Support". Templates, ranges and recursive descent are
no part of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from operator import eq, ge, gt, le, lt, ne
from typing import Any, Final

from meshkube.api.types import JSON

Step = Callable[[JSON], Iterable[JSON]]
_NAME: Final = re.compile(r"\.?((?:[^.\[\]()'\"\s\\]|\\.)+)")
_QUOTED: Final = re.compile(r"""\[\s*(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)")\s*\]""")
_INDEX: Final = re.compile(r"\[\s*(-?\d+)\s*\]")
_SLICE: Final = re.compile(r"\[\s*(-?\d*)\s*:\s*(-?\d*)\s*\]")
_ALL: Final = re.compile(r"\[\s*\*\s*\]|\.\*")
_FILTER: Final = re.compile(
    r"""\[\?\(\s*@((?:[^=!<>()'"]|\['[^']*'\])+?)\s*(?:(==|!=|<=|>=|<|>)\s*"""
    r"""("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|-?\d+(?:\.\d+)?|true|false)\s*)?\)\]"""
)
_COMPARE: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "==": eq, "!=": ne, "<": lt, "<=": le, ">": gt, ">=": ge,
}  # fmt: skip


class Path:
    """A compiled path."""

    __slots__ = ("keys", "steps")

    def __init__(self, steps: list[Step], keys: tuple[str, ...] | None) -> None:
        self.steps = steps
        self.keys = keys
        """The names on the way, where it is nothing but names."""

    def find(self, obj: JSON) -> list[JSON]:
        """Everything the path leads to, in order; empty where something on the way is missing."""
        found: list[JSON] = [obj]
        for step in self.steps:
            found = [below for value in found for below in step(value)]
        return found

    def first(self, obj: JSON) -> JSON:
        """The first of it; None for nothing."""
        found = self.find(obj)
        return found[0] if found else None


@lru_cache(maxsize=2048)
def parse(text: str) -> Path:
    """Raises `ValueError` with the reason."""
    steps: list[Step] = []
    keys: list[str] | None = []
    at = 0
    text = text.strip()
    if text == ".":
        return Path([], ())
    while at < len(text):
        step, name, at = _step(text, at)
        steps.append(step)
        keys = None if keys is None or name is None else [*keys, name]
    if not steps:
        raise ValueError("is empty")
    return Path(steps, tuple(keys) if keys is not None else None)


def _step(text: str, at: int) -> tuple[Step, str | None, int]:
    if match := _ALL.match(text, at):
        return _every, None, match.end()
    if match := _QUOTED.match(text, at):
        name = _plain(match[1] if match[1] is not None else match[2])
        return _named(name), name, match.end()
    if match := _INDEX.match(text, at):
        return _at(int(match[1])), None, match.end()
    if match := _SLICE.match(text, at):
        low, high = (int(part) if part else None for part in match.groups())
        return _cut(slice(low, high)), None, match.end()
    if match := _FILTER.match(text, at):
        return _where(*match.groups()), None, match.end()
    match = _NAME.match(text, at)
    if match is None or (at and text[at] != "."):
        raise ValueError(f"unexpected {text[at : at + 10]!r} at character {at + 1}")
    return _named(_plain(match[1])), _plain(match[1]), match.end()


def _plain(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


def _named(name: str) -> Step:
    return lambda value: (value[name],) if isinstance(value, dict) and name in value else ()


def _every(value: JSON) -> Iterable[JSON]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else ()


def _at(index: int) -> Step:
    def step(value: JSON) -> Iterable[JSON]:
        inside = isinstance(value, list) and -len(value) <= index < len(value)
        return (value[index],) if inside else ()

    return step


def _cut(part: slice) -> Step:
    return lambda value: value[part] if isinstance(value, list) else ()


def _where(path: str, operator: str | None, literal: str | None) -> Step:
    inner = parse(path)
    if operator is None:
        return lambda value: [one for one in _every(value) if inner.find(one)]
    wanted = _literal(literal or "")
    compare = _COMPARE[operator]

    def holds(found: JSON) -> bool:
        try:
            return compare(found, wanted)
        except TypeError:
            return False

    return lambda value: [one for one in _every(value) if any(map(holds, inner.find(one)))]


def _literal(text: str) -> JSON:
    if text[0] in "'\"":
        return _plain(text[1:-1])
    if text in ("true", "false"):
        return text == "true"
    return float(text) if "." in text else int(text)
