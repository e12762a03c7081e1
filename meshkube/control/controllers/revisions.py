"""Pod templates over time: their hash, and the annotations by which `kubectl rollout` tells a
Deployment's revisions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from meshkube.api import meta
from meshkube.api.types import Object
from meshkube.control import pods

TEMPLATE_HASH = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
HISTORY = "deployment.kubernetes.io/revision-history"
DESIRED = "deployment.kubernetes.io/desired-replicas"
LARGEST = "deployment.kubernetes.io/max-replicas"

_OWN_EACH = frozenset(
    {
        "kubectl.kubernetes.io/last-applied-configuration",
        "deprecated.deployment.rollback.to",
        REVISION,
        HISTORY,
        DESIRED,
        LARGEST,
    }
)
"""Annotations that a ReplicaSet does not get from its Deployment."""


def template_hash(template: Object, collisions: int) -> str:
    """Ten characters or fewer, safe in names: the same for the same template and count."""
    text = json.dumps(template, sort_keys=True, separators=(",", ":"))
    value = _fnv1a(text.encode() + (str(collisions).encode() if collisions else b""))
    return "".join(meta.SUFFIX_ALPHABET[int(c) % len(meta.SUFFIX_ALPHABET)] for c in str(value))


def _fnv1a(data: bytes) -> int:
    """FNV-1a in 32 bits (draft-eastlake-fnv)."""
    value = 0x811C9DC5
    for byte in data:
        value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
    return value


def same_template(one: Object, other: Object) -> bool:
    """Equal but for the hash label that a ReplicaSet's template carries."""
    return bool(_bare(one) == _bare(other))


def _bare(template: Object) -> Any:
    metadata = template.get("metadata") or {}
    labels = {k: v for k, v in (metadata.get("labels") or {}).items() if k != TEMPLATE_HASH}
    rest = {k: v for k, v in metadata.items() if k not in ("labels", "creationTimestamp") and v}
    return {**template, "metadata": {**rest, "labels": labels}}


def revision(obj: Object) -> int:
    """0 where it has none."""
    text = meta.annotations(obj).get(REVISION, "")
    return int(text) if text.isdigit() else 0


def split(deployment: Object, sets: Sequence[Object]) -> tuple[Object | None, list[Object]]:
    """The ReplicaSet of the Deployment's present template (of several the oldest), and the others,
    oldest first."""
    template = deployment["spec"]["template"]
    ordered = sorted(sets, key=lambda rs: (pods.created(rs), meta.name(rs)))
    new = next((rs for rs in ordered if same_template(rs["spec"]["template"], template)), None)
    return new, [rs for rs in ordered if rs is not new]


def next_revision(new: Object | None, old: Sequence[Object]) -> int:
    """The revision of the present template: it stays where it is already the highest."""
    highest = max((revision(rs) for rs in old), default=0)
    return max(revision(new) if new else 0, highest + 1)


def annotated(deployment: Object, replica_set: Object | None, number: int) -> dict[str, str]:
    """The annotations of the ReplicaSet of the present template, as revision `number`."""
    own = meta.annotations(replica_set) if replica_set else {}
    kept = {key: value for key, value in own.items() if key in _OWN_EACH}
    result = {k: v for k, v in meta.annotations(deployment).items() if k not in _OWN_EACH}
    # What was put on the ReplicaSet itself stays.
    result = {**own, **result, **kept}
    before = own.get(REVISION)
    result[REVISION] = str(number)
    if before and before != str(number):
        history = [part for part in own.get(HISTORY, "").split(",") if part]
        if before not in history:
            history.append(before)
        result[HISTORY] = ",".join(history)
    return result


def surplus(deployment: Object, old: Sequence[Object]) -> list[Object]:
    """Old ReplicaSets beyond `revisionHistoryLimit`, of those that hold nothing any more."""
    limit = deployment["spec"].get("revisionHistoryLimit")
    empty = [rs for rs in old if not meta.deleting(rs) and _empty(rs)]
    excess = len(empty) - (10 if limit is None else int(limit))
    return sorted(empty, key=lambda rs: (revision(rs), pods.created(rs)))[: max(excess, 0)]


def _empty(replica_set: Object) -> bool:
    status = replica_set.get("status") or {}
    seen = int(status.get("observedGeneration") or 0) >= meta.generation(replica_set)
    return seen and not replica_set["spec"].get("replicas") and not status.get("replicas")
