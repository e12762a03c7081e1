"""Label selectors: their text, their object form, and matching.

Source: the Kubernetes documents, "Labels and Selectors"; the grammar and the words of the errors
are those of apimachinery's parser.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from meshkube.api.errors import ApiError, bad_request
from meshkube.api.selectors.syntax import label_value_faults, qualified_name_faults

Operator = Literal["=", "==", "!=", "in", "notin", "exists", "!", "gt", "lt"]

_OPERATORS: tuple[Operator, ...] = ("in", "notin", "=", "==", "!=", "gt", "lt")
_SYMBOLS: dict[str, Operator] = {
    "=": "=", "==": "==", "!=": "!=", "in": "in", "notin": "notin", ">": "gt", "<": "lt",
}  # fmt: skip
_INTEGER = re.compile(r"[+-]?[0-9]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition on one key; `values` is sorted."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()
    _set: frozenset[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_set", frozenset(self.values))

    def matches(self, labels: Mapping[str, str]) -> bool:
        held = labels.get(self.key)
        operator = self.operator
        if operator in ("!=", "notin"):
            return held is None or held not in self._set
        if operator == "!":
            return held is None
        if held is None:
            return False
        if operator in ("=", "==", "in"):
            return held in self._set
        return operator == "exists" or _ordered(held, operator, self.values[0])

    def __str__(self) -> str:
        if self.operator in ("in", "notin"):
            return f"{self.key} {self.operator} ({','.join(self.values)})"
        if self.operator == "exists":
            return self.key
        if self.operator == "!":
            return f"!{self.key}"
        symbol = {"gt": ">", "lt": "<"}.get(self.operator, self.operator)
        return f"{self.key}{symbol}{self.values[0]}"


def _ordered(held: str, operator: str, bound: str) -> bool:
    if not _INTEGER.fullmatch(held):
        return False
    return int(held) > int(bound) if operator == "gt" else int(held) < int(bound)


class LabelSelector:
    """Conditions that must all hold. Without any it matches everything."""

    __slots__ = ("_exact", "_nothing", "_others", "requirements")

    def __init__(self, requirements: Iterable[Requirement] = (), *, nothing: bool = False) -> None:
        self.requirements = tuple(sorted(requirements, key=lambda one: one.key))
        self._nothing = nothing
        # Most selectors are only `key=value`: those are compared without a call each.
        exact = [one for one in self.requirements if len(one.values) == 1 and _is_exact(one)]
        self._exact = tuple((one.key, one.values[0]) for one in exact)
        self._others = tuple(one for one in self.requirements if one not in exact)

    @property
    def empty(self) -> bool:
        """True where it matches everything."""
        return not self.requirements and not self._nothing

    @property
    def exact(self) -> tuple[tuple[str, str], ...]:
        """The `(key, value)` pairs that every match holds: what an index can use."""
        return self._exact

    def matches(self, labels: Mapping[str, str] | None) -> bool:
        """Whether every condition holds for an object with these labels."""
        if self._nothing:
            return False
        labels = labels or {}
        for key, value in self._exact:
            if labels.get(key) != value:
                return False
        return all(one.matches(labels) for one in self._others) if self._others else True

    def __str__(self) -> str:
        return ",".join(map(str, self.requirements))

    def __repr__(self) -> str:
        return f"LabelSelector({str(self)!r})" if not self._nothing else "LabelSelector(nothing)"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LabelSelector):
            return NotImplemented
        return (self.requirements, self._nothing) == (other.requirements, other._nothing)

    def __hash__(self) -> int:
        return hash((self.requirements, self._nothing))


def _is_exact(one: Requirement) -> bool:
    return one.operator in ("=", "==", "in")


EVERYTHING = LabelSelector()
NOTHING = LabelSelector(nothing=True)


def requirement(key: str, operator: Operator, values: Iterable[str] = ()) -> Requirement:
    """A checked requirement. Raises `ApiError` 400."""
    sorted_values = tuple(sorted(set(values)))
    faults = list(_faults(key, operator, sorted_values))
    if faults:
        text = faults[0] if len(faults) == 1 else f"[{', '.join(faults)}]"
        raise bad_request(text)
    return Requirement(key, operator, sorted_values)


def _faults(key: str, operator: Operator, values: tuple[str, ...]) -> Iterator[str]:
    if why := qualified_name_faults(key):
        yield _invalid("key", key, "; ".join(why))
    if operator in ("in", "notin") and not values:
        yield _invalid("values", [], "for 'in', 'notin' operators, values set can't be empty")
    if operator in ("exists", "!") and values:
        why_not = "values set must be empty for exists and does not exist"
        yield _invalid("values", list(values), why_not)
    if operator in ("gt", "lt"):
        for index, value in enumerate(values):
            if not _INTEGER.fullmatch(value):
                why_not = "for 'Gt', 'Lt' operators, the value must be an integer"
                yield _invalid(f"values[{index}]", value, why_not)
    for index, value in enumerate(values):
        if why := label_value_faults(value):
            yield _invalid(f"values[{index}][{key}]", value, "; ".join(why))


def _invalid(path: str, value: Any, why: str) -> str:
    shown = f'"{value}"' if isinstance(value, str) else str(value).replace("'", '"')
    return f"{path}: Invalid value: {shown}: {why}"


def from_labels(labels: Mapping[str, str] | None) -> LabelSelector:
    """A plain map of labels as a selector (a Service's `spec.selector`); nothing is checked."""
    pairs = (labels or {}).items()
    return LabelSelector(Requirement(key, "=", (value,)) for key, value in pairs)


_EXPRESSION: dict[str, Operator] = {
    "In": "in",
    "NotIn": "notin",
    "Exists": "exists",
    "DoesNotExist": "!",
}


def from_label_selector(obj: Mapping[str, Any] | None) -> LabelSelector:
    """A `LabelSelector` object (`matchLabels`, `matchExpressions`) as a selector: an empty one
    matches everything, an absent one nothing. Raises `ApiError` 400."""
    if obj is None:
        return NOTHING
    found = [
        requirement(key, "=", (value,)) for key, value in (obj.get("matchLabels") or {}).items()
    ]
    for expression in obj.get("matchExpressions") or ():
        operator = _EXPRESSION.get(expression.get("operator", ""))
        if operator is None:
            shown = expression.get("operator", "")
            raise bad_request(f'"{shown}" is not a valid label selector operator')
        found.append(
            requirement(expression.get("key", ""), operator, expression.get("values") or ())
        )
    return LabelSelector(found) if found else EVERYTHING


def parse_labels(text: str) -> LabelSelector:
    """A selector from its text: `a=b`, `a==b`, `a!=b`, `a in (b,c)`, `a notin (b)`, `a`, `!a`,
    `a>1`, `a<1`, joined by commas. Raises `ApiError` 400 in Kubernetes' words."""
    return LabelSelector(_Parser(text).requirements()) if text else EVERYTHING


_WORD = re.compile(r"[^=!(),<>\s]+")
_SYMBOL = re.compile(r"==|!=|[=!(),<>]")
_SPACE = " \t\r\n"


def _tokens(text: str) -> list[str]:
    """The words and symbols of a selector, ended by an empty one."""
    found, at = [], 0
    while at < len(text):
        if text[at] in _SPACE:
            at += 1
            continue
        match = _SYMBOL.match(text, at) or _WORD.match(text, at)
        if match is None:
            raise bad_request(f"found '{text[at]}', expected: !, identifier, or 'end of string'")
        found.append(match[0])
        at = match.end()
    found.append("")
    return found


def _is_word(token: str) -> bool:
    return bool(token) and _SYMBOL.fullmatch(token) is None


class _Parser:
    """Reads the tokens once, from left to right."""

    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._at = 0

    @property
    def _next(self) -> str:
        return self._tokens[self._at]

    def _take(self) -> str:
        token = self._tokens[self._at]
        self._at = min(self._at + 1, len(self._tokens) - 1)
        return token

    def requirements(self) -> list[Requirement]:
        found: list[Requirement] = []
        if not self._starts_requirement() and self._next:
            raise bad_request(f"found '{self._next}', expected: !, identifier, or 'end of string'")
        while self._next:
            found.append(self._requirement())
            separator = self._take()
            if not separator:
                break
            if separator != ",":
                raise bad_request(f"found '{separator}', expected: ',' or 'end of string'")
            if not self._starts_requirement():
                raise bad_request(f"found '{self._next}', expected: identifier after ','")
        return found

    def _starts_requirement(self) -> bool:
        return self._next == "!" or _is_word(self._next)

    def _requirement(self) -> Requirement:
        try:
            return self._one()
        except ApiError as error:
            raise bad_request(f"unable to parse requirement: {error.message}") from None

    def _one(self) -> Requirement:
        token = self._take()
        absent = token == "!"
        key = self._take() if absent else token
        if not _is_word(key):
            raise bad_request(f"found '{key}', expected: identifier")
        if faults := qualified_name_faults(key):
            raise bad_request(_invalid("<nil>", key, "; ".join(faults)))
        if absent:
            return requirement(key, "!")
        if self._next in ("", ","):
            return requirement(key, "exists")
        symbol = self._take()
        operator = _SYMBOLS.get(symbol)
        if operator is None:
            raise bad_request(f"found '{symbol}', expected: {', '.join(_OPERATORS)}")
        values = self._values() if operator in ("in", "notin") else [self._exact_value()]
        return requirement(key, operator, values)

    def _exact_value(self) -> str:
        if self._next in ("", ","):
            return ""
        value = self._take()
        if not _is_word(value):
            raise bad_request(f"found '{value}', expected: identifier")
        return value

    def _values(self) -> list[str]:
        """`(a,b)`; an empty place between commas is the empty value."""
        opening = self._take()
        if opening != "(":
            raise bad_request(f"found '{opening}' expected: '('")
        values = []
        while True:
            values.append(self._take() if _is_word(self._next) else "")
            token = self._take()
            if token == ")":
                return values
            if token != ",":
                expected = "',' or ')'" if values[-1] else "',', ')' or identifier"
                raise bad_request(f"found '{token}', expected: {expected}")
