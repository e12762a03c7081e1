"""Quantities: `500m`, `1.5Gi`, `2e3`, with Kubernetes' own rules for reading and writing them.

A quantity is a fixed-point number and the form it is written in. Precision ends at one billionth
(what is finer is rounded away from zero) and the magnitude at 2^63-1 (what is larger is capped).
Source: the Kubernetes API reference, "Quantity".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Literal

Form = Literal["decimal", "binary", "exponent"]
Readable = str | int | float
"""What JSON may hold for a quantity: a string, or a bare number."""

NANO = 10**9
LARGEST = (2**63 - 1) * NANO

_DECIMAL = {
    "n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18,
}  # fmt: skip
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_DECIMAL_SUFFIX = {power: suffix for suffix, power in _DECIMAL.items()}
_BINARY_SUFFIX = ("", *_BINARY)

_NUMBER = re.compile(r"([+-]?)([0-9]*)(?:\.([0-9]*))?([eEinumkKMGTP]*[-+]?[0-9]*)", re.ASCII)
_EXPONENT = re.compile(r"[eE]([+-]?[0-9]{1,9})", re.ASCII)

_WRONG_FORMAT = (
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
)
_WRONG_SUFFIX = "unable to parse quantity's suffix"


@dataclass(frozen=True, slots=True)
class Quantity:
    """An amount in billionths, and the form it was written in."""

    nanos: int
    form: Form = "decimal"

    def __str__(self) -> str:
        """The canonical form: no fraction, the largest suffix that allows it."""
        if not self.nanos:
            return "0"
        if self.form == "binary" and self.nanos % NANO == 0 and abs(self.nanos) >= 1024 * NANO:
            return _binary_text(self.nanos // NANO)
        return _decimal_text(self.nanos, self.form == "exponent")

    def __add__(self, other: Quantity) -> Quantity:
        """The sum, in the form of the first operand that is not zero."""
        return Quantity(self.nanos + other.nanos, self.form if self.nanos else other.form)

    def __sub__(self, other: Quantity) -> Quantity:
        return Quantity(self.nanos - other.nanos, self.form if self.nanos else other.form)


def quantity(text: Readable) -> Quantity:
    """Reads a quantity. Raises `ValueError` in Kubernetes' words."""
    if isinstance(text, bool) or not isinstance(text, str | int | float):
        raise ValueError(_WRONG_FORMAT)
    return _quantity(text if isinstance(text, str) else str(text))


def parse(text: Readable) -> Decimal:
    """The amount, exactly. Raises `ValueError`."""
    return Decimal(quantity(text).nanos).scaleb(-9)


def milli(text: Readable) -> int:
    """The amount in thousandths, rounded away from zero: `0.5` is 500. Raises `ValueError`."""
    return _scaled(quantity(text).nanos, 10**6)


def value(text: Readable) -> int:
    """The amount as a whole number, rounded away from zero: `1Ki` is 1024. Raises `ValueError`."""
    return _scaled(quantity(text).nanos, NANO)


def canonical(text: Readable) -> str:
    """The one form the API writes: `1000m` becomes `1`, `1024Ki` becomes `1Mi`.
    Raises `ValueError`."""
    return str(quantity(text))


def add(one: Readable, other: Readable) -> str:
    """The sum in canonical form, in the first operand's form. Raises `ValueError`."""
    return str(quantity(one) + quantity(other))


def compare(one: Readable, other: Readable) -> int:
    """-1, 0 or 1, as `one` is less than, equal to or greater than `other`. Raises `ValueError`."""
    left, right = quantity(one).nanos, quantity(other).nanos
    return (left > right) - (left < right)


def _scaled(nanos: int, unit: int) -> int:
    return -(-nanos // unit) if nanos >= 0 else nanos // unit


@lru_cache(maxsize=4096)
def _quantity(text: str) -> Quantity:
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise ValueError(_WRONG_FORMAT)
    sign, whole, fraction, suffix = match.groups(default="")
    if not whole and not fraction:
        raise ValueError(_WRONG_FORMAT)
    form, base, power = _suffix(suffix)
    nanos = _nanos(int(whole + fraction), len(fraction), base, power)
    nanos = min(nanos, LARGEST)
    if form == "binary" and nanos < NANO:
        form = "decimal"
    return Quantity(-nanos if sign == "-" else nanos, form)


def _suffix(suffix: str) -> tuple[Form, int, int]:
    """`(form, base, power)`: what the number is multiplied by."""
    if suffix in _DECIMAL:
        return "decimal", 10, _DECIMAL[suffix]
    if suffix in _BINARY:
        return "binary", 2, _BINARY[suffix]
    exponent = _EXPONENT.fullmatch(suffix)
    if exponent is None:
        raise ValueError(_WRONG_SUFFIX)
    return "exponent", 10, int(exponent[1])


def _nanos(digits: int, places: int, base: int, power: int) -> int:
    """`digits / 10**places * base**power` in billionths, rounded up."""
    if base == 2:
        return -(-(digits << power) * NANO // _ten(places))
    # An exponent may be any size, the result may not: stop before the power does harm.
    shift = power + 9 - places
    if shift >= 0:
        return digits * _ten(min(shift, 40))
    return -(-digits // _ten(min(-shift, len(str(digits)) + 1)))


def _ten(power: int) -> int:
    return int(10**power)


def _binary_text(amount: int) -> str:
    step = 0
    while step < len(_BINARY_SUFFIX) - 1 and amount % 1024 == 0:
        amount, step = amount // 1024, step + 1
    return f"{amount}{_BINARY_SUFFIX[step]}"


def _decimal_text(nanos: int, exponent: bool) -> str:
    power = -9
    while nanos % 1000 == 0 and power < 18:
        nanos, power = nanos // 1000, power + 3
    if exponent:
        return f"{nanos}e{power}" if power else str(nanos)
    return f"{nanos}{_DECIMAL_SUFFIX[power]}"
