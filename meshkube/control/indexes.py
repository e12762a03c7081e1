"""The indexes of the shared caches that controllers and the scheduler look things up by."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from meshkube.api import kinds, meta
from meshkube.api.kinds import Kind
from meshkube.api.types import Object
from meshkube.client.informer import Informers

CONTROLLER = "controller"
"""By the uid of the controlling owner."""
UNCONTROLLED = "uncontrolled"
"""By namespace: what no owner controls."""
NODE = "node"
"""By the name of a pod's node."""
SERVICE = "service"
"""EndpointSlices by `namespace/name` of their Service."""


def _controller(obj: Object) -> Iterable[str]:
    owner = meta.controller_of(obj)
    return (owner["uid"],) if owner else ()


def _uncontrolled(obj: Object) -> Iterable[str]:
    return () if meta.controller_of(obj) else (meta.namespace(obj),)


def _node(pod: Object) -> Iterable[str]:
    name = (pod.get("spec") or {}).get("nodeName")
    return (name,) if name else ()


def _service(slice: Object) -> Iterable[str]:
    name = meta.labels(slice).get("kubernetes.io/service-name")
    return (f"{meta.namespace(slice)}/{name}",) if name else ()


INDEXES: dict[Kind, dict[str, Callable[[Object], Iterable[str]]]] = {
    kinds.POD: {CONTROLLER: _controller, UNCONTROLLED: _uncontrolled, NODE: _node},
    kinds.REPLICA_SET: {CONTROLLER: _controller, UNCONTROLLED: _uncontrolled},
    kinds.ENDPOINT_SLICE: {SERVICE: _service},
}


def install(caches: Informers) -> None:
    """Adds them all; before the informers run."""
    for kind, functions in INDEXES.items():
        for name, function in functions.items():
            caches.of(kind).add_index(name, function)
