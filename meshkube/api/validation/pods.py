"""Pods and pod templates."""

from __future__ import annotations

from typing import Final

from meshkube.api.types import JSON, Object
from meshkube.api.validation import formats
from meshkube.api.validation.containers import (
    PodContext,
    trimmed_image,
    validate_containers,
    validate_ephemeral_containers,
    validate_init_containers,
)
from meshkube.api.validation.faults import (
    Faults,
    at,
    child,
    duplicate,
    forbidden,
    go_strings,
    invalid,
    item,
    not_supported,
    quoted,
    required,
)
from meshkube.api.validation.metadata import validate_annotations, validate_labels
from meshkube.api.validation.resources import validate_resources
from meshkube.api.validation.scheduling import (
    validate_affinity,
    validate_spread_constraints,
    validate_tolerations,
)
from meshkube.api.validation.security import validate_pod_security
from meshkube.api.validation.selectors import label_key, one_of
from meshkube.api.validation.volumes import validate_volumes

_RESTART: Final = ("Always", "OnFailure", "Never")
_DNS: Final = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
_DELETION_COST: Final = "controller.kubernetes.io/pod-deletion-cost"
_MAX: Final = (1 << 31) - 1
UPDATABLE: Final = (
    "`spec.containers[*].image`",
    "`spec.initContainers[*].image`",
    "`spec.activeDeadlineSeconds`",
    "`spec.tolerations` (only additions to existing tolerations)",
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
)


def validate_pod_create(pod: Object) -> Faults:
    spec = pod.get("spec") or {}
    faults = validate_pod(pod)
    if spec.get("ephemeralContainers"):
        faults.append(forbidden("spec.ephemeralContainers", "cannot be set on create"))
    if spec.get("nodeName") and spec.get("schedulingGates"):
        detail = "cannot be set until all schedulingGates have been cleared"
        faults.append(forbidden("spec.nodeName", detail))
    return faults


def validate_pod_update(pod: Object, old: Object) -> Faults:
    """What an update of a pod may change: little but images, tolerations and deadlines."""
    spec, before = pod.get("spec") or {}, old.get("spec") or {}
    faults = validate_pod(pod)
    for field in ("containers", "initContainers"):
        if len(spec.get(field) or ()) != len(before.get(field) or ()):
            detail = "pod updates may not add or remove containers"
            return [*faults, forbidden(f"spec.{field}", detail)]
    faults += _deadline_update(spec, before)
    faults += _tolerations_update(spec, before)
    faults += _gates_update(spec, before)
    changed = _changes(_without_updatable(spec, before), before, "spec")
    if changed:
        lead = f"pod updates may not change fields other than {','.join(UPDATABLE)}"
        faults.append(forbidden("spec", "\n".join([lead, *changed])))
    return faults


def validate_ephemeral_update(pod: Object, old: Object) -> Faults:
    """Containers for a look into a running pod come, and stay as they came."""
    now, was = ((p.get("spec") or {}).get("ephemeralContainers") or () for p in (pod, old))
    by_name = {each.get("name"): each for each in now}
    faults = validate_pod(pod)
    for container in was:
        name = container.get("name") or ""
        if by_name.get(name) != container:
            what = "changed" if name in by_name else "removed"
            detail = f"existing ephemeral containers {quoted(name)} may not be {what}\n"
            faults.append(forbidden("spec.ephemeralContainers", detail))
    return faults


def validate_template(template: Object, path: str) -> Faults:
    """A pod template: its metadata has no name of its own."""
    meta = template.get("metadata") or {}
    place = child(path, "metadata")
    faults = validate_labels(meta.get("labels") or {}, child(path, "labels"))
    faults += validate_annotations(meta.get("annotations") or {}, child(path, "annotations"))
    faults += _pod_annotations(meta, child(path, "annotations"), place)
    spec = template.get("spec") or {}
    faults += validate_pod_spec(spec, child(path, "spec"))
    if spec.get("ephemeralContainers"):
        detail = "ephemeral containers not allowed in pod template"
        faults.append(forbidden(f"{path}.spec.ephemeralContainers", detail))
    return faults


