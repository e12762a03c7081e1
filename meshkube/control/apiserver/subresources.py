"""Sub-resources that are another view of an object: how each is read, and how it is written back.

Pure. `status` and `finalize` show the whole object (see `strategy`); `scale` shows a Scale.
"""

from __future__ import annotations

from collections.abc import Mapping

from meshkube.api import errors, kinds, meta
from meshkube.api.custom import jsonpath
from meshkube.api.errors import FieldError
from meshkube.api.kinds import Kind
from meshkube.api.selectors import from_label_selector, from_labels
from meshkube.api.types import JSON, Object


def view(kind: Kind, obj: Object, subresource: str) -> Object:
    """What a GET of the sub-resource shows; the object itself (shared) for all but `scale`."""
    return scale_of(kind, obj) if subresource == "scale" else obj


def written(kind: Kind, doc: Object, obj: Object, subresource: str) -> Object:
    """The object after `doc` was written to the sub-resource; `obj` is how it stands."""
    if subresource != "scale":
        return doc
    new = meta.copy(obj)
    _set_replicas(kind, new, _replicas(doc, meta.name(obj)))
    for field in ("resourceVersion", "uid"):
        if meta.metadata(doc).get(field):
            new["metadata"][field] = doc["metadata"][field]
        elif field == "resourceVersion":
            new["metadata"].pop(field, None)
    return new


def applied_scale(kind: Kind, config: Object, name: str) -> Object:
    """What an applied Scale declares, as a declaration of the object that it scales. Raises
    `ApiError` 400 or 422."""
    if (config.get("apiVersion"), config.get("kind")) != ("autoscaling/v1", "Scale"):
        raise errors.bad_request("an apply to the scale must be an autoscaling/v1 Scale")
    metadata = config.get("metadata")
    kept = ("name", "namespace", "uid", "resourceVersion")
    declared: Object = {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "metadata": {key: value for key, value in (metadata or {}).items() if key in kept and value}
        if isinstance(metadata, dict)
        else {},
    }
    if isinstance(config.get("spec"), dict) and config["spec"].get("replicas") is not None:
        _set_replicas(kind, declared, _replicas(config, name))
    return declared


def _replicas(scale: Object, name: str) -> int:
    """Raises `ApiError` 422."""
    spec = scale.get("spec")
    replicas = spec.get("replicas", 0) if isinstance(spec, dict) else 0
    if not isinstance(replicas, int) or isinstance(replicas, bool) or replicas < 0:
        why = f"Invalid value: {replicas}: must be greater than or equal to 0"
        fault = FieldError("spec.replicas", "FieldValueInvalid", why)
        raise errors.invalid("autoscaling", "Scale", name, [fault])
    return replicas


def _set_replicas(kind: Kind, obj: Object, replicas: int) -> None:
    names = ["spec", "replicas"]
    if kind.definition is not None:
        names = _scale_paths(kind)["specReplicasPath"].strip(".").split(".")
    for name in names[:-1]:
        below = obj.get(name)
        if not isinstance(below, dict):
            below = obj[name] = {}
        obj = below
    obj[names[-1]] = replicas


def _scale_paths(kind: Kind) -> Mapping[str, str]:
    assert kind.definition is not None
    paths = kind.definition.version(kind.version).scale
    if paths is None:
        raise errors.not_served()
    return paths


def _custom_scale(kind: Kind, obj: Object) -> tuple[JSON, JSON, str]:
    """Replicas wanted, replicas there, and the selector, by the paths of the definition."""
    paths = _scale_paths(kind)
    wanted, there, selector = (
        jsonpath.parse(paths[key]).first(obj) if paths.get(key) else None
        for key in ("specReplicasPath", "statusReplicasPath", "labelSelectorPath")
    )
    return wanted or 0, there or 0, selector if isinstance(selector, str) else ""


def scale_of(kind: Kind, obj: Object) -> Object:
    """The `autoscaling/v1 Scale` of whatever has replicas."""
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    source = obj["metadata"]
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    wanted, there = spec.get("replicas", 1), status.get("replicas", 0)
    if kind.definition is not None:
        wanted, there, selector = _custom_scale(kind, obj)
    else:
        # The core group is older than label selectors: a ReplicationController has plain labels.
        read = from_label_selector if kind.group else from_labels
        selector = str(read(spec.get("selector") or {}))
    scale: Object = {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {field: source[field] for field in kept if field in source},
        "spec": {"replicas": wanted},
        "status": {"replicas": there},
    }
    if selector:
        scale["status"]["selector"] = selector
    return scale


def bound(pod: Object, binding: Object, now: str) -> Object:
    """A copy of a pod, bound to the binding's node. Raises `ApiError` 400 or 409."""
    node = str((binding.get("target") or {}).get("name") or "")
    if not node:
        raise errors.bad_request("binding.target.name is required")
    if meta.deleting(pod):
        raise _not_bound(
            pod, f"pod {meta.name(pod)} is being deleted, cannot be assigned to a host"
        )
    already = (pod.get("spec") or {}).get("nodeName")
    if already:
        raise _not_bound(pod, f'pod {meta.name(pod)} is already assigned to node "{already}"')
    new = meta.copy(pod)
    new["spec"]["nodeName"] = node
    new["metadata"].setdefault("annotations", {}).update(meta.annotations(binding))
    if not new["metadata"]["annotations"]:
        del new["metadata"]["annotations"]
    status = new.setdefault("status", {})
    others = [one for one in status.get("conditions") or () if one.get("type") != "PodScheduled"]
    scheduled = {
        "type": "PodScheduled",
        "status": "True",
        "lastTransitionTime": now,
    }
    status["conditions"] = [*others, scheduled]
    return new


def _not_bound(pod: Object, why: str) -> errors.ApiError:
    return errors.conflict("", kinds.POD.plural + "/binding", meta.name(pod), why)
