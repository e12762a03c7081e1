"""Deployments: ReplicaSets of each template, sized step by step.

`plan` says what the ReplicaSets are to look like now; `reconcile` writes what differs. Each change
of a ReplicaSet's status brings the next step.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from meshkube.api import kinds, meta
from meshkube.api.errors import ApiError
from meshkube.api.intstr import scaled
from meshkube.api.selectors import from_label_selector
from meshkube.api.types import Object
from meshkube.client.informer import Informers
from meshkube.control import indexes, pods
from meshkube.control.controllers import deployment_sizes as sizes
from meshkube.control.controllers import deployment_status, pod_control, revisions
from meshkube.control.controllers.deployment_sizes import Limits, Sized
from meshkube.control.loop import Context, Controller
from meshkube.control.ownership import claim, controller_key, settle
from meshkube.control.told import told


@dataclass(slots=True)
class Plan:
    """What to write, in this order."""

    create: Object | None = None
    update: list[tuple[Object, Object]] = field(default_factory=list)
    """ReplicaSets as they are and as they are to be."""
    delete: list[Object] = field(default_factory=list)
    revision: int = 0
    """What the Deployment's own annotation is to say; 0: leave it."""


def limits_of(deployment: Object) -> Limits:
    """Its numbers, with percents resolved: surge rounds up, unavailable down."""
    spec = deployment["spec"]
    replicas = 1 if spec.get("replicas") is None else int(spec["replicas"])
    strategy = spec.get("strategy") or {}
    if strategy.get("type") == "Recreate":
        return Limits(replicas=replicas, unavailable=replicas, recreate=True)
    rolling = strategy.get("rollingUpdate") or {}
    surge = scaled(_or(rolling.get("maxSurge"), "25%"), replicas, True)
    unavailable = scaled(_or(rolling.get("maxUnavailable"), "25%"), replicas, False)
    if not surge and not unavailable:
        # Percents of few replicas may both round to nothing, and then nothing could ever move.
        unavailable = 1
    return Limits(replicas=replicas, surge=surge, unavailable=min(unavailable, replicas))


def _or(value: int | str | None, default: int | str) -> int | str:
    return default if value is None else value


def sized(replica_set: Object) -> Sized:
    """The numbers of a ReplicaSet."""
    status = replica_set.get("status") or {}
    noted = meta.annotations(replica_set)
    return Sized(
        name=meta.name(replica_set),
        replicas=int(_or(replica_set["spec"].get("replicas"), 1)),
        available=int(status.get("availableReplicas") or 0),
        pods=int(status.get("replicas") or 0),
        desired_then=_number(noted.get(revisions.DESIRED)),
        largest_then=_number(noted.get(revisions.LARGEST)),
    )


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() else None


def plan(deployment: Object, owned: Sequence[Object], old_pods_running: bool) -> Plan:
    """The next step. `old_pods_running`: some pod of an older ReplicaSet has not ended."""
    new, old = revisions.split(deployment, owned)
    limits = limits_of(deployment)
    result = Plan()
    paused = bool(deployment["spec"].get("paused"))
    old_sized = [sized(rs) for rs in old]
    wanted = _wanted(limits, paused, sized(new) if new else None, old_sized, old_pods_running)
    # While it is paused, a new template waits; an existing ReplicaSet of it keeps its revision.
    number = revisions.next_revision(new, old)
    if new is None and not paused:
        held_back = limits.recreate and (old_pods_running or any(s.replicas for s in old_sized))
        if not held_back:
            size = sizes.first_size(limits, old_sized)
            result.create = new_replica_set(deployment, number, size, limits)
            result.revision = number
            return result
    for rs in [*([new] if new else []), *old]:
        changed = _changed(deployment, rs, rs is new and not paused, number, wanted, limits)
        if changed != rs:
            result.update.append((rs, changed))
    if new is not None:
        result.revision = revisions.revision(new) if paused else number
    done = deployment_status.complete(deployment, deployment.get("status") or {})
    if paused or done:
        result.delete = revisions.surplus(deployment, old)
    return result


def _wanted(
    limits: Limits, paused: bool, new: Sized | None, old: Sequence[Sized], old_pods_running: bool
) -> sizes.Sizes:
    everything = [*old, *([new] if new else [])]
    if paused or sizes.scaled_since(limits, everything):
        return sizes.scale(limits, new, old)
    if limits.recreate:
        return sizes.recreate(limits, new, old, old_pods_running)
    if new is None:
        return {}
    return sizes.roll(limits, new, old)


