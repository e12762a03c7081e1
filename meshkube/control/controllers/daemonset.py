"""DaemonSets: one pod on each node that should have one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from meshkube.api import kinds, meta
from meshkube.api.errors import ApiError
from meshkube.api.selectors import from_label_selector
from meshkube.api.types import Object
from meshkube.client.informer import Informers
from meshkube.control import indexes, pods
from meshkube.control.controllers import daemon_plan, history, pod_control
from meshkube.control.controllers.daemon_nodes import Placement, new_pod, node_of
from meshkube.control.controllers.daemon_plan import Plan, World
from meshkube.control.loop import Context, Controller
from meshkube.control.ownership import claim, controller_key, settle

FIRST_BACKOFF = 1.0
LONGEST_BACKOFF = 900.0
"""Seconds between two failed pods of one DaemonSet on one node."""


async def reconcile(context: Context, key: str) -> float | None:
    daemon_set = context.caches.of(kinds.DAEMON_SET).get(key)
    if daemon_set is None:
        return None
    owned = await _owned(context, daemon_set)
    revisions = await history.owned(context, kinds.DAEMON_SET, daemon_set)
    if meta.deleting(daemon_set):
        return await _write_status(context, daemon_set, _world(context, daemon_set, owned, ""))
    found = await history.up_to_date(context, kinds.DAEMON_SET, daemon_set, revisions)
    if found is None:
        return None
    newest, revisions = found
    mark = history.hash_of(newest)
    world = _world(context, daemon_set, owned, mark)
    todo, later = _paced(context, daemon_set, daemon_plan.plan(daemon_set, world))
    error = await _act(context, daemon_set, todo, mark)
    if not todo:
        live = {meta.name(r) for r in revisions if _used(r, owned)} | {meta.name(newest)}
        await history.prune(context, daemon_set, revisions, live)
    wait = await _write_status(context, daemon_set, world)
    if error is not None:
        raise error
    return min((w for w in (wait, later) if w is not None), default=None)


def _used(revision: Object, owned: Sequence[Object]) -> bool:
    mark = history.hash_of(revision)
    return any(meta.labels(pod).get(history.POD_HASH) == mark for pod in owned)


async def _owned(context: Context, daemon_set: Object) -> list[Object]:
    selector = from_label_selector(daemon_set["spec"].get("selector") or {})
    cache = context.caches.of(kinds.POD)
    candidates = [
        *cache.by_index(indexes.CONTROLLER, meta.uid(daemon_set)),
        *cache.by_index(indexes.UNCONTROLLED, meta.namespace(daemon_set)),
    ]
    claimed = claim(daemon_set, selector.matches, candidates)
    return await settle(context.client, kinds.DAEMON_SET, daemon_set, kinds.POD, claimed)


def _world(context: Context, daemon_set: Object, owned: Sequence[Object], mark: str) -> World:
    placement = Placement(daemon_set)
    by_node: dict[str, list[Object]] = defaultdict(list)
    for pod in owned:
        node = node_of(pod)
        # One that has ended and is being deleted is the business of its node alone.
        if node and not (meta.deleting(pod) and pods.finished(pod)):
            by_node[node].append(pod)
    return World(
        hash=mark,
        minimum=int(daemon_set["spec"].get("minReadySeconds") or 0),
        nodes={
            meta.name(node): placement.on(node) for node in context.caches.of(kinds.NODE).list()
        },
        pods=by_node,
        now=context.clock.now(),
    )


def _paced(context: Context, daemon_set: Object, todo: Plan) -> tuple[Plan, float | None]:
    """Without those failed pods that came too soon after another on their node; says when to look
    again."""
    waits: list[float] = []
    for pod in todo.finished:
        failed = pods.phase(pod) == "Failed"
        wait = _back_off(context, daemon_set, node_of(pod)) if failed else 0.0
        if wait:
            waits.append(wait)
            todo.delete.remove(pod)
            continue
        _say_ended(context, daemon_set, pod, failed)
    return todo, min(waits, default=None)


def _say_ended(context: Context, daemon_set: Object, pod: Object, failed: bool) -> None:
    where = f"daemon pod {meta.key(pod)} on node {node_of(pod)}, will try to"
    if failed:
        message = f"Found failed {where} kill it"
        context.events.event(daemon_set, "Warning", "FailedDaemonPod", message)
    else:
        message = f"Found succeeded {where} delete it"
        context.events.event(daemon_set, "Normal", "SucceededDaemonPod", message)


def _back_off(context: Context, daemon_set: Object, node: str) -> float:
    """Seconds to wait before the failed pod there may go; 0 where it may, which is remembered."""
    place = f"{meta.uid(daemon_set)} {node}"
    delay, since = context.memory.get(place, (0.0, 0.0))
    now = context.clock.monotonic()
    if now - since < delay:
        return float(delay - (now - since))
    forgotten = now - since > 2 * LONGEST_BACKOFF
    longer = FIRST_BACKOFF if forgotten else min(max(delay * 2, FIRST_BACKOFF), LONGEST_BACKOFF)
    context.memory[place] = (longer, now)
    return 0.0


async def _act(context: Context, daemon_set: Object, todo: Plan, mark: str) -> ApiError | None:
    new = [new_pod(daemon_set, node, mark) for node in todo.create[: pod_control.BURST]]
    error = await pod_control.create_all(context, daemon_set, new)
    if error is not None and pod_control.terminating(error):
        error = None
    doomed = todo.delete[: pod_control.BURST]
    return await pod_control.delete_all(context, daemon_set, doomed) or error


async def _write_status(context: Context, daemon_set: Object, world: World) -> float | None:
    wanted, wait = daemon_plan.status(daemon_set, world)
    if wanted != daemon_set.get("status"):
        changed = {**daemon_set, "status": wanted}
        await context.client.update(kinds.DAEMON_SET, changed, subresource="status")
    return wait


def _of_pod(caches: Informers, old: Object | None, new: Object | None) -> Iterable[str]:
    keys = {*controller_key(old, kinds.DAEMON_SET), *controller_key(new, kinds.DAEMON_SET)}
    if new is not None and meta.controller_of(new) is None and not meta.deleting(new):
        for daemon_set in caches.of(kinds.DAEMON_SET).list(meta.namespace(new)):
            selector = from_label_selector(daemon_set["spec"].get("selector") or {})
            if selector.matches(meta.labels(new)):
                keys.add(meta.key(daemon_set))
    return keys


def _of_node(caches: Informers, old: Object | None, new: Object | None) -> Iterable[str]:
    """Nodes change with each heartbeat; only what decides about pods matters here."""
    if old is not None and new is not None and _decisive(old) == _decisive(new):
        return ()
    keys = []
    for daemon_set in caches.of(kinds.DAEMON_SET).list():
        placement = Placement(daemon_set)
        before = placement.on(old) if old is not None else None
        after = placement.on(new) if new is not None else None
        if before != after:
            keys.append(meta.key(daemon_set))
    return keys


def _decisive(node: Object) -> tuple[object, ...]:
    return meta.labels(node), (node.get("spec") or {}).get("taints")


CONTROLLER = Controller(
    name="daemonset",
    kind=kinds.DAEMON_SET,
    watches={kinds.POD: _of_pod, kinds.NODE: _of_node},
    reads=(kinds.CONTROLLER_REVISION,),
    reconcile=reconcile,
)
