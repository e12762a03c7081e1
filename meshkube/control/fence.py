"""Leases as fences: what an old leader sends too late is refused by the store itself.

Beside each Lease of kube-system lies a key that names its present term. It changes in the same
transaction as the holder; whoever writes as a leader names its term, and the store makes that write
only while the key still says so (a fencing token: Kleppmann, "How to do distributed locking").
"""

from __future__ import annotations

from meshkube.api import errors, kinds, meta
from meshkube.api.kinds import Kind
from meshkube.api.types import Object
from meshkube.store import Guard

NAMESPACE = "kube-system"
_ROOT = "/fences/"


def key_of(namespace: str, name: str) -> str:
    """Where the term of a Lease is kept; it is no object, so clients never see it."""
    return f"{_ROOT}{namespace}/{name}"


def term_of(lease: Object) -> bytes:
    """Another value for every other holder, also of a Lease that was deleted and made again."""
    spec = lease.get("spec") or {}
    transitions, holder = spec.get("leaseTransitions") or 0, spec.get("holderIdentity") or ""
    return f"{meta.uid(lease)} {transitions} {holder}".encode()


def fenced(kind: Kind, obj: Object) -> bool:
    """Whether an object is a Lease whose term is kept."""
    return kind is kinds.LEASE and meta.namespace(obj) == NAMESPACE


class Fence:
    """The term that this process leads in, while it does: its election sets it, and the clients of
    the leader's work ask for it at each write."""

    def __init__(self) -> None:
        self._guard: Guard | None = None

    def hold(self, lease: Object) -> None:
        """From now on, writes are made in the term of this Lease."""
        self._guard = Guard(key_of(meta.namespace(lease), meta.name(lease)), term_of(lease))

    def drop(self) -> None:
        """From now on, writes are refused."""
        self._guard = None

    @property
    def guard(self) -> Guard:
        """Raises `ApiError` 503 where this process does not lead."""
        if self._guard is None:
            raise errors.unavailable("this server does not lead any more: nothing was written")
        return self._guard
