"""CEL's operators on values."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from meshkube.api.cel.values import (
    Budget,
    CelError,
    UInt,
    Value,
    equal,
    is_number,
    type_name,
    whole,
)

Operator = Callable[[Value, Value, Budget], Value]


def no_overload(what: str, *values: Value) -> CelError:
    """An operation that these types do not have."""
    types = ", ".join(map(type_name, values))
    return CelError(f"no such overload: {what}({types})")


def _same(one: Value, other: Value) -> type[int] | None:
    """The integer type of two operands of one; None for any others."""
    if isinstance(one, bool) or isinstance(other, bool):
        return None
    if isinstance(one, UInt):
        return UInt if isinstance(other, UInt) else None
    if isinstance(one, int):
        return int if isinstance(other, int) and not isinstance(other, UInt) else None
    return None


def _floats(one: Value, other: Value) -> bool:
    return isinstance(one, float) and isinstance(other, float)


def _times(one: Value, other: Value) -> bool:
    return isinstance(one, datetime | timedelta) and isinstance(other, datetime | timedelta)


def add(one: Value, other: Value, budget: Budget) -> Value:
    kind = _same(one, other)
    if kind is not None:
        return whole(int(one) + int(other), kind)
    if type(one) is type(other) and isinstance(one, str | list | bytes):
        budget.spend((len(one) + len(other)) // 10)
        return one + other
    moments = isinstance(one, datetime) and isinstance(other, datetime)
    if _floats(one, other) or (_times(one, other) and not moments):
        try:
            return one + other
        except OverflowError:
            raise CelError("timestamp overflow") from None
    raise no_overload("_+_", one, other)


def subtract(one: Value, other: Value, budget: Budget) -> Value:
    kind = _same(one, other)
    if kind is not None:
        return whole(int(one) - int(other), kind)
    if _floats(one, other):
        return one - other
    if _times(one, other) and (isinstance(one, datetime) or isinstance(other, timedelta)):
        try:
            return one - other
        except OverflowError:
            raise CelError("timestamp overflow") from None
    raise no_overload("_-_", one, other)


def multiply(one: Value, other: Value, budget: Budget) -> Value:
    kind = _same(one, other)
    if kind is not None:
        return whole(int(one) * int(other), kind)
    if _floats(one, other):
        return one * other
    raise no_overload("_*_", one, other)


def divide(one: Value, other: Value, budget: Budget) -> Value:
    kind = _same(one, other)
    if kind is not None:
        if other == 0:
            raise CelError("division by zero")
        quotient = abs(int(one)) // abs(int(other))
        return whole(quotient if (one < 0) == (other < 0) else -quotient, kind)
    if _floats(one, other):
        if other == 0:
            return float("nan") if one == 0 or one != one else float("inf") * (1 if one > 0 else -1)
        return one / other
    raise no_overload("_/_", one, other)


def modulo(one: Value, other: Value, budget: Budget) -> Value:
    kind = _same(one, other)
    if kind is None:
        raise no_overload("_%_", one, other)
    if other == 0:
        raise CelError("modulus by zero")
    rest = abs(int(one)) % abs(int(other))
    return whole(rest if one >= 0 else -rest, kind)


def contained(one: Value, other: Value, budget: Budget) -> bool:
    """`one in other`."""
    if isinstance(other, list):
        budget.spend(len(other))
        return any(equal(one, held, budget) for held in other)
    if isinstance(other, dict):
        return isinstance(one, str | int | bool) and one in other
    raise no_overload("@in", one, other)


def _compared(name: str, test: Callable[[Value, Value], bool]) -> Operator:
    def compare(one: Value, other: Value, budget: Budget) -> bool:
        if is_number(one) and is_number(other):
            return test(one, other)
        for type_ in (str, bool, bytes, datetime, timedelta):
            if isinstance(one, type_) and isinstance(other, type_):
                return test(one, other)
        raise no_overload(name, one, other)

    return compare


def _equal(one: Value, other: Value, budget: Budget) -> bool:
    if isinstance(one, str | bytes):
        budget.spend(len(one) // 100)
    return equal(one, other, budget)


def _unequal(one: Value, other: Value, budget: Budget) -> bool:
    return not _equal(one, other, budget)


BINARY: Final[dict[str, Operator]] = {
    "+": add,
    "-": subtract,
    "*": multiply,
    "/": divide,
    "%": modulo,
    "in": contained,
    "==": _equal,
    "!=": _unequal,
    "<": _compared("_<_", lambda a, b: bool(a < b)),
    "<=": _compared("_<=_", lambda a, b: bool(a <= b)),
    ">": _compared("_>_", lambda a, b: bool(a > b)),
    ">=": _compared("_>=_", lambda a, b: bool(a >= b)),
}


def minus(value: Value) -> Value:
    if isinstance(value, float | timedelta):
        return -value
    if isinstance(value, int) and not isinstance(value, bool | UInt):
        return whole(-value)
    raise no_overload("-_", value)
