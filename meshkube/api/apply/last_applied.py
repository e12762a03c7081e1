"""The annotation in which `kubectl apply` keeps what it applied last, and moving on from it.

Who turns from `kubectl apply` to `kubectl apply --server-side` must not conflict with what the
same person applied before: fields that the annotation holds, and that still have its value, may be
taken over. Source: the Kubernetes documents, "Server-Side Apply: Upgrading from client-side
apply".
"""

from __future__ import annotations

from typing import Any

import orjson

from meshkube.api import meta
from meshkube.api.apply.fieldsets import Fields, minus, union
from meshkube.api.apply.managers import changes, tracked
from meshkube.api.apply.typed import TypedNode, declared
from meshkube.api.errors import ApiError
from meshkube.api.types import Object

ANNOTATION = "kubectl.kubernetes.io/last-applied-configuration"
MANAGER = "kubectl"
"""The only manager that this is for: any other has never written the annotation."""


def still_applied(live: Object, schema: TypedNode | None) -> Fields:
    """Fields that the annotation holds and that have its value to this day."""
    try:
        config: Any = orjson.loads(meta.annotations(live).get(ANNOTATION, ""))
        if not isinstance(config, dict):
            return {}
        fields = declared(tracked(config), schema)
    except (ValueError, ApiError):
        return {}
    changed, removed = changes(config, live, schema)
    return minus(fields, union(changed, removed))


def keep_up(obj: Object, config: Object) -> None:
    """Writes what is applied now into the annotation of `obj`, where it has one."""
    annotations = meta.annotations(obj)
    if ANNOTATION not in annotations:
        return
    metadata = {**meta.metadata(config)}
    if ANNOTATION in meta.annotations(config):
        kept = {key: text for key, text in metadata["annotations"].items() if key != ANNOTATION}
        metadata["annotations"] = kept
    applied = {**config, "metadata": metadata}
    annotations[ANNOTATION] = orjson.dumps(applied, option=orjson.OPT_SORT_KEYS).decode() + "\n"