def validate_pod(pod: Object) -> Faults:
    """All that holds of a pod whenever it is written."""
    meta, spec = pod.get("metadata") or {}, pod.get("spec") or {}
    faults = _pod_annotations(meta, "metadata.annotations", "metadata")
    faults += validate_pod_spec(spec, "spec", meta.get("name") or "")
    if not spec.get("serviceAccountName"):
        detail = "must not be specified when serviceAccountName is not set"
        for index, volume in enumerate(spec.get("volumes") or ()):
            for number, source in enumerate((volume.get("projected") or {}).get("sources") or ()):
                if source.get("serviceAccountToken") is not None:
                    place = item(f"spec.volumes[{index}].projected.sources", number)
                    faults.append(forbidden(child(place, "serviceAccountToken"), detail))
    for field in ("containers", "initContainers"):
        for index, container in enumerate(spec.get(field) or ()):
            faults += trimmed_image(container, item(f"spec.{field}", index))
    return faults


def _pod_annotations(meta: Object, path: str, where: str) -> Faults:
    cost = (meta.get("annotations") or {}).get(_DELETION_COST)
    if cost is None:
        return []
    digits = cost.removeprefix("-")
    small = digits.isdigit() and -_MAX - 1 <= int(cost) <= _MAX
    if small and (digits == "0" or not digits.startswith("0")) and cost != "-0":
        return []
    return [invalid(at(path, _DELETION_COST), cost, "must be a 32bit integer")]


def validate_pod_spec(spec: Object, path: str, pod_name: str = "") -> Faults:
    """A pod's spec, or a template's, whose pods have no name yet."""
    faults: Faults = []
    grace = spec.get("terminationGracePeriodSeconds")
    if grace is None:
        faults.append(required(child(path, "terminationGracePeriodSeconds")))
    volumes = spec.get("volumes") or []
    found, sound = validate_volumes(volumes, child(path, "volumes"), pod_name)
    faults += found
    claims = frozenset(each.get("name") or "" for each in spec.get("resourceClaims") or ())
    host_users = spec.get("hostUsers") is not False
    pod = PodContext(sound, claims, grace, spec.get("restartPolicy") or "", host_users)
    faults += _all_containers(spec, path, pod)
    if spec.get("resources"):
        place = child(path, "resources")
        faults += validate_resources(spec["resources"], place, claims, of_pod=True)
    faults += _host_network(spec, path)
    faults += one_of(child(path, "restartPolicy"), spec.get("restartPolicy"), _RESTART)
    faults += one_of(child(path, "dnsPolicy"), spec.get("dnsPolicy"), _DNS)
    faults += validate_labels(spec.get("nodeSelector") or {}, child(path, "nodeSelector"))
    faults += validate_pod_security(spec, child(path, "securityContext"))
    faults += validate_affinity(spec.get("affinity") or {}, child(path, "affinity"))
    faults += _dns_config(spec, child(path, "dnsConfig"))
    faults += _gates(spec, path)
    constraints = spec.get("topologySpreadConstraints") or []
    faults += validate_spread_constraints(constraints, child(path, "topologySpreadConstraints"))
    faults += _host_users(spec, path)
    faults += _names(spec, path)
    faults += validate_tolerations(spec.get("tolerations") or [], child(path, "tolerations"))
    faults += _host_aliases(spec.get("hostAliases") or [], child(path, "hostAliases"))
    return faults + _policies(spec, path)


def _all_containers(spec: Object, path: str, pod: PodContext) -> Faults:
    regular = spec.get("containers") or []
    init = spec.get("initContainers") or []
    faults = validate_containers(regular, child(path, "containers"), pod)
    faults += validate_init_containers(init, child(path, "initContainers"), pod, regular)
    ephemeral = spec.get("ephemeralContainers") or []
    place = child(path, "ephemeralContainers")
    return faults + validate_ephemeral_containers(ephemeral, place, pod, [*regular, *init])


