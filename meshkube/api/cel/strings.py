"""Functions on text, lists and patterns that Kubernetes adds to CEL.

Source: the Kubernetes documents, "Common Expression Language in Kubernetes", its libraries of
strings, lists, regular expressions and sets.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, Final

from meshkube.api.cel.functions import Function, text, to_string
from meshkube.api.cel.operators import BINARY, add, no_overload
from meshkube.api.cel.values import Budget, CelError, Type, Value, equal, type_name
from meshkube.api.custom import patterns


def matches(budget: Budget, value: Value, pattern: Value) -> bool:
    """Anywhere in the text, as RE2 reads the pattern."""
    compiled = _pattern(pattern)
    held = text(value, "matches")
    budget.spend(len(held) * (len(pattern) // 4 + 1) // 20 + 1)
    return compiled.search(held) is not None


def _pattern(pattern: Value) -> Any:
    try:
        return patterns.compiled(text(pattern, "matches"))
    except ValueError as error:
        raise CelError(f"invalid pattern {pattern!r}: {error}") from None


def find(budget: Budget, value: Value, pattern: Value) -> str:
    budget.spend(len(text(value, "find")) // 10 + 1)
    match = _pattern(pattern).search(value)
    return str(match[0]) if match else ""


def find_all(budget: Budget, value: Value, pattern: Value, most: Value = -1) -> list[str]:
    budget.spend(len(text(value, "findAll")) + 1)
    found = [match[0] for match in _pattern(pattern).finditer(value)]
    return found if most < 0 else found[:most]


def _text_method(name: str, call: Callable[..., Value], *types: type) -> Function:
    def method(budget: Budget, value: Value, *arguments: Value) -> Value:
        held = text(value, name)
        for argument, type_ in zip(arguments, types, strict=False):
            if not isinstance(argument, type_) or isinstance(argument, bool):
                raise no_overload(name, value, *arguments)
        budget.spend(len(held) // 10 + 1)
        return call(held, *arguments)

    return method


def _char_at(value: str, index: int) -> str:
    if not 0 <= index <= len(value):
        raise CelError(f"index out of range: {index}")
    return value[index : index + 1]


def _index(value: str, part: str, start: int = 0) -> int:
    if not 0 <= start <= len(value):
        raise CelError(f"index out of range: {start}")
    return value.find(part, start)


def _last_index(value: str, part: str, end: int | None = None) -> int:
    if end is None:
        return value.rfind(part)
    if not 0 <= end <= len(value):
        raise CelError(f"index out of range: {end}")
    return value.rfind(part, 0, end + len(part))


def _substring(value: str, start: int, end: int | None = None) -> str:
    end = len(value) if end is None else end
    if not 0 <= start <= end <= len(value):
        raise CelError(f"index out of range: {start}")
    return value[start:end]


def _split(value: str, separator: str, most: int = -1) -> list[str]:
    if most == 0:
        return []
    if not separator:
        return list(value) if most < 0 else [*value[: most - 1], value[most - 1 :]]
    return value.split(separator, most - 1 if most > 0 else -1)


def _replace(budget: Budget, value: Value, old: Value, new: Value, most: Value = -1) -> str:
    held, old, new = (text(one, "replace") for one in (value, old, new))
    count = held.count(old) if most < 0 else min(most, held.count(old))
    budget.spend((len(held) + count * len(new)) // 10 + 1)
    return held.replace(old, new, most)


_UPPER: Final = str.maketrans("abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_LOWER: Final = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")


def _join(budget: Budget, values: Value, separator: Value = "") -> str:
    if not isinstance(values, list) or not all(isinstance(one, str) for one in values):
        raise no_overload("join", values)
    budget.spend(sum(map(len, values)) // 10 + len(values))
    return text(separator, "join").join(values)


def _quote(budget: Budget, value: Value) -> str:
    from meshkube.api.validation.faults import quoted

    return quoted(text(value, "strings.quote"))


def _format(budget: Budget, form: Value, values: Value) -> str:
    """`"%s is %d".format([a, b])`."""
    if not isinstance(values, list):
        raise no_overload("format", form, values)
    out, rest, left = "", text(form, "format"), list(values)
    while rest:
        plain, mark, rest = rest.partition("%")
        out += plain
        if not mark:
            break
        if rest[:1] == "%":
            out, rest = out + "%", rest[1:]
            continue
        digits = ""
        if rest[:1] == ".":
            digits = "".join(_leading_digits(rest[1:]))
            rest = rest[1 + len(digits) :]
        if not left or not rest:
            raise CelError("format: too few arguments")
        out += _formatted(budget, rest[0], digits, left.pop(0))
        budget.spend(len(out) // 10 + 1)
        rest = rest[1:]
    return out


def _leading_digits(value: str) -> list[str]:
    found = []
    for letter in value:
        if not letter.isdigit():
            break
        found.append(letter)
    return found[:3]


def _formatted(budget: Budget, verb: str, digits: str, value: Value) -> str:
    places = min(int(digits or "6"), 100)
    try:
        match verb:
            case "s":
                return _shown(budget, value)
            case "d" if isinstance(value, int) and not isinstance(value, bool):
                return str(int(value))
            case "f" | "e":
                return f"{float(value):.{places}{verb}}"
            case "b":
                return f"{int(value):b}"
            case "x" | "X":
                raw = value.encode() if isinstance(value, str) else value
                return raw.hex() if isinstance(raw, bytes) else f"{raw:{verb}}"
            case "o":
                return f"{int(value):o}"
    except (ValueError, TypeError):
        pass
    raise CelError(f"format: %{verb} does not fit a {type_name(value)}")


def _shown(budget: Budget, value: Value) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_shown(budget, one) for one in value) + "]"
    if isinstance(value, dict):
        pairs = (f"{_shown(budget, key)}: {_shown(budget, value[key])}" for key in sorted(value))
        return "{" + ", ".join(pairs) + "}"
    if value is None:
        return "null"
    return value.name if isinstance(value, Type) else to_string(budget, value)


def _items(values: Value, name: str, budget: Budget) -> list[Value]:
    if not isinstance(values, list):
        raise no_overload(name, values)
    budget.spend(len(values))
    return values


def _is_sorted(budget: Budget, values: Value) -> bool:
    held = _items(values, "isSorted", budget)
    less = BINARY["<="]
    return all(less(one, other, budget) for one, other in itertools.pairwise(held))


def _sum(budget: Budget, values: Value) -> Value:
    held = _items(values, "sum", budget)
    if not held:
        return 0
    total = held[0]
    for one in held[1:]:
        total = add(total, one, budget)
    return total


def _best(name: str, sign: str) -> Function:
    def best(budget: Budget, values: Value) -> Value:
        held = _items(values, name, budget)
        if not held:
            raise CelError(f"{name} called on empty list")
        found = held[0]
        for one in held[1:]:
            if BINARY[sign](one, found, budget):
                found = one
        return found

    return best


def _list_index(values: Value, wanted: Value, last: bool, budget: Budget) -> int:
    held = _items(values, "indexOf", budget)
    order = range(len(held) - 1, -1, -1) if last else range(len(held))
    return next((index for index in order if equal(held[index], wanted, budget)), -1)


def index_of(budget: Budget, value: Value, part: Value, *start: Value) -> int:
    if isinstance(value, list) and not start:
        return _list_index(value, part, False, budget)
    found: int = _text_method("indexOf", _index, str, int)(budget, value, part, *start)
    return found


def last_index_of(budget: Budget, value: Value, part: Value, *end: Value) -> int:
    if isinstance(value, list) and not end:
        return _list_index(value, part, True, budget)
    found: int = _text_method("lastIndexOf", _last_index, str, int)(budget, value, part, *end)
    return found


def _in(one: Value, values: list[Value], budget: Budget) -> bool:
    budget.spend(len(values))
    return any(equal(one, other, budget) for other in values)


def _contains_all(budget: Budget, values: Value, others: Value) -> bool:
    held, wanted = _items(values, "sets.contains", budget), _items(others, "sets.contains", budget)
    return all(_in(one, held, budget) for one in wanted)


def _equivalent(budget: Budget, values: Value, others: Value) -> bool:
    return _contains_all(budget, values, others) and _contains_all(budget, others, values)


def _intersects(budget: Budget, values: Value, others: Value) -> bool:
    held, wanted = _items(values, "sets.intersects", budget), _items(others, "sets", budget)
    return any(_in(one, held, budget) for one in wanted)


GLOBAL: Final[dict[tuple[str, int], Function]] = {
    ("matches", 2): matches,
    ("strings.quote", 1): _quote,
    ("sets.contains", 2): _contains_all,
    ("sets.equivalent", 2): _equivalent,
    ("sets.intersects", 2): _intersects,
}
METHODS: Final[dict[tuple[str, int], Function]] = {
    ("matches", 2): matches,
    ("find", 2): find,
    ("findAll", 2): find_all,
    ("findAll", 3): find_all,
    ("startsWith", 2): _text_method("startsWith", str.startswith, str),
    ("endsWith", 2): _text_method("endsWith", str.endswith, str),
    ("contains", 2): _text_method("contains", str.__contains__, str),
    ("charAt", 2): _text_method("charAt", _char_at, int),
    ("indexOf", 2): index_of,
    ("indexOf", 3): index_of,
    ("lastIndexOf", 2): last_index_of,
    ("lastIndexOf", 3): last_index_of,
    ("lowerAscii", 1): _text_method("lowerAscii", lambda value: value.translate(_LOWER)),
    ("upperAscii", 1): _text_method("upperAscii", lambda value: value.translate(_UPPER)),
    ("trim", 1): _text_method("trim", str.strip),
    ("substring", 2): _text_method("substring", _substring, int),
    ("substring", 3): _text_method("substring", _substring, int, int),
    ("split", 2): _text_method("split", _split, str),
    ("split", 3): _text_method("split", _split, str, int),
    ("replace", 3): _replace,
    ("replace", 4): _replace,
    ("join", 1): _join,
    ("join", 2): _join,
    ("format", 2): _format,
    ("isSorted", 1): _is_sorted,
    ("sum", 1): _sum,
    ("min", 1): _best("min", "<"),
    ("max", 1): _best("max", ">"),
}
