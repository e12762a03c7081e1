"""What a client may set and what the server keeps, kind by kind (Kubernetes' REST strategies).

Pure: each function changes an object that is private to the request, in place.
"""

from __future__ import annotations

from meshkube.api import errors, kinds, meta
from meshkube.api.kinds import Kind
from meshkube.api.types import Object
from meshkube.api.validation import resizing
from meshkube.control import volumes
from meshkube.control.apiserver import workloads
from meshkube.control.auth.users import User

AWAY = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
"""Taints that admission has every pod tolerate for a while."""

# metadata.generation counts changes of what is wanted; these kinds have it.
WITH_GENERATION = frozenset(
    kind.resource
    for kind in (
        kinds.POD,
        kinds.DEPLOYMENT,
        kinds.REPLICA_SET,
        kinds.REPLICATION_CONTROLLER,
        kinds.DAEMON_SET,
        kinds.STATEFUL_SET,
        kinds.JOB,
        kinds.CRON_JOB,
        kinds.INGRESS,
        kinds.INGRESS_CLASS,
        kinds.ENDPOINT_SLICE,
        kinds.POD_TEMPLATE,
        kinds.POD_DISRUPTION_BUDGET,
        kinds.NETWORK_POLICY,
        kinds.PRIORITY_CLASS,
        kinds.MUTATING_WEBHOOK_CONFIGURATION,
        kinds.VALIDATING_WEBHOOK_CONFIGURATION,
        kinds.VALIDATING_ADMISSION_POLICY,
        kinds.VALIDATING_ADMISSION_POLICY_BINDING,
        kinds.FLOW_SCHEMA,
        kinds.PRIORITY_LEVEL_CONFIGURATION,
        kinds.CUSTOM_RESOURCE_DEFINITION,
    )
)
_SERVER_SET = ("uid", "creationTimestamp", "generation", "selfLink", "resourceVersion")
_DELETION = ("deletionTimestamp", "deletionGracePeriodSeconds")
_NOT_WANTED = ("metadata", "status", "apiVersion", "kind")


def has_generation(kind: Kind) -> bool:
    return kind.definition is not None or kind.resource in WITH_GENERATION


def has_status(kind: Kind) -> bool:
    return "status" in kind.subresources


def prepare_create(kind: Kind, obj: Object, namespace: str, now: str, uid: str) -> None:
    """Sets the metadata of a new object and drops what a client may not set. `now` is RFC 3339."""
    metadata = obj["metadata"]
    for field in (*_SERVER_SET, *_DELETION):
        metadata.pop(field, None)
    if kind.namespaced:
        metadata["namespace"] = namespace
    else:
        metadata.pop("namespace", None)
    metadata["uid"] = uid
    metadata["creationTimestamp"] = now
    if has_generation(kind):
        metadata["generation"] = 1
    if kind.definition is not None:
        if has_status(kind):
            obj.pop("status", None)
    elif has_status(kind) and kind is not kinds.NODE:
        obj["status"] = {}
    hook = _ON_CREATE.get(kind.resource)
    if hook is not None:
        hook(obj)


def _new_pod(obj: Object) -> None:
    # Amounts for a pod as a whole are alpha in this version, and off: the field is dropped, so that
    # nobody takes them for kept promises.
    (obj.get("spec") or {}).pop("resources", None)
    obj["status"] = {"phase": "Pending"}
    if (obj.get("spec") or {}).get("schedulingGates"):
        obj["status"]["conditions"] = [
            {
                "type": "PodScheduled",
                "status": "False",
                "reason": "SchedulingGated",
                "message": "Scheduling is blocked due to non-empty scheduling gates",
                "lastProbeTime": None,
                "lastTransitionTime": obj["metadata"]["creationTimestamp"],
            }
        ]


def _new_namespace(obj: Object) -> None:
    obj["status"] = {"phase": "Active"}
    spec = obj.setdefault("spec", {})
    finalizers = spec.setdefault("finalizers", [])
    if "kubernetes" not in finalizers:
        finalizers.append("kubernetes")
    meta.metadata(obj).setdefault("labels", {})["kubernetes.io/metadata.name"] = meta.name(obj)


def _new_service(obj: Object) -> None:
    obj["status"] = {"loadBalancer": {}}


def _new_volume(obj: Object) -> None:
    since = obj["metadata"]["creationTimestamp"]
    obj["status"] = {"phase": "Pending", "lastPhaseTransitionTime": since}
    _protect(obj, volumes.VOLUME_PROTECTION)


