"""When a node runs short: eviction thresholds, what they say of a look at the host, and for how
long that shows in the Node's conditions. Pure; times are seconds of any steady clock.

Source: Kubernetes documentation, "Node-pressure Eviction".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, get_args

from meshkube.api import quantities

Signal = Literal[
    "memory.available",
    "nodefs.available",
    "nodefs.inodesFree",
    "imagefs.available",
    "imagefs.inodesFree",
    "pid.available",
]
"""In the order in which they are dealt with: memory comes first."""
SIGNALS: Final[tuple[Signal, ...]] = get_args(Signal)
Condition = Literal["MemoryPressure", "DiskPressure", "PIDPressure"]
CONDITIONS: Final[tuple[Condition, ...]] = get_args(Condition)

# The kubelet's own for Linux, and one for process ids, of which the kubelet only tells.
DEFAULT: Final = (
    "memory.available<100Mi,nodefs.available<10%,nodefs.inodesFree<5%,"
    "imagefs.available<15%,imagefs.inodesFree<5%,pid.available<5%"
)
_ONE = re.compile(r"([a-zA-Z.]+)<([^<]+)")
_PERCENT = re.compile(r"([0-9]{1,3}(?:\.[0-9]+)?)%")


class Amount(NamedTuple):
    """Of bytes, inodes or process ids: what is left, and all there is."""

    available: int
    capacity: int


Observations = Mapping[Signal, Amount]
"""A signal that cannot be measured is not among them."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """Below `amount`, or below `share` of the capacity where that is set."""

    signal: Signal
    text: str
    """As it was written: `100Mi`, `10%`."""
    amount: int = 0
    share: float | None = None

    def quantity(self, capacity: int) -> int:
        return self.amount if self.share is None else int(capacity * self.share)


class Met(NamedTuple):
    """A threshold, and what was seen below it."""

    threshold: Threshold
    amount: Amount

    @property
    def condition(self) -> Condition:
        return condition_of(self.threshold.signal)


def parse(text: str) -> tuple[Threshold, ...]:
    """`memory.available<100Mi,nodefs.available<10%`. Raises `ValueError`."""
    found: dict[Signal, Threshold] = {}
    for part in filter(None, (one.strip() for one in text.split(","))):
        threshold = _one(part)
        if threshold.signal in found:
            raise ValueError(f"{threshold.signal} is there twice")
        found[threshold.signal] = threshold
    return tuple(found[signal] for signal in SIGNALS if signal in found)


def _one(part: str) -> Threshold:
    match = _ONE.fullmatch(part)
    if match is None:
        raise ValueError(f"{part!r} is not SIGNAL<QUANTITY, such as memory.available<100Mi")
    name, text = match[1], match[2].strip()
    for signal in SIGNALS:
        if signal == name:
            break
    else:
        raise ValueError(f"{name!r} is none of {', '.join(SIGNALS)}")
    share = _PERCENT.fullmatch(text)
    if share is not None:
        if float(share[1]) > 100:
            raise ValueError(f"{part!r}: more than 100%")
        return Threshold(signal, text, share=float(share[1]) / 100)
    try:
        amount = quantities.value(text)
    except ValueError:
        raise ValueError(f"{part!r}: {text!r} is neither a quantity nor a percentage") from None
    if amount < 0:
        raise ValueError(f"{part!r}: less than 0")
    return Threshold(signal, text, amount=amount)


def condition_of(signal: Signal) -> Condition:
    if signal == "memory.available":
        return "MemoryPressure"
    return "PIDPressure" if signal == "pid.available" else "DiskPressure"


def met(thresholds: Iterable[Threshold], seen: Observations) -> list[Met]:
    """Those that are crossed."""
    found = []
    for threshold in thresholds:
        amount = seen.get(threshold.signal)
        if amount is not None and amount.available < threshold.quantity(amount.capacity):
            found.append(Met(threshold, amount))
    return found


class Conditions:
    """The node's conditions of pressure: each at once with its threshold, and until that has not
    been crossed for `transition` seconds, so that a node on the edge does not flap."""

    def __init__(self, transition: float) -> None:
        self._transition = transition
        self._last: dict[Condition, float] = {}

    def observe(self, found: Iterable[Met], now: float) -> frozenset[Condition]:
        """What holds now."""
        for one in found:
            self._last[one.condition] = now
        self._last = {
            c: at for c, at in self._last.items() if now - at < self._transition or at == now
        }
        return frozenset(self._last)
