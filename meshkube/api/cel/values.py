"""What CEL expressions work on, where plain Python values do not say enough."""

from __future__ import annotations

from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final

Value = Any
INT_LOW: Final = -(1 << 63)
INT_HIGH: Final = (1 << 63) - 1
UINT_HIGH: Final = (1 << 64) - 1


class CelError(Exception):
    """An expression that has no value for this input."""


class OutOfBudget(Exception):
    """An expression took more than it may."""


class CompileError(Exception):
    """Text that is no expression, or one that can never have a value."""


class Budget:
    """How much work is left, in steps of roughly a quarter of a microsecond."""

    __slots__ = ("left",)

    def __init__(self, left: int) -> None:
        self.left = left

    def spend(self, steps: int) -> None:
        """Raises `OutOfBudget`."""
        self.left -= steps
        if self.left < 0:
            raise OutOfBudget


class UInt(int):
    """An unsigned integer: it does not mix with signed ones."""


class Optional:
    """A value that may not be there."""

    __slots__ = ("has", "held")

    def __init__(self, has: bool, held: Value = None) -> None:
        self.has = has
        self.held = held


NONE: Final = Optional(False)


class Type:
    """What `type(x)` gives."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Type) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)


_TYPE_NAMES: Final[tuple[tuple[Any, str], ...]] = (
    (bool, "bool"),
    (UInt, "uint"),
    (int, "int"),
    (float, "double"),
    (str, "string"),
    (bytes, "bytes"),
    (list, "list"),
    (dict, "map"),
    (datetime, "google.protobuf.Timestamp"),
    (timedelta, "google.protobuf.Duration"),
    (Optional, "optional_type"),
    (Type, "type"),
    (IPv4Address | IPv6Address, "net.IP"),
)


def type_name(value: Value) -> str:
    """A value's type as CEL names it."""
    if value is None:
        return "null_type"
    for types, name in _TYPE_NAMES:
        if isinstance(value, types):
            return name
    return type(value).__name__


def is_number(value: Value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def equal(one: Value, other: Value, budget: Budget) -> bool:
    """Equality across types: numbers by value, all else only within one type."""
    if isinstance(one, dict) and isinstance(other, dict):
        budget.spend(2 * len(one))
        return one.keys() == other.keys() and all(equal(one[k], other[k], budget) for k in one)
    if isinstance(one, list) and isinstance(other, list):
        budget.spend(2 * len(one))
        pairs = zip(one, other, strict=False)
        return len(one) == len(other) and all(equal(*pair, budget) for pair in pairs)
    if isinstance(one, Optional) and isinstance(other, Optional):
        return one.has == other.has and equal(one.held, other.held, budget)
    if is_number(one) and is_number(other):
        return bool(one == other)
    return type(one) is type(other) and bool(one == other)


def whole(number: int, kind: type[int] = int) -> int:
    """Raises `CelError` for a number beyond 64 bits."""
    if kind is UInt:
        if not 0 <= number <= UINT_HIGH:
            raise CelError("unsigned integer overflow")
        return UInt(number)
    if not INT_LOW <= number <= INT_HIGH:
        raise CelError("integer overflow")
    return number