def _host_network(spec: Object, path: str) -> Faults:
    """On the host's network a container's port and its host port are the same."""
    if not spec.get("hostNetwork"):
        return []
    detail = "must match `containerPort` when `hostNetwork` is true"
    faults: Faults = []
    for index, container in enumerate(spec.get("containers") or ()):
        for number, port in enumerate(container.get("ports") or ()):
            host = port.get("hostPort") or 0
            if host and host != port.get("containerPort"):
                place = item(f"{path}.containers[{index}].ports", number)
                faults.append(invalid(child(place, "hostPort"), host, detail))
    return faults


def _dns_config(spec: Object, path: str) -> Faults:
    config = spec.get("dnsConfig")
    servers = (config or {}).get("nameservers") or []
    if spec.get("dnsPolicy") == "None":
        when = "when `dnsPolicy` is None"
        if config is None:
            return [required(path, f"must provide `dnsConfig` {when}")]
        if not servers:
            detail = f"must provide at least one DNS nameserver {when}"
            return [required(child(path, "nameservers"), detail)]
    if config is None:
        return []
    faults: Faults = []
    place = child(path, "nameservers")
    if len(servers) > 3:
        detail = "must not have more than 3 nameservers"
        faults.append(invalid(place, go_strings(servers), detail))
    for index, server in enumerate(servers):
        faults += formats.faults(item(place, index), server, formats.ip(server))
    faults += _searches(config.get("searches") or [], child(path, "searches"))
    for index, option in enumerate(config.get("options") or ()):
        if not option.get("name"):
            faults.append(required(item(child(path, "options"), index), "must not be empty"))
    return faults


def _searches(searches: list[str], path: str) -> Faults:
    faults: Faults = []
    if len(searches) > 32:
        detail = "must not have more than 32 search paths"
        faults.append(invalid(path, go_strings(list(searches)), detail))
    if len(" ".join(searches)) > 2048:
        detail = "must not have more than 2048 characters (including spaces) in the search list"
        faults.append(invalid(path, go_strings(list(searches)), detail))
    for index, search in enumerate(searches):
        if search != ".":
            name = search.removesuffix(".")
            reasons = formats.dns_subdomain_with_underscore(name)
            faults += formats.faults(item(path, index), name, reasons)
    return faults


def _gates(spec: Object, path: str) -> Faults:
    faults: Faults = []
    for index, gate in enumerate(spec.get("readinessGates") or ()):
        place = child(item(child(path, "readinessGates"), index), "conditionType")
        faults += label_key(place, gate.get("conditionType") or "")
    seen: set[str] = set()
    for index, gate in enumerate(spec.get("schedulingGates") or ()):
        place, name = item(child(path, "schedulingGates"), index), gate.get("name") or ""
        faults += label_key(place, name)
        if name in seen:
            faults.append(duplicate(place, name))
        seen.add(name)
    return faults


def _host_users(spec: Object, path: str) -> Faults:
    if spec.get("hostUsers") is not False:
        return []
    fields = {"hostNetwork": "hostNetwork", "hostPID": "HostPID", "hostIPC": "HostIPC"}
    return [
        forbidden(child(path, shown), "when `pod.Spec.HostUsers` is false")
        for field, shown in fields.items()
        if spec.get(field)
    ]


def _names(spec: Object, path: str) -> Faults:
    faults: Faults = []
    for field, check in (
        ("serviceAccountName", formats.dns_subdomain),
        ("nodeName", formats.dns_subdomain),
        ("hostname", formats.dns_label),
        ("subdomain", formats.dns_label),
        ("priorityClassName", formats.dns_subdomain),
    ):
        name = spec.get(field) or ""
        if name:
            faults += formats.faults(child(path, field), name, check(name))
    runtime = spec.get("runtimeClassName")
    if runtime is not None:
        place = child(path, "runtimeClassName")
        faults += formats.faults(place, runtime, formats.dns_subdomain(runtime))
    return faults


def _host_aliases(aliases: list[Object], path: str) -> Faults:
    faults: Faults = []
    for index, alias in enumerate(aliases):
        place, address = item(path, index), alias.get("ip") or ""
        faults += formats.faults(child(place, "ip"), address, formats.ip(address))
        for number, name in enumerate(alias.get("hostnames") or ()):
            where = item(child(place, "hostnames"), number)
            faults += formats.faults(where, name, formats.dns_subdomain(name))
    return faults


