"""StatefulSets: pods with names and storage that stay, made and replaced in order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from meshkube.api import kinds, meta
from meshkube.api.errors import ApiError
from meshkube.api.selectors import from_label_selector
from meshkube.api.types import Object
from meshkube.client.informer import Informers
from meshkube.control import indexes, pods
from meshkube.control.controllers import history, stateful_plan
from meshkube.control.controllers import stateful_pods as identity
from meshkube.control.controllers.stateful_plan import Plan, World
from meshkube.control.loop import Context, Controller
from meshkube.control.ownership import claim, controller_key, settle
from meshkube.control.told import told

LOOK_AGAIN = 1.0


async def reconcile(context: Context, key: str) -> float | None:
    stateful_set = context.caches.of(kinds.STATEFUL_SET).get(key)
    if stateful_set is None:
        return None
    owned = await _owned(context, stateful_set)
    revisions = await history.owned(context, kinds.STATEFUL_SET, stateful_set)
    found = await history.up_to_date(context, kinds.STATEFUL_SET, stateful_set, revisions)
    if found is None:
        return None
    update, revisions = found
    before = (stateful_set.get("status") or {}).get("currentRevision")
    current = next((r for r in revisions if meta.name(r) == before), update)
    world = World(stateful_set, owned, current, update, context.clock.now())
    again: float | None = None
    failed: ApiError | None = None
    if not meta.deleting(stateful_set):
        await _keep_owners(context, stateful_set, owned)
        try:
            again = await _act(context, stateful_set, stateful_plan.plan(world))
        except ApiError as error:
            # How its other pods are is said all the same.
            failed = error
    wait = await _write_status(context, world)
    if failed is not None:
        raise failed
    live = {meta.name(current), meta.name(update), *map(identity.revision_of, owned)}
    await history.prune(context, stateful_set, revisions, live)
    return min((w for w in (wait, again) if w is not None), default=None)


async def _owned(context: Context, stateful_set: Object) -> list[Object]:
    selector = from_label_selector(stateful_set["spec"].get("selector") or {})
    cache = context.caches.of(kinds.POD)
    orphans = cache.by_index(indexes.UNCONTROLLED, meta.namespace(stateful_set))
    candidates = [
        *cache.by_index(indexes.CONTROLLER, meta.uid(stateful_set)),
        *(pod for pod in orphans if identity.is_member(stateful_set, pod)),
    ]
    claimed = claim(stateful_set, selector.matches, candidates)
    owned = await settle(context.client, kinds.STATEFUL_SET, stateful_set, kinds.POD, claimed)
    return [pod for pod in owned if identity.is_member(stateful_set, pod)]


async def _act(context: Context, stateful_set: Object, todo: Plan) -> float | None:
    """Seconds to the next try, where a claim must go first."""
    for pod in todo.claims:
        await _ensure_claims(context, stateful_set, pod)
    for pod in todo.create:
        if not await _create(context, stateful_set, pod):
            return LOOK_AGAIN
    for pod in todo.repair:
        repaired = meta.copy(pod)
        repaired["metadata"].setdefault("labels", {})[identity.POD_NAME] = meta.name(pod)
        if repaired != pod:
            await context.client.update(kinds.POD, repaired)
    for pod in todo.delete:
        await _delete(context, stateful_set, pod)
    return None


async def _create(context: Context, stateful_set: Object, pod: Object) -> bool:
    """False where a claim of an earlier pod of that name is still on its way out."""
    try:
        if not await _ensure_claims(context, stateful_set, pod):
            return False
        await context.client.create(kinds.POD, pod)
    except ApiError as error:
        if error.code == 409:
            # Another pod has the name: the cache will show it, or it is none of ours.
            return False
        _say(context, stateful_set, "create", pod, error)
        raise told(error) from error
    _say(context, stateful_set, "create", pod)
    return True


async def _delete(context: Context, stateful_set: Object, pod: Object) -> None:
    if pods.finished(pod):
        reason = "RecreatingFailedPod" if pods.phase(pod) == "Failed" else "RecreatingTerminatedPod"
        word = "failed" if pods.phase(pod) == "Failed" else "terminated"
        message = f"StatefulSet {meta.key(stateful_set)} is recreating {word} Pod {meta.name(pod)}"
        context.events.event(stateful_set, "Warning", reason, message)
    try:
        await context.client.delete(
            kinds.POD, meta.name(pod), meta.namespace(pod), uid=meta.uid(pod)
        )
    except ApiError as error:
        if error.code == 404:
            return
        _say(context, stateful_set, "delete", pod, error)
        raise told(error) from error
    _say(context, stateful_set, "delete", pod)


def _say(
    context: Context, stateful_set: Object, verb: str, pod: Object, error: ApiError | None = None
) -> None:
    what = f"{verb} Pod {meta.name(pod)} in StatefulSet {meta.name(stateful_set)}"
    if error is None:
        reason, message = f"Successful{verb.capitalize()}", f"{what} successful"
        context.events.event(stateful_set, "Normal", reason, message)
    else:
        reason, message = f"Failed{verb.capitalize()}", f"{what} failed error: {error.message}"
        context.events.event(stateful_set, "Warning", reason, message)


async def _ensure_claims(context: Context, stateful_set: Object, pod: Object) -> bool:
    """Makes the claims that are missing. False where one is being deleted, or will be."""
    cache = context.caches.of(kinds.PERSISTENT_VOLUME_CLAIM)
    for wanted in identity.claims(stateful_set, pod):
        there = cache.get(meta.key(wanted))
        if there is None:
            await _create_claim(context, stateful_set, pod, wanted)
        elif meta.deleting(there) or _of_earlier(there, pod):
            return False
    return True


def _of_earlier(claim: Object, pod: Object) -> bool:
    """True where it belongs to a pod of this name that was, and goes with that one."""
    owners = meta.metadata(claim).get("ownerReferences") or ()
    return any(
        owner.get("kind") == "Pod"
        and owner.get("name") == meta.name(pod)
        and owner.get("uid") != meta.uid(pod)
        for owner in owners
    )


async def _create_claim(
    context: Context, stateful_set: Object, pod: Object, wanted: Object
) -> None:
    what = (
        f"create Claim {meta.name(wanted)} Pod {meta.name(pod)}"
        f" in StatefulSet {meta.name(stateful_set)}"
    )
    try:
        await context.client.create(kinds.PERSISTENT_VOLUME_CLAIM, wanted)
    except ApiError as error:
        if error.code == 409:
            return
        message = f"{what} failed error: {error.message}"
        context.events.event(stateful_set, "Warning", "FailedCreate", message)
        raise told(error) from error
    context.events.event(stateful_set, "Normal", "SuccessfulCreate", f"{what} success")


async def _keep_owners(context: Context, stateful_set: Object, owned: Sequence[Object]) -> None:
    """Whose claims are: with whom they go, by the retention policy."""
    cache = context.caches.of(kinds.PERSISTENT_VOLUME_CLAIM)
    for pod in owned:
        for _, name in identity.claim_names(stateful_set, identity.ordinal(pod)):
            there = cache.get(f"{meta.namespace(pod)}/{name}")
            if there is None:
                continue
            owners = meta.metadata(there).get("ownerReferences") or []
            wanted = identity.owners_of_claim(stateful_set, pod, owners)
            if wanted != owners:
                changed = meta.copy(there)
                changed["metadata"]["ownerReferences"] = wanted
                await context.client.update(kinds.PERSISTENT_VOLUME_CLAIM, changed)


async def _write_status(context: Context, world: World) -> float | None:
    before = world.stateful_set.get("status") or {}
    wanted, wait = stateful_plan.status(world, int(before.get("collisionCount") or 0))
    if wanted != before:
        changed = {**world.stateful_set, "status": wanted}
        await context.client.update(kinds.STATEFUL_SET, changed, subresource="status")
    return wait


def _of_pod(caches: Informers, old: Object | None, new: Object | None) -> Iterable[str]:
    keys = {*controller_key(old, kinds.STATEFUL_SET), *controller_key(new, kinds.STATEFUL_SET)}
    if new is not None and meta.controller_of(new) is None and not meta.deleting(new):
        for stateful_set in caches.of(kinds.STATEFUL_SET).list(meta.namespace(new)):
            if identity.is_member(stateful_set, new):
                keys.add(meta.key(stateful_set))
    return keys


CONTROLLER = Controller(
    name="statefulset",
    kind=kinds.STATEFUL_SET,
    watches={kinds.POD: _of_pod},
    reads=(kinds.CONTROLLER_REVISION, kinds.PERSISTENT_VOLUME_CLAIM),
    reconcile=reconcile,
)
