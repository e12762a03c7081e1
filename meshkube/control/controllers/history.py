"""ControllerRevisions: the pod templates that a DaemonSet or a StatefulSet had, numbered.

`kubectl rollout history` lists them, `kubectl rollout undo` applies the `data` of one as a
strategic merge patch. A template that comes back gets no new revision: the old one becomes the
newest.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from meshkube.api import kinds, meta
from meshkube.api.errors import ApiError
from meshkube.api.kinds import Kind
from meshkube.api.selectors import from_label_selector
from meshkube.api.types import Object
from meshkube.control import indexes
from meshkube.control.controllers.revisions import template_hash
from meshkube.control.loop import Context
from meshkube.control.ownership import claim, settle

HASH = "controller.kubernetes.io/hash"
POD_HASH = "controller-revision-hash"


@dataclass(frozen=True, slots=True)
class Step:
    """What brings the history up to date: a revision to make, or one to give a higher number.
    `newest` is then that of the present template."""

    newest: Object
    create: bool = False
    renumber: bool = False


def data_of(template: Object) -> Object:
    """A patch that puts this template in the place of whatever there is.

    Laid out as Kubernetes' own controllers do it, keys in order and empty fields of theirs
    included: clients find the revision of a template by its very bytes.
    """
    spec = dict(template.get("spec") or {})
    for field in ("containers", "initContainers"):
        if field in spec:
            spec[field] = [{"resources": {}, **container} for container in spec[field]]
    if "volumes" in spec:
        spec["volumes"] = [_volume(volume) for volume in spec["volumes"]]
    whole = {**template, "metadata": _metadata(template), "spec": spec, "$patch": "replace"}
    return {"spec": {"template": _in_key_order(whole)}}


def _volume(volume: Object) -> Object:
    claim = (volume.get("ephemeral") or {}).get("volumeClaimTemplate")
    if claim is None:
        return volume
    spec = {"resources": {}, **(claim.get("spec") or {})}
    claim = {**claim, "metadata": _metadata(claim), "spec": spec}
    return {**volume, "ephemeral": {**volume["ephemeral"], "volumeClaimTemplate": claim}}


def _metadata(obj: Object) -> Object:
    return {**(obj.get("metadata") or {}), "creationTimestamp": None}


def _in_key_order(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _in_key_order(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [_in_key_order(item) for item in value]
    return value


def template_of(revision: Object) -> Object:
    """The template that a revision keeps."""
    template = (revision.get("data") or {}).get("spec", {}).get("template") or {}
    metadata = {k: v for k, v in (template.get("metadata") or {}).items() if v is not None}
    return {**{k: v for k, v in template.items() if k != "$patch"}, "metadata": metadata}


def number(revision: Object) -> int:
    return int(revision.get("revision") or 0)


def in_order(revisions: Sequence[Object]) -> list[Object]:
    """Oldest first."""
    return sorted(revisions, key=lambda r: (number(r), meta.metadata(r).get("creationTimestamp")))


def step(kind: Kind, owner: Object, revisions: Sequence[Object]) -> Step:
    """Whether the present template of `owner` is in its history, and is the newest there."""
    template = owner["spec"]["template"]
    ordered = in_order(revisions)
    equal = next((r for r in reversed(ordered) if _keeps(r, template)), None)
    if equal is None:
        latest = number(ordered[-1]) if ordered else 0
        return Step(_new(kind, owner, latest + 1), create=True)
    if equal is ordered[-1]:
        return Step(equal)
    return Step({**equal, "revision": number(ordered[-1]) + 1}, renumber=True)


def _keeps(revision: Object, template: Object) -> bool:
    data = revision.get("data")
    # The second is how releases before wrote it.
    return data == data_of(template) or data == {
        "spec": {"template": {**template, "$patch": "replace"}}
    }


def _new(kind: Kind, owner: Object, revision: int) -> Object:
    template = owner["spec"]["template"]
    collisions = int((owner.get("status") or {}).get("collisionCount") or 0)
    mark = template_hash(template, collisions)
    # A DaemonSet marks its revisions by the label of its pods.
    label = POD_HASH if kind is kinds.DAEMON_SET else HASH
    labels = (template.get("metadata") or {}).get("labels") or {}
    return {
        "apiVersion": kinds.CONTROLLER_REVISION.api_version,
        "kind": kinds.CONTROLLER_REVISION.kind,
        "metadata": {
            "name": f"{meta.name(owner)}-{mark}",
            "namespace": meta.namespace(owner),
            "labels": {**labels, label: mark},
            "annotations": dict(meta.annotations(owner)),
            "ownerReferences": [meta.owner_reference(kind, owner)],
        },
        "revision": revision,
        "data": data_of(template),
    }


def hash_of(revision: Object) -> str:
    """The mark of a revision: the end of its name."""
    labels = meta.labels(revision)
    return labels.get(POD_HASH) or labels.get(HASH) or ""


def surplus(revisions: Sequence[Object], live: Collection[str], limit: int) -> list[Object]:
    """The oldest beyond `limit` of those whose names are not in `live`."""
    old = [r for r in in_order(revisions) if meta.name(r) not in live]
    return old[: max(len(old) - limit, 0)]


async def owned(context: Context, kind: Kind, owner: Object) -> list[Object]:
    """The revisions of an object, adopted and released by its selector."""
    cache = context.caches.of(kinds.CONTROLLER_REVISION)
    selector = from_label_selector(owner["spec"].get("selector") or {})
    candidates = [
        *cache.by_index(indexes.CONTROLLER, meta.uid(owner)),
        *cache.by_index(indexes.UNCONTROLLED, meta.namespace(owner)),
    ]
    claimed = claim(owner, selector.matches, candidates)
    return await settle(context.client, kind, owner, kinds.CONTROLLER_REVISION, claimed)


async def up_to_date(
    context: Context, kind: Kind, owner: Object, revisions: Sequence[Object]
) -> tuple[Object, list[Object]] | None:
    """The revision of the present template, made where there was none, and all of them. None where
    its name was taken: then the next look counts one more collision."""
    todo = step(kind, owner, revisions)
    if todo.renumber:
        stored = await context.client.update(kinds.CONTROLLER_REVISION, todo.newest)
        others = [r for r in revisions if meta.uid(r) != meta.uid(stored)]
        return stored, [*others, stored]
    if not todo.create:
        return todo.newest, list(revisions)
    try:
        stored = await context.client.create(kinds.CONTROLLER_REVISION, todo.newest)
    except ApiError as error:
        if error.code != 409:
            raise
        await _collided(context, kind, owner, todo.newest)
        return None
    return stored, [*revisions, stored]


async def _collided(context: Context, kind: Kind, owner: Object, wanted: Object) -> None:
    """The name is taken: by our own that the cache does not show yet, or by another template."""
    name, space = meta.name(wanted), meta.namespace(wanted)
    current = await context.client.get(kinds.CONTROLLER_REVISION, name, space)
    controller = meta.controller_of(current)
    ours = controller is not None and controller.get("uid") == meta.uid(owner)
    if ours and current.get("data") == wanted["data"]:
        context.client.freshness.wrote(context.client.key, kinds.CONTROLLER_REVISION, current)
        return
    status = meta.copy(owner.get("status") or {})
    status["collisionCount"] = int(status.get("collisionCount") or 0) + 1
    await context.client.update(kind, {**owner, "status": status}, subresource="status")


async def prune(
    context: Context, owner: Object, revisions: Sequence[Object], live: Collection[str]
) -> None:
    """Deletes what `spec.revisionHistoryLimit` does not keep."""
    limit = owner["spec"].get("revisionHistoryLimit")
    for revision in surplus(revisions, live, 10 if limit is None else int(limit)):
        try:
            await context.client.delete(
                kinds.CONTROLLER_REVISION,
                meta.name(revision),
                meta.namespace(revision),
                uid=meta.uid(revision),
            )
        except ApiError as error:
            if error.code != 404:
                raise