def _protect(obj: Object, finalizer: str) -> None:
    """What is in use is not to go (admission plugin "StorageObjectInUseProtection")."""
    finalizers = obj["metadata"].setdefault("finalizers", [])
    if finalizer not in finalizers:
        finalizers.append(finalizer)


def _new_budget(obj: Object) -> None:
    counts = ("disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods")
    obj["status"] = dict.fromkeys(counts, 0)


def _new_attachment(obj: Object) -> None:
    obj["status"] = {"attached": False}


def _new_claim(obj: Object) -> None:
    obj["status"] = {"phase": "Pending"}
    _protect(obj, volumes.CLAIM_PROTECTION)
    _data_sources(obj)


def _data_sources(claim: Object) -> None:
    """`dataSource` is the old name of a `dataSourceRef` without a namespace: they say the same."""
    spec = claim.get("spec") or {}
    old, new = spec.get("dataSource"), spec.get("dataSourceRef")
    if old is not None and new is None:
        spec["dataSourceRef"] = dict(old)
    elif new is not None and old is None and not new.get("namespace"):
        spec["dataSource"] = {key: value for key, value in new.items() if key != "namespace"}


def _new_autoscaler(obj: Object) -> None:
    obj["status"] = {"desiredReplicas": 0}


_ON_CREATE = {
    kinds.JOB.resource: workloads.new_job,
    kinds.DAEMON_SET.resource: workloads.new_daemon_set,
    kinds.PERSISTENT_VOLUME.resource: _new_volume,
    kinds.PERSISTENT_VOLUME_CLAIM.resource: _new_claim,
    kinds.POD_DISRUPTION_BUDGET.resource: _new_budget,
    kinds.VOLUME_ATTACHMENT.resource: _new_attachment,
    kinds.HORIZONTAL_POD_AUTOSCALER.resource: _new_autoscaler,
    kinds.POD.resource: _new_pod,
    kinds.NAMESPACE.resource: _new_namespace,
    kinds.SERVICE.resource: _new_service,
    kinds.INGRESS.resource: _new_service,
}


def sign_request(request: Object, user: User | None) -> None:
    """A certificate request says who made it, and nobody says it of himself."""
    spec = request.setdefault("spec", {})
    for field in ("username", "uid", "groups", "extra"):
        spec.pop(field, None)
    if user is not None:
        spec.update(user.info())


def prepare_update(kind: Kind, obj: Object, old: Object, subresource: str) -> None:
    """Keeps what this request may not change, as it is in `old`."""
    _keep_metadata(kind, obj, old)
    if subresource == "status":
        _only_status(kind, obj, old)
    elif subresource in _OF_A_PART:
        _OF_A_PART[subresource](obj, old)
    else:
        _whole(kind, obj, old, subresource)
    if has_generation(kind):
        same = wanted(obj) == wanted(old)
        if kind.definition is not None and not has_status(kind):
            same = same and obj.get("status") == old.get("status")
        bump = 0 if subresource in ("status", "binding") or same else 1
        obj["metadata"]["generation"] = meta.generation(old) + bump


def _whole(kind: Kind, obj: Object, old: Object, subresource: str) -> None:
    if kind is kinds.CERTIFICATE_SIGNING_REQUEST:
        # What is asked for stays: only metadata may change.
        _take(obj, old, "spec")
        _take(obj, old, "status")
        return
    if has_status(kind) and subresource != "binding":
        _take(obj, old, "status")
    if kind is kinds.NAMESPACE:
        _take(obj, old, "spec")
    elif kind is kinds.PERSISTENT_VOLUME_CLAIM:
        _data_sources(obj)
    elif kind is kinds.POD:
        _keep_admitted(obj, old)
    if kind is kinds.DAEMON_SET:
        workloads.changed_daemon_set(obj, old)


def _keep_admitted(pod: Object, old: Object) -> None:
    """What admission gave a pod when it was made stays where an update leaves it out: a manifest
    does not know of it (Kubernetes' admission plugins Priority and DefaultTolerationSeconds)."""
    spec, before = pod.setdefault("spec", {}), old["spec"]
    for field in ("priority", "preemptionPolicy"):
        if spec.get(field) is None and before.get(field) is not None:
            spec[field] = before[field]
    known = spec.get("tolerations") or []
    given = [each for each in before.get("tolerations") or () if each.get("key") in AWAY]
    missing = [each for each in given if all(each["key"] != one.get("key") for one in known)]
    if missing:
        spec["tolerations"] = [*known, *missing]


