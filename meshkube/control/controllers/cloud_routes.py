"""Routes to the pods of each node, in the network of the cloud.

Source: Kubernetes document "Cloud Controller Manager", route controller.
"""

from __future__ import annotations

from collections.abc import Iterable

from meshkube.api import kinds, meta
from meshkube.api.types import Object
from meshkube.client.informer import Informers
from meshkube.control.cloud.provider import CloudError, Route
from meshkube.control.controllers.node_ipam import cidrs
from meshkube.control.loop import Context, Controller

ALL = "routes"
"""The one key: routes are looked at together."""
RESYNC = 60.0


def wanted(nodes: Iterable[Object]) -> set[Route]:
    return {Route(meta.name(node), cidr) for node in nodes for cidr in cidrs(node)}


async def reconcile(context: Context, key: str) -> float | None:
    routes = context.settings.cloud.routes
    if routes is None:
        return None
    nodes = {meta.name(node): node for node in context.caches.of(kinds.NODE).list()}
    again = None
    there = set(await routes.list())
    needed = wanted(nodes.values())
    for route in sorted(there - needed):
        await routes.delete(route)
    for route in sorted(needed - there):
        try:
            await routes.create(route, nodes[route.node])
        except CloudError as error:
            context.events.event(nodes[route.node], "Warning", error.reason, str(error))
            again = error.again
    return again


def _of_node(caches: Informers, old: Object | None, new: Object | None) -> Iterable[str]:
    return () if old and new and cidrs(old) == cidrs(new) else (ALL,)


CONTROLLER = Controller(
    name="cloud-route",
    keys=lambda caches: (ALL,),
    watches={kinds.NODE: _of_node},
    reconcile=reconcile,
    component="route-controller",
    workers=1,
    resync=RESYNC,
)
