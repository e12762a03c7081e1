"""The seam between the proxy and what carries its traffic."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from meshkube.dataplane.rules import Change, Ruleset
from meshkube.dataplane.services import Left, Settings, Stale


class KernelError(RuntimeError):
    """The rules could not be set; what was there before still is."""


class Kernel(Protocol):
    """Holds the rules. Every call ends in one transaction: all of it or nothing."""

    @property
    def cannot(self) -> Mapping[str, str]:
        """Protocols of Services (`SCTP`) that it does not carry, each with the reason. Known once
        it is open."""
        ...

    @property
    def mode(self) -> str:
        """Its name: `nftables`, `userspace`."""
        ...

    @property
    def limits(self) -> str:
        """What else its users go without, in a sentence; empty: nothing."""
        ...

    async def open(self, settings: Settings, node_ip: str) -> None:
        """Makes the host fit, or raises `KernelError` with what is missing."""
        ...

    async def load(self, ruleset: Ruleset) -> None:
        """Puts the whole ruleset in place of whatever is there, with no moment of no rules."""
        ...

    async def change(self, change: Change, left: Collection[Left] = ()) -> None:
        """`left`: clients with affinity to these choose anew from then on. Raises `KernelError`
        where the kernel does not hold what the change starts from."""
        ...

    async def forget(self, stale: Collection[Stale]) -> int:
        """Ends flows without connections that still go to backends which left."""
        ...

    async def release(self, left: Collection[Left]) -> int:
        """Lets those choose anew who came while that change was made. Returns how many."""
        ...

    async def check(self, ruleset: Ruleset) -> list[str]:
        """Compares with what is there and repairs it. Returns what was wrong, a sentence each."""
        ...

    async def close(self) -> None:
        """Lets go of what this process holds. The rules stay."""
        ...