def wanted(obj: Object) -> Object:
    """What a generation counts: all but metadata and status."""
    return {key: value for key, value in obj.items() if key not in _NOT_WANTED}


def _keep_metadata(kind: Kind, obj: Object, old: Object) -> None:
    metadata, before = obj["metadata"], old["metadata"]
    asked = metadata.get("uid")
    if asked and asked != before["uid"]:
        why = (
            f"Precondition failed: UID in precondition: {asked}, UID in object meta: "
            f"{before['uid']}"
        )
        raise errors.conflict(kind.group, kind.plural, before["name"], why)
    for field in ("name", "namespace", "generateName", *_SERVER_SET, *_DELETION):
        if field in before:
            metadata[field] = before[field]
        else:
            metadata.pop(field, None)


def _keep_quality(pod: Object, old: Object) -> None:
    """A status that does not name the class means the one the pod has: it cannot change."""
    known, status = (old.get("status") or {}).get("qosClass"), pod.get("status")
    if known and isinstance(status, dict) and not status.get("qosClass"):
        pod["status"] = {**status, "qosClass": known}


def _only_status(kind: Kind, obj: Object, old: Object) -> None:
    status = obj.get("status")
    for key in [*obj, *old]:
        if key not in ("metadata", "status", "apiVersion", "kind"):
            _take(obj, old, key)
    if status is not None:
        obj["status"] = status
    if kind is kinds.POD:
        _keep_quality(obj, old)
    if kind.definition is not None:
        kept = ("managedFields", "resourceVersion")
        written = {key: obj["metadata"][key] for key in kept if key in obj["metadata"]}
        obj["metadata"] = {**old["metadata"], **written}
        return
    fields = ["ownerReferences"]
    if kind not in (kinds.POD, kinds.NODE):
        fields.append("labels")
    for field in fields:
        _take(obj["metadata"], old["metadata"], field)


def _only_ephemeral(obj: Object, old: Object) -> None:
    """Of a pod: containers that somebody looks into it with, and nothing else of it."""
    containers = (obj.get("spec") or {}).get("ephemeralContainers")
    _take(obj, old, "status")
    obj["spec"] = {**old["spec"]}
    obj["spec"].pop("ephemeralContainers", None)
    if containers:
        obj["spec"]["ephemeralContainers"] = containers


def _only_resources(obj: Object, old: Object) -> None:
    """Of a pod: what its containers may use."""
    obj["spec"] = resizing.only_resized(obj, old)
    _take(obj, old, "status")


def _only_conditions(obj: Object, old: Object) -> None:
    """Of a certificate request: who approves it says no more than that."""
    conditions = (obj.get("status") or {}).get("conditions")
    _take(obj, old, "spec")
    obj["status"] = {**(old.get("status") or {})}
    obj["status"].pop("conditions", None)
    if conditions:
        obj["status"]["conditions"] = conditions


def date_conditions(obj: Object, old: Object, now: str) -> None:
    """When each condition of a certificate request came to be, where that is not said."""
    before = {one.get("type"): one for one in (old.get("status") or {}).get("conditions") or ()}
    status = obj.get("status") or {}
    dated = []
    for condition in status.get("conditions") or ():
        known = before.get(condition.get("type")) or {}
        same = known.get("status") == condition.get("status")
        since = known.get("lastTransitionTime") if same else now
        dated.append(
            {
                **condition,
                "lastUpdateTime": condition.get("lastUpdateTime") or now,
                "lastTransitionTime": condition.get("lastTransitionTime") or since or now,
            }
        )
    if dated:
        obj["status"] = {**status, "conditions": dated}


def _only_finalizers(obj: Object, old: Object) -> None:
    finalizers = (obj.get("spec") or {}).get("finalizers")
    for key in [*obj, *old]:
        if key != "metadata":
            _take(obj, old, key)
    obj["spec"] = {**(old.get("spec") or {})}
    obj["spec"].pop("finalizers", None)
    if finalizers:
        obj["spec"]["finalizers"] = finalizers


def _take(obj: Object, old: Object, field: str) -> None:
    if field in old:
        obj[field] = old[field]
    else:
        obj.pop(field, None)


_OF_A_PART = {
    "finalize": _only_finalizers,
    "approval": _only_conditions,
    "ephemeralcontainers": _only_ephemeral,
    "resize": _only_resources,
}
