"""Pods that nobody ends: of nodes that are gone, never placed, or finished in large numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from meshkube.api import kinds, meta
from meshkube.api.errors import ApiError
from meshkube.api.types import Object
from meshkube.client.informer import Informers
from meshkube.control import pods
from meshkube.control.controllers.node_zones import ready_status
from meshkube.control.loop import Context, Controller

PERIOD = 20.0
QUARANTINE = 40.0
"""Seconds a node must be missing before its pods go."""
OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"
KEPT_FINISHED = 12500


def surplus(finished: Sequence[Object], kept: int = KEPT_FINISHED) -> list[Object]:
    """The oldest finished pods beyond what is kept."""
    excess = max(len(finished) - kept, 0)
    return sorted(finished, key=lambda pod: (pods.created(pod), meta.key(pod)))[:excess]


def unplaced(everything: Iterable[Object]) -> list[Object]:
    """Pods being deleted that no node runs, and so no node will let go of."""
    return [pod for pod in everything if meta.deleting(pod) and not pods.node_name(pod)]


def missing(everything: Iterable[Object], nodes: Iterable[Object]) -> set[str]:
    """Names of nodes that pods are on and that do not exist."""
    there = {meta.name(node) for node in nodes}
    return {name for pod in everything if (name := pods.node_name(pod)) and name not in there}


def out_of_service(everything: Iterable[Object], nodes: Iterable[Object]) -> list[Object]:
    """Pods that are to go and sit on a node that an operator has declared dead, by a taint, while
    it says nothing itself: they no longer run, and so a StatefulSet may make its pod anew.
    Source: "Node Shutdowns", non-graceful node shutdown handling."""
    dead = {
        meta.name(node)
        for node in nodes
        if ready_status(node) != "True" and OUT_OF_SERVICE in _taint_keys(node)
    }
    return [pod for pod in everything if meta.deleting(pod) and pods.node_name(pod) in dead]


def _taint_keys(node: Object) -> set[str]:
    return {taint.get("key", "") for taint in (node.get("spec") or {}).get("taints") or ()}


async def reconcile(context: Context, key: str) -> float | None:
    everything = context.caches.of(kinds.POD).list()
    nodes = context.caches.of(kinds.NODE).list()
    gone = await _long_missing(context, missing(everything, nodes))
    doomed = [
        *surplus([pod for pod in everything if pods.finished(pod)]),
        *unplaced(everything),
        *out_of_service(everything, nodes),
    ]
    for pod in doomed:
        await _end(context, pod)
    orphaned = pods.disruption(
        "DeletionByPodGC", "PodGC: node no longer exists", context.clock.now()
    )
    for pod in everything:
        if pods.node_name(pod) in gone:
            await _end(context, pod, orphaned)
    return None


async def _long_missing(context: Context, names: set[str]) -> set[str]:
    """Those missing for long enough, by the API's own word too."""
    since: dict[str, float] = context.memory
    now = context.clock.monotonic()
    for name in [name for name in since if name not in names]:
        del since[name]
    gone = set()
    for name in names:
        if now - since.setdefault(name, now) >= QUARANTINE and await _absent(context, name):
            gone.add(name)
    return gone


async def _absent(context: Context, node: str) -> bool:
    try:
        await context.client.get(kinds.NODE, node)
    except ApiError as error:
        if error.code == 404:
            return True
        raise
    return False


async def _end(context: Context, pod: Object, *conditions: Object) -> None:
    """Nobody will say any more how it ended: whoever counts pods takes it as failed."""
    failed: Object = {"phase": "Failed"}
    if conditions:
        failed["conditions"] = [*conditions]
    body = {"metadata": {"uid": meta.uid(pod)}, "status": failed}
    try:
        if not pods.finished(pod):
            await context.client.patch(
                kinds.POD, meta.name(pod), body, meta.namespace(pod),
                type="strategic", subresource="status",
            )  # fmt: skip
        await context.client.delete(
            kinds.POD, meta.name(pod), meta.namespace(pod), grace_period=0, uid=meta.uid(pod)
        )
    except ApiError as error:
        if error.code not in (404, 409):
            raise


def _of_node(caches: Informers, old: Object | None, new: Object | None) -> Iterable[str]:
    declared = new is not None and OUT_OF_SERVICE in _taint_keys(new)
    return ("all",) if new is None or declared else ()


CONTROLLER = Controller(
    name="pod-gc",
    keys=lambda caches: ("all",),
    watches={kinds.NODE: _of_node},
    reads=(kinds.POD,),
    component="pod-garbage-collector",
    workers=1,
    resync=PERIOD,
    reconcile=reconcile,
)
