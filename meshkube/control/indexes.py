"""The indexes of the shared caches that controllers and the scheduler look things up by."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from meshkube.api import kinds, meta
from meshkube.api.kinds import Kind
from meshkube.api.types import Object
from meshkube.client.informer import Informers
from meshkube.control import volumes

CONTROLLER = "controller"
"""By the uid of the controlling owner."""
UNCONTROLLED = "uncontrolled"
"""By namespace: what no owner controls."""
NODE = "node"
"""By the name of a pod's node."""
LABEL = "label"
"""Pods by `namespace/key=value` of each of their labels."""
SELECTOR = "selector"
"""Services by `namespace/key=value` of the first label they select."""
OWNER = "owner"
"""Objects of any kind by the uid of each owner."""
SERVICE = "service"
"""EndpointSlices by `namespace/name` of their Service."""

CLAIM = "claim"
"""Pods and PersistentVolumes by `namespace/name` of each claim they name."""
UNCLAIMED = "unclaimed"
"""PersistentVolumes that name no claim, by their class."""
UNBOUND = "unbound"
"""Claims that wait for a volume: all under `*`, by class, and by the volume they name."""
NAMED = "volume="


def _controller(obj: Object) -> Iterable[str]:
    owner = meta.controller_of(obj)
    return (owner["uid"],) if owner else ()


def _uncontrolled(obj: Object) -> Iterable[str]:
    return () if meta.controller_of(obj) else (meta.namespace(obj),)


def _node(pod: Object) -> Iterable[str]:
    name = (pod.get("spec") or {}).get("nodeName")
    return (name,) if name else ()


def _labels(pod: Object) -> Iterable[str]:
    space = meta.namespace(pod)
    return [f"{space}/{key}={value}" for key, value in meta.labels(pod).items()]


def _selector(service: Object) -> Iterable[str]:
    selector = (service.get("spec") or {}).get("selector")
    if not selector:
        return ()
    key = min(selector)
    return (f"{meta.namespace(service)}/{key}={selector[key]}",)


def _owners(obj: Object) -> Iterable[str]:
    return [owner["uid"] for owner in meta.metadata(obj).get("ownerReferences") or ()]


def _service(slice: Object) -> Iterable[str]:
    name = meta.labels(slice).get("kubernetes.io/service-name")
    return (f"{meta.namespace(slice)}/{name}",) if name else ()


def _claims(pod: Object) -> Iterable[str]:
    return [f"{meta.namespace(pod)}/{use.claim}" for use in volumes.claims_of(pod)]


def _claim(volume: Object) -> Iterable[str]:
    key = volumes.claim_key(volume)
    return (key,) if key else ()


def _unclaimed(volume: Object) -> Iterable[str]:
    return () if volumes.claim_key(volume) else (volumes.class_of(volume),)


def _unbound(claim: Object) -> Iterable[str]:
    if volumes.BIND_COMPLETED in meta.annotations(claim):
        return ()
    named = volumes.spec(claim).get("volumeName")
    wanted = (NAMED + named,) if named else (volumes.class_of(claim),)
    return ("*", *wanted)


INDEXES: dict[Kind, dict[str, Callable[[Object], Iterable[str]]]] = {
    kinds.POD: {
        CONTROLLER: _controller,
        UNCONTROLLED: _uncontrolled,
        NODE: _node,
        LABEL: _labels,
        CLAIM: _claims,
    },
    kinds.PERSISTENT_VOLUME: {CLAIM: _claim, UNCLAIMED: _unclaimed},
    kinds.PERSISTENT_VOLUME_CLAIM: {UNBOUND: _unbound},
    kinds.SERVICE: {SELECTOR: _selector},
    kinds.REPLICA_SET: {CONTROLLER: _controller, UNCONTROLLED: _uncontrolled},
    kinds.CONTROLLER_REVISION: {CONTROLLER: _controller, UNCONTROLLED: _uncontrolled},
    kinds.JOB: {CONTROLLER: _controller},
    kinds.ENDPOINT_SLICE: {SERVICE: _service},
}


OWNED: tuple[Kind, ...] = tuple(kind for kind in kinds.STORED if kind is not kinds.EVENT)
"""The kinds whose objects may own and be owned."""


def owned(caches: Informers) -> Iterable[Kind]:
    """The same, with the custom kinds that are followed now."""
    return (*OWNED, *(kind for kind in caches.kinds if kind.definition is not None))


def part(kind: Kind) -> Callable[[Object], Object] | None:
    """What controllers keep of objects that are somebody else's to understand: who owns them."""
    slim = kind.definition is not None or kind is kinds.CUSTOM_RESOURCE_DEFINITION
    return _identity if slim else None


def _identity(obj: Object) -> Object:
    metadata = {key: value for key, value in obj["metadata"].items() if key != "managedFields"}
    return {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "metadata": metadata}


def follow(caches: Informers, kind: Kind) -> None:
    """Starts to follow the objects of a custom kind."""
    caches.of(kind).add_index(OWNER, _owners)


def install(caches: Informers) -> None:
    """Adds them all; before the informers run."""
    for kind, functions in INDEXES.items():
        for name, function in functions.items():
            caches.of(kind).add_index(name, function)
    for kind in OWNED:
        caches.of(kind).add_index(OWNER, _owners)