def _policies(spec: Object, path: str) -> Faults:
    faults: Faults = []
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and not 1 <= deadline <= _MAX:
        detail = formats.between(1, _MAX)
        faults.append(invalid(child(path, "activeDeadlineSeconds"), deadline, detail))
    preemption = spec.get("preemptionPolicy")
    if preemption is not None:
        words = ("PreemptLowerPriority", "Never")
        faults += one_of(child(path, "preemptionPolicy"), preemption, words)
    if spec.get("overhead") is not None:
        limits = {"limits": spec["overhead"]}
        faults += validate_resources(limits, child(path, "overhead"), frozenset())
    system = spec.get("os")
    if system is not None:
        name = system.get("name") or ""
        if not name:
            faults.append(required(child(path, "os.name"), "cannot be empty"))
        elif name not in ("linux", "windows"):
            faults.append(not_supported(child(path, "os"), name, ("linux", "windows")))
    return faults


def _deadline_update(spec: Object, before: Object) -> Faults:
    path = "spec.activeDeadlineSeconds"
    deadline, was = spec.get("activeDeadlineSeconds"), before.get("activeDeadlineSeconds")
    if deadline is None and was is not None:
        return [invalid(path, None, "must not update from a positive integer to nil value")]
    if deadline is None:
        return []
    if not 0 <= deadline <= _MAX:
        return [invalid(path, deadline, formats.between(0, _MAX))]
    if was is not None and was < deadline:
        return [invalid(path, deadline, "must be less than or equal to previous value")]
    return []


def _tolerations_update(spec: Object, before: Object) -> Faults:
    """Tolerations may be added, and how long they last may change."""

    def lasting(toleration: Object) -> Object:
        return {key: value for key, value in toleration.items() if key != "tolerationSeconds"}

    now = [lasting(each) for each in spec.get("tolerations") or ()]
    if all(lasting(each) in now for each in before.get("tolerations") or ()):
        return []
    detail = "existing toleration can not be modified except its tolerationSeconds"
    return [forbidden("spec.tolerations", detail)]


def _gates_update(spec: Object, before: Object) -> Faults:
    had = [gate.get("name") for gate in before.get("schedulingGates") or ()]
    return [
        forbidden(
            f"spec.schedulingGates[{index}].name",
            f"only deletion is allowed, but found new scheduling gate '{gate.get('name')}'",
        )
        for index, gate in enumerate(spec.get("schedulingGates") or ())
        if gate.get("name") not in had
    ]


def _without_updatable(spec: Object, before: Object) -> Object:
    """`spec` with all that may change put back as it was."""
    same = {**spec}
    for field in ("containers", "initContainers"):
        if spec.get(field):
            same[field] = [
                {**container, "image": was.get("image")}
                for container, was in zip(spec[field], before[field], strict=True)
            ]
    put_back = ["activeDeadlineSeconds", "schedulingGates", "tolerations"]
    was_negative = (before.get("terminationGracePeriodSeconds") or 0) < 0
    if was_negative and spec.get("terminationGracePeriodSeconds") == 1:
        put_back.append("terminationGracePeriodSeconds")
    if before.get("schedulingGates"):
        put_back += ["nodeSelector", "affinity"]
    for field in put_back:
        same.pop(field, None)
        if field in before:
            same[field] = before[field]
    return same


def _changes(now: JSON, before: JSON, path: str) -> list[str]:
    """Every place where two values differ, as `-`/`+` lines; empty and missing are the same."""
    if isinstance(now, dict) and isinstance(before, dict):
        keys = dict.fromkeys([*before, *now])
        return [
            line
            for key in keys
            for line in _changes(now.get(key), before.get(key), f"{path}.{key}")
        ]
    if isinstance(now, list) and isinstance(before, list) and len(now) == len(before):
        return [
            line
            for index, (one, other) in enumerate(zip(now, before, strict=True))
            for line in _changes(one, other, f"{path}[{index}]")
        ]
    if now == before or (not now and not before):
        return []
    return [f"- {path}: {before!r}", f"+ {path}: {now!r}"]