def _changed(
    deployment: Object,
    replica_set: Object,
    is_new: bool,
    number: int,
    wanted: sizes.Sizes,
    limits: Limits,
) -> Object:
    changed = meta.copy(replica_set)
    if is_new:
        noted = revisions.annotated(deployment, replica_set, number)
        changed["metadata"]["annotations"] = noted
        seconds = int(deployment["spec"].get("minReadySeconds") or 0)
        if int(changed["spec"].get("minReadySeconds") or 0) != seconds:
            changed["spec"]["minReadySeconds"] = seconds
    size = wanted.get(meta.name(replica_set), sized(replica_set).replicas)
    changed["spec"]["replicas"] = size
    if size > 0:
        _note_size(changed, limits)
    return changed


def _note_size(replica_set: Object, limits: Limits) -> None:
    noted = replica_set["metadata"].setdefault("annotations", {})
    noted[revisions.DESIRED] = str(limits.replicas)
    noted[revisions.LARGEST] = str(limits.replicas + limits.surge)


def new_replica_set(deployment: Object, number: int, size: int, limits: Limits) -> Object:
    """The ReplicaSet of the present template."""
    spec = deployment["spec"]
    collisions = int((deployment.get("status") or {}).get("collisionCount") or 0)
    mark = {revisions.TEMPLATE_HASH: revisions.template_hash(spec["template"], collisions)}
    template = meta.copy(spec["template"])
    described = template.setdefault("metadata", {})
    described["labels"] = {**(described.get("labels") or {}), **mark}
    selector = meta.copy(spec["selector"])
    selector["matchLabels"] = {**(selector.get("matchLabels") or {}), **mark}
    made: Object = {
        "apiVersion": kinds.REPLICA_SET.api_version,
        "kind": kinds.REPLICA_SET.kind,
        "metadata": {
            "name": f"{meta.name(deployment)}-{mark[revisions.TEMPLATE_HASH]}",
            "namespace": meta.namespace(deployment),
            "labels": described["labels"],
            "annotations": revisions.annotated(deployment, None, number),
            "ownerReferences": [meta.owner_reference(kinds.DEPLOYMENT, deployment)],
        },
        "spec": {"replicas": size, "selector": selector, "template": template},
    }
    if spec.get("minReadySeconds"):
        made["spec"]["minReadySeconds"] = spec["minReadySeconds"]
    _note_size(made, limits)
    return made


async def reconcile(context: Context, key: str) -> float | None:
    deployment = context.caches.of(kinds.DEPLOYMENT).get(key)
    if deployment is None:
        return None
    owned = await _owned(context, deployment)
    if meta.deleting(deployment):
        return await _write_status(context, deployment, owned, None)
    fact = None
    if pods.condition(deployment, "Progressing") is None:
        new, _ = revisions.split(deployment, owned)
        fact = deployment_status.found(meta.name(new)) if new else None
    todo = plan(deployment, owned, _old_pods_running(context, deployment, owned))
    if todo.create is not None:
        return await _create(context, deployment, owned, todo)
    for before, after in todo.update:
        stored = await context.client.update(kinds.REPLICA_SET, after)
        _say_scaled(context, deployment, before, after)
        owned = [stored if meta.uid(rs) == meta.uid(stored) else rs for rs in owned]
    for rs in todo.delete:
        try:
            await context.client.delete(
                kinds.REPLICA_SET, meta.name(rs), meta.namespace(rs), uid=meta.uid(rs),
                resource_version=meta.resource_version(rs),
            )  # fmt: skip
        except ApiError as error:
            if error.code != 404:
                raise
        owned = [other for other in owned if other is not rs]
    deployment = await _write_revision(context, deployment, todo.revision)
    return await _write_status(context, deployment, owned, fact)


async def _owned(context: Context, deployment: Object) -> list[Object]:
    selector = from_label_selector(deployment["spec"].get("selector") or {})
    cache = context.caches.of(kinds.REPLICA_SET)
    candidates = [
        *cache.by_index(indexes.CONTROLLER, meta.uid(deployment)),
        *cache.by_index(indexes.UNCONTROLLED, meta.namespace(deployment)),
    ]
    claimed = claim(deployment, selector.matches, candidates)
    return await settle(context.client, kinds.DEPLOYMENT, deployment, kinds.REPLICA_SET, claimed)


def _old_pods_running(context: Context, deployment: Object, owned: Sequence[Object]) -> bool:
    _, old = revisions.split(deployment, owned)
    cache = context.caches.of(kinds.POD)
    return any(
        not pods.finished(pod)
        for rs in old
        for pod in cache.by_index(indexes.CONTROLLER, meta.uid(rs))
    )


