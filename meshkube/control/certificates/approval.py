"""Which certificate requests need no person's approval: those of nodes for themselves. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from meshkube import csr
from meshkube.api import meta
from meshkube.api.types import Object
from meshkube.control import pods
from meshkube.control.auth.users import BOOTSTRAP_AGENTS, NODE_PREFIX, NODES
from meshkube.control.certificates import conditions, signers
from meshkube.csr import NODE_KEY, Request

JOINING = timedelta(seconds=30)
"""How long a name is kept for a host that has a certificate, and is not there yet."""


@dataclass(frozen=True, slots=True)
class Verdict:
    approved: bool
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class World:
    """What a decision rests on."""

    node: Callable[[str], Object | None]
    nodes: Callable[[], Iterable[Object]]
    requests: Callable[[], Iterable[Object]]
    now: datetime


def verdict(request: Object, world: World) -> Verdict | None:
    """None: left to a person, or to another approver."""
    spec = request["spec"]
    signer = spec.get("signerName")
    if signer not in (signers.NODE_CLIENT, signers.NODE_SERVING):
        return None
    try:
        wanted = csr.read(conditions.pem(request))
    except csr.BadRequest:
        return None
    if signers.refusal(signer, wanted, spec.get("usages") or ()):
        return None
    groups = spec.get("groups") or ()
    itself = NODES in groups and spec.get("username") == wanted.common_name
    if signer == signers.NODE_SERVING:
        return _serving(wanted, world) if itself else None
    if itself:
        return Verdict(True, "AutoApproved", "a node renews its own certificate")
    if BOOTSTRAP_AGENTS in groups:
        return _joining(request, wanted, world)
    return None


def _serving(wanted: Request, world: World) -> Verdict | None:
    """A node may be served under its own name and addresses, and under no other node's."""
    name = wanted.common_name.removeprefix(NODE_PREFIX)
    node = world.node(name)
    if node is None:
        return None
    own = _addresses(node)
    others = [_addresses(other) for other in world.nodes() if meta.name(other) != name]
    taken: set[str] = set().union(*others)
    asked = {*wanted.dns_names, *wanted.addresses}
    strange = sorted((asked - own - {name}) | (asked & taken))
    if strange:
        why = f"{', '.join(strange)} is not an address of node {name} alone"
        return Verdict(False, "NotItsAddress", why)
    return Verdict(True, "AutoApproved", "a node is served under its own name and addresses")


def _addresses(node: Object) -> set[str]:
    found = (node.get("status") or {}).get("addresses") or ()
    return {one["address"] for one in found if one.get("address")}


def alive(node: Object | None) -> bool:
    """Whether a Node is there and Ready."""
    ready = None if node is None else pods.condition(node, "Ready")
    return ready is not None and ready.get("status") == "True"


def _joining(request: Object, wanted: Request, world: World) -> Verdict:
    """A name belongs to one host at a time: to who has its key, until its node is gone or dead."""
    name = wanted.common_name.removeprefix(NODE_PREFIX)
    node = world.node(name)
    if node is not None:
        if alive(node) and meta.annotations(node).get(NODE_KEY) != wanted.key:
            return Verdict(
                False,
                "NameTaken",
                f"a node named {name} is alive, with another key: give --node-name, or stop that"
                f" host and run `kubectl delete node {name}`",
            )
    elif _other_joins(request, wanted, world):
        return Verdict(
            False,
            "NameTaken",
            f"another host is joining as {name} at this moment: give --node-name, or try again in"
            f" {JOINING.seconds} seconds",
        )
    return Verdict(True, "AutoApproved", "a host joins with a token")


def _other_joins(request: Object, wanted: Request, world: World) -> bool:
    for other in world.requests():
        approved = conditions.condition(other, conditions.APPROVED)
        if approved is None or meta.uid(other) == meta.uid(request):
            continue
        if other["spec"].get("signerName") != signers.NODE_CLIENT:
            continue
        if world.now - meta.parse_timestamp(approved["lastUpdateTime"]) > JOINING:
            continue
        try:
            found = csr.read(conditions.pem(other))
        except csr.BadRequest:
            continue
        if found.common_name != wanted.common_name or found.key == wanted.key:
            continue
        if not _has_joined(found, world):
            return True
    return False


def _has_joined(other: Request, world: World) -> bool:
    """Whether that host came as far as a serving certificate: its Node was there. Where it is not
    any more, somebody has deleted it, and the name is free."""
    for request in world.requests():
        if conditions.condition(request, conditions.APPROVED) is None:
            continue
        if request["spec"].get("signerName") != signers.NODE_SERVING:
            continue
        try:
            found = csr.read(conditions.pem(request))
        except csr.BadRequest:
            continue
        if (found.common_name, found.key) == (other.common_name, other.key):
            return True
    return False
