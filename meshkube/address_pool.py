"""Addresses to give out: CIDRs and ranges, as `--load-balancer-pool` takes them. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Pool:
    """Ranges of addresses, both ends included, in the order in which they are used."""

    ranges: tuple[tuple[Address, Address], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.ranges)

    def __contains__(self, address: str) -> bool:
        try:
            asked = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(_between(first, asked, last) for first, last in self.ranges)

    def has(self, version: int) -> bool:
        """Whether there are addresses of IP version 4 or 6."""
        return any(first.version == version for first, _ in self.ranges)

    def first_free(self, version: int, taken: Collection[str]) -> str | None:
        """None where all of that version are taken."""
        return next((text for text in self._addresses(version) if text not in taken), None)

    def _addresses(self, version: int) -> Iterator[str]:
        for first, last in self.ranges:
            if first.version != version:
                continue
            for number in range(int(first), int(last) + 1):
                address = type(first)(number)
                # Old equipment takes these for a network's own and its broadcast address.
                if version == 6 or first == last or number % 256 not in (0, 255):
                    yield str(address)


def parse(parts: Iterable[str]) -> Pool:
    """`192.0.2.0/28`, `198.51.100.10-198.51.100.20`, `192.0.2.99`. Raises `ValueError`."""
    ranges = [_range(part.strip()) for part in parts if part.strip()]
    for number, (first, last) in enumerate(ranges):
        for other_first, other_last in ranges[:number]:
            if _between(first, other_first, last) or _between(other_first, first, other_last):
                raise ValueError(f"{first}-{last} overlaps {other_first}-{other_last}")
    return Pool(tuple(ranges))


def _range(text: str) -> tuple[Address, Address]:
    if "-" in text:
        low, _, high = text.partition("-")
        first, last = ipaddress.ip_address(low.strip()), ipaddress.ip_address(high.strip())
        if first.version != last.version or int(first) > int(last):
            raise ValueError(f"{text!r} is not a range from a lower to a higher address")
        return first, last
    network = ipaddress.ip_network(text)
    return network[0], network[-1]


def _between(first: Address, asked: Address, last: Address) -> bool:
    return first.version == asked.version and int(first) <= int(asked) <= int(last)