async def _create(
    context: Context, deployment: Object, owned: list[Object], todo: Plan
) -> float | None:
    wanted = todo.create or {}
    name = meta.name(wanted)
    try:
        made = await context.client.create(kinds.REPLICA_SET, wanted)
    except ApiError as error:
        if error.code != 409:
            fact = deployment_status.create_failed(name, error.message)
            await _write_status(context, deployment, owned, fact)
            if not pod_control.terminating(error):
                context.events.event(deployment, "Warning", fact.reason, fact.message)
            raise told(error) from error
        return await _collided(context, deployment, owned, wanted)
    size = int(wanted["spec"]["replicas"])
    if size:
        message = f"Scaled up replica set {name} from 0 to {size}"
        context.events.event(deployment, "Normal", "ScalingReplicaSet", message)
    deployment = await _write_revision(context, deployment, todo.revision)
    fact = deployment_status.created(name)
    return await _write_status(context, deployment, [*owned, made], fact)


async def _collided(
    context: Context, deployment: Object, owned: Sequence[Object], wanted: Object
) -> float | None:
    """The name is taken: by our own that the cache does not show yet, or by the same hash of
    another template. Then the next try hashes with one more collision."""
    current = await context.client.get(kinds.REPLICA_SET, meta.name(wanted), meta.namespace(wanted))
    controller = meta.controller_of(current)
    ours = controller is not None and controller.get("uid") == meta.uid(deployment)
    templates = (current["spec"]["template"], deployment["spec"]["template"])
    if ours and revisions.same_template(*templates):
        context.client.freshness.wrote(context.client.key, kinds.REPLICA_SET, current)
        return 0.0
    status = meta.copy(deployment.get("status") or {})
    status["collisionCount"] = int(status.get("collisionCount") or 0) + 1
    changed = {**deployment, "status": status}
    await context.client.update(kinds.DEPLOYMENT, changed, subresource="status")
    return None


def _say_scaled(context: Context, deployment: Object, before: Object, after: Object) -> None:
    was, now = sized(before).replicas, sized(after).replicas
    if was == now:
        return
    direction = "up" if now > was else "down"
    message = f"Scaled {direction} replica set {meta.name(after)} from {was} to {now}"
    context.events.event(deployment, "Normal", "ScalingReplicaSet", message)


async def _write_revision(context: Context, deployment: Object, number: int) -> Object:
    if not number or revisions.revision(deployment) == number:
        return deployment
    changed = meta.copy(deployment)
    changed["metadata"].setdefault("annotations", {})[revisions.REVISION] = str(number)
    return await context.client.update(kinds.DEPLOYMENT, changed)


async def _write_status(
    context: Context,
    deployment: Object,
    owned: Sequence[Object],
    fact: deployment_status.Fact | None,
) -> float | None:
    new, old = revisions.split(deployment, owned)
    status, wait = deployment_status.compute(
        deployment, new, old, limits_of(deployment), context.clock.now(), fact
    )
    if status != deployment.get("status"):
        changed = {**deployment, "status": status}
        await context.client.update(kinds.DEPLOYMENT, changed, subresource="status")
    return wait


def _of_replica_set(caches: Informers, old: Object | None, new: Object | None) -> Iterable[str]:
    keys = {*controller_key(old, kinds.DEPLOYMENT), *controller_key(new, kinds.DEPLOYMENT)}
    if new is not None and meta.controller_of(new) is None and not meta.deleting(new):
        for deployment in caches.of(kinds.DEPLOYMENT).list(meta.namespace(new)):
            selector = from_label_selector(deployment["spec"].get("selector") or {})
            if selector.matches(meta.labels(new)):
                keys.add(meta.key(deployment))
    return keys


def _of_pod(caches: Informers, old: Object | None, new: Object | None) -> Iterable[str]:
    """Recreate waits for the last old pod to be gone."""
    if old is None or (new is not None and not pods.finished(new)):
        return ()
    for key in controller_key(old, kinds.REPLICA_SET):
        replica_set = caches.of(kinds.REPLICA_SET).get(key)
        for deployment_key in controller_key(replica_set, kinds.DEPLOYMENT):
            deployment = caches.of(kinds.DEPLOYMENT).get(deployment_key)
            if deployment is not None and limits_of(deployment).recreate:
                return (deployment_key,)
    return ()


CONTROLLER = Controller(
    name="deployment",
    kind=kinds.DEPLOYMENT,
    watches={kinds.REPLICA_SET: _of_replica_set, kinds.POD: _of_pod},
    reconcile=reconcile,
)
