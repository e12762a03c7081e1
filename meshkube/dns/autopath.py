"""The rest of a pod's search list, gone through here. Pure.

A pod that wants `example.org` asks for `example.org.shop.svc.cluster.local` first, and for more of
the sort before the name that exists. A name that does not exist, in a namespace that does, is the
start of such a walk: its end is known here, and comes back at once as an alias (CoreDNS' autopath).
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import NamedTuple

from meshkube.dns import names


class Walk(NamedTuple):
    """Where a walk that began at some name goes on."""

    inside: tuple[bytes, ...]
    """Names in the cluster's zone, in turn."""
    outside: tuple[bytes, ...]
    """Names for an upstream, in turn."""


class Autopath:
    """Knows the search list that every pod has."""

    def __init__(self, domain: str, host_search: Sequence[str] = ()) -> None:
        """`host_search` is the host's own search list, which pods inherit."""
        self._domain = names.encode(domain)
        self._services = names.encode(f"svc.{domain}")
        self._host_search = tuple(names.encode(each) for each in host_search)
        self.namespaces: Container[str] | None = None
        """None while they are not known: then nothing is a walk's start."""

    def walk(self, name: bytes) -> Walk | None:
        """The names that come after this one in its search list; None where it is not the first
        of one. A single label goes nowhere outside: no public name has but one."""
        if self.namespaces is None or not name.endswith(self._services):
            return None
        labels = _labels(name[: -len(self._services)])
        if len(labels) < 2 or labels[-1].decode("ascii", "replace") not in self.namespaces:
            return None
        typed = b"".join(bytes([len(label)]) + label for label in labels[:-1])
        outside: tuple[bytes, ...] = ()
        if len(labels) > 2:
            outside = tuple(typed + suffix for suffix in (*self._host_search, b"\0"))
        return Walk((typed + self._services, typed + self._domain), _valid(outside))


def _labels(prefix: bytes) -> list[bytes]:
    labels = []
    position = 0
    while position < len(prefix):
        end = position + 1 + prefix[position]
        labels.append(prefix[position + 1 : end])
        position = end
    return labels


def _valid(found: tuple[bytes, ...]) -> tuple[bytes, ...]:
    return tuple(name for name in found if len(name) <= names.LONGEST_NAME)
