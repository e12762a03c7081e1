"""Approves the certificate requests of nodes, and denies those for a name that is taken."""

from __future__ import annotations

from collections.abc import Iterable

from meshkube.api import kinds, meta
from meshkube.api.types import Object
from meshkube.client.informer import Informers
from meshkube.control.certificates import approval, conditions, signers
from meshkube.control.loop import Context, Controller

REQUEST = kinds.CERTIFICATE_SIGNING_REQUEST


async def reconcile(context: Context, key: str) -> float | None:
    request = context.caches.of(REQUEST).get(key)
    if request is None or conditions.decided(request) or meta.deleting(request):
        return None
    nodes = context.caches.of(kinds.NODE)
    world = approval.World(
        node=nodes.get,
        nodes=nodes.list,
        requests=context.caches.of(REQUEST).list,
        now=context.clock.now(),
    )
    found = approval.verdict(request, world)
    if found is None:
        return None
    type = conditions.APPROVED if found.approved else conditions.DENIED
    changed = conditions.with_condition(request, type, found.reason, found.message, world.now)
    await context.client.update(REQUEST, changed, subresource="approval")
    return None


def _of_node(caches: Informers, old: Object | None, new: Object | None) -> Iterable[str]:
    """A serving certificate waits for its Node to be there, with the addresses."""
    return [
        meta.key(one)
        for one in caches.of(REQUEST).list()
        if one["spec"].get("signerName") == signers.NODE_SERVING and not conditions.decided(one)
    ]


# One worker: of two hosts that join under one name, the second must see the first.
CONTROLLER = Controller(
    name="csrapproving",
    kind=REQUEST,
    watches={kinds.NODE: _of_node},
    component="certificate-controller",
    reconcile=reconcile,
    workers=1,
)
