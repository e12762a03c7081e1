"""The node authorizer: a node's agent may act on what belongs to its node, and on nothing else.

Sources: Kubernetes documentation, "Using Node Authorization" (with field selectors, as since 1.32)
and, for writes, the admission plugin "NodeRestriction".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from meshkube.api import errors, kinds, meta
from meshkube.api.balancing import ANNOUNCER_LEASES, announcer_lease
from meshkube.api.errors import ApiError
from meshkube.api.kinds import Kind
from meshkube.api.types import Object
from meshkube.control import volumes
from meshkube.control.auth.attributes import Attributes, required
from meshkube.control.auth.rules import RuleSet
from meshkube.control.auth.users import User

LEASES = "kube-node-lease"
_READ = frozenset({"get", "list", "watch"})
RESTRICTED_LABELS = "node-restriction.kubernetes.io/"
# What every node may do, whichever it is; what follows in this file narrows it further.
RULES: tuple[Object, ...] = (
    {"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]},
    {
        "apiGroups": ["authorization.k8s.io"],
        "resources": ["subjectaccessreviews", "localsubjectaccessreviews"],
        "verbs": ["create"],
    },
    {"apiGroups": [""], "resources": ["services"], "verbs": ["get", "list", "watch"]},
    {"apiGroups": [""], "resources": ["nodes"], "verbs": ["create"]},
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["create", "delete"]},
    {"apiGroups": [""], "resources": ["pods/eviction"], "verbs": ["create"]},
    {"apiGroups": [""], "resources": ["pods/status"], "verbs": ["update", "patch"]},
    {
        "apiGroups": ["", "events.k8s.io"],
        "resources": ["events"],
        "verbs": ["create", "update", "patch"],
    },
    {
        "apiGroups": ["certificates.k8s.io"],
        "resources": ["certificatesigningrequests"],
        "verbs": ["create", "get", "list", "watch"],
    },
    {
        "apiGroups": ["node.k8s.io", "storage.k8s.io"],
        "resources": ["runtimeclasses", "csidrivers"],
        "verbs": ["get", "list", "watch"],
    },
)
_RULES = RuleSet(RULES)


class _Used(NamedTuple):
    """What one pod lets its node read, as `(resource, name)`."""

    node: str
    namespace: str
    uses: frozenset[tuple[str, str]]


class NodeGraph:
    """Which Secrets, ConfigMaps, claims with their volumes, and service accounts the pods of each
    node use; and which volumes are directories of a node."""

    def __init__(self) -> None:
        self._pods: dict[str, _Used] = {}
        self._uses: dict[tuple[str, str, str, str], int] = {}
        self._placed: set[tuple[str, str]] = set()
        self._volumes: dict[str, tuple[str, str, str]] = {}
        """By name: the claim's namespace and name, and the node that made it."""

    def set_pod(self, pod: Object) -> None:
        self.remove_pod(pod)
        node = (pod.get("spec") or {}).get("nodeName") or ""
        if not node:
            return
        used = _Used(node, meta.namespace(pod), frozenset(_uses(pod)))
        self._pods[meta.key(pod)] = used
        for key in _keys(used):
            self._uses[key] = self._uses.get(key, 0) + 1
        self._placed.add((node, meta.key(pod)))

    def remove_pod(self, pod: Object) -> None:
        used = self._pods.pop(meta.key(pod), None)
        if used is None:
            return
        self._placed.discard((used.node, meta.key(pod)))
        for key in _keys(used):
            self._uses[key] -= 1
            if not self._uses[key]:
                del self._uses[key]

    def set_volume(self, volume: Object) -> None:
        reference = (volume.get("spec") or {}).get("claimRef") or {}
        claim = str(reference.get("namespace") or ""), str(reference.get("name") or "")
        self._volumes[meta.name(volume)] = (*claim, _owner(volume))

    def remove_volume(self, volume: Object) -> None:
        self._volumes.pop(meta.name(volume), None)

    def owns_volume(self, node: str, name: str) -> bool:
        """The volume is a directory of that node."""
        return name in self._volumes and self._volumes[name][2] == node

    def reads_volume(self, node: str, name: str) -> bool:
        """It is, or a pod there has claimed it."""
        found = self._volumes.get(name)
        if found is None:
            return False
        namespace, claim, owner = found
        return owner == node or self.uses(node, "persistentvolumeclaims", namespace, claim)

    def clear(self) -> None:
        self._volumes.clear()
        self._pods.clear()
        self._uses.clear()
        self._placed.clear()

    def uses(self, node: str, resource: str, namespace: str, name: str) -> bool:
        return (node, resource, namespace, name) in self._uses

    def runs(self, node: str, namespace: str, name: str) -> bool:
        return (node, f"{namespace}/{name}") in self._placed


def _keys(used: _Used) -> Iterable[tuple[str, str, str, str]]:
    return ((used.node, resource, used.namespace, name) for resource, name in used.uses)


def _uses(pod: Object) -> Iterable[tuple[str, str]]:
    spec = pod.get("spec") or {}
    yield "serviceaccounts", spec.get("serviceAccountName") or "default"
    for secret in spec.get("imagePullSecrets") or ():
        yield "secrets", secret.get("name", "")
    for volume in spec.get("volumes") or ():
        if "persistentVolumeClaim" in volume:
            yield "persistentvolumeclaims", volume["persistentVolumeClaim"].get("claimName", "")
        if "ephemeral" in volume:
            yield "persistentvolumeclaims", f"{meta.name(pod)}-{volume['name']}"
        for source in [volume, *((volume.get("projected") or {}).get("sources") or ())]:
            if "configMap" in source:
                yield "configmaps", source["configMap"].get("name", "")
            if "secret" in source:
                yield (
                    "secrets",
                    source["secret"].get("secretName") or source["secret"].get("name", ""),
                )
    for field in ("initContainers", "containers", "ephemeralContainers"):
        for container in spec.get(field) or ():
            yield from _of_environment(container)


def _of_environment(container: Object) -> Iterable[tuple[str, str]]:
    for source in container.get("envFrom") or ():
        for field, resource in (("configMapRef", "configmaps"), ("secretRef", "secrets")):
            if field in source:
                yield resource, source[field].get("name", "")
    for entry in container.get("env") or ():
        value = entry.get("valueFrom") or {}
        for field, resource in (("configMapKeyRef", "configmaps"), ("secretKeyRef", "secrets")):
            if field in value:
                yield resource, value[field].get("name", "")


def decide(node: str, asked: Attributes, graph: NodeGraph) -> bool:
    """Whether the node may do this. Writes of objects are looked at again by `restrict`."""
    check = _CHECKS.get((asked.group, asked.resource)) if asked.of_resource else None
    if check is not None and check(node, asked, graph):
        return True
    return _RULES.allows(asked)


def _own_uses(node: str, asked: Attributes, graph: NodeGraph) -> bool:
    """Named reads of what a pod here uses."""
    return (
        asked.verb in _READ
        and not asked.subresource
        and bool(asked.name)
        and graph.uses(node, asked.resource, asked.namespace, asked.name)
    )


def _accounts(node: str, asked: Attributes, graph: NodeGraph) -> bool:
    if asked.subresource == "token" and asked.verb != "create":
        return False
    if not asked.subresource and asked.verb != "get":
        return False
    return graph.uses(node, asked.resource, asked.namespace, asked.name)


def _nodes(node: str, asked: Attributes, graph: NodeGraph) -> bool:
    if asked.name != node:
        return False
    if asked.subresource == "status":
        return asked.verb in ("get", "update", "patch")
    return not asked.subresource and asked.verb in {*_READ, "update", "patch", "delete"}


def _pods(node: str, asked: Attributes, graph: NodeGraph) -> bool:
    if asked.subresource or asked.verb not in _READ:
        return False
    if asked.verb == "get":
        return graph.runs(node, asked.namespace, asked.name)
    here = required(asked.fields, "spec.nodeName") == node
    return here or graph.runs(node, asked.namespace, asked.name)


def _volumes(node: str, asked: Attributes, graph: NodeGraph) -> bool:
    if asked.subresource:
        return False
    if asked.verb == "update":
        return graph.owns_volume(node, asked.name)
    if asked.verb not in _READ:
        return False
    if asked.name:
        return graph.reads_volume(node, asked.name)
    return asked.verb != "get" and required(asked.labels, volumes.NODE_LABEL) == node


def _leases(node: str, asked: Attributes, graph: NodeGraph) -> bool:
    own = _own_lease(node, asked.namespace)
    if not own or asked.subresource:
        return False
    if asked.verb == "create":
        return asked.name in ("", own)
    return asked.verb in ("get", "update", "patch", "delete") and asked.name == own


def _own_lease(node: str, namespace: str) -> str:
    """The name of the one Lease there that is a node's; empty where none is."""
    if namespace == ANNOUNCER_LEASES:
        return announcer_lease(node)
    return node if namespace == LEASES else ""


def _csi_node(node: str, asked: Attributes, graph: NodeGraph) -> bool:
    if asked.verb == "create":
        return asked.name in ("", node)
    return asked.verb in ("get", "update", "patch", "delete") and asked.name == node


_CHECKS: dict[tuple[str, str], Callable[[str, Attributes, NodeGraph], bool]] = {
    ("", "secrets"): _own_uses,
    ("", "configmaps"): _own_uses,
    ("", "persistentvolumeclaims"): _own_uses,
    ("", "persistentvolumes"): _volumes,
    ("", "serviceaccounts"): _accounts,
    ("", "nodes"): _nodes,
    ("", "pods"): _pods,
    ("coordination.k8s.io", "leases"): _leases,
    ("storage.k8s.io", "csinodes"): _csi_node,
}


def restrict(
    user: User, kind: Kind, obj: Object | None, old: Object | None, subresource: str
) -> None:
    """NodeRestriction: what a node writes (`obj`; None for a deletion) over what there is (`old`).
    Raises `ApiError` 403."""
    node = user.node
    if not node:
        return
    if kind is kinds.NODE:
        _restrict_node(node, obj, old)
    elif kind is kinds.POD:
        _restrict_pod(node, obj, old, subresource)
    elif kind is kinds.PERSISTENT_VOLUME:
        _restrict_volume(node, obj, old)
    elif kind is kinds.LEASE:
        lease = obj if obj is not None else old or {}
        name = meta.name(lease)
        if name != _own_lease(node, meta.namespace(lease)):
            raise _no(
                kind, name, f'node "{node}" is not allowed to access leases other than its own'
            )


def _restrict_volume(node: str, obj: Object | None, old: Object | None) -> None:
    """A node lets go of a volume that it has erased, and does nothing else to it."""
    name = meta.name(obj if obj is not None else old or {})
    held = meta.metadata(old or {}).get("finalizers") or []
    left = [one for one in held if one != volumes.LOCAL_PATH]
    unchanged = ("spec", "status")
    if (
        obj is None
        or old is None
        or _owner(old) != node
        or (meta.metadata(obj).get("finalizers") or []) not in (held, left)
        or any(obj.get(part) != old.get(part) for part in unchanged)
        or meta.labels(obj) != meta.labels(old)
        or meta.annotations(obj) != meta.annotations(old)
    ):
        why = f'node "{node}" may only let go of volumes that it holds'
        raise _no(kinds.PERSISTENT_VOLUME, name, why)


def _owner(volume: Object) -> str:
    """The node whose directory the volume is; empty for other volumes."""
    made_here = volumes.provisioned_here(volume)
    return meta.labels(volume).get(volumes.NODE_LABEL, "") if made_here else ""


def _restrict_node(node: str, obj: Object | None, old: Object | None) -> None:
    name = meta.name(obj if obj is not None else old or {})
    if name != node:
        raise _no(kinds.NODE, name, f'node "{node}" is not allowed to modify node "{name}"')
    if obj is None:
        return
    before = meta.labels(old) if old is not None else {}
    after = meta.labels(obj)
    touched = sorted(
        label
        for label in before.keys() | after.keys()
        if RESTRICTED_LABELS in label and before.get(label) != after.get(label)
    )
    if touched:
        why = f'node "{node}" is not allowed to modify labels: {", ".join(touched)}'
        raise _no(kinds.NODE, name, why)
    taints = (obj.get("spec") or {}).get("taints")
    if old is not None and (taints or []) != ((old.get("spec") or {}).get("taints") or []):
        raise _no(kinds.NODE, name, f'node "{node}" is not allowed to modify taints')


def _restrict_pod(node: str, obj: Object | None, old: Object | None, subresource: str) -> None:
    pod = old if old is not None else obj or {}
    place = (pod.get("spec") or {}).get("nodeName") or ""
    name = meta.name(pod)
    if old is None:
        if "kubernetes.io/config.mirror" not in meta.annotations(pod):
            why = (
                'pod does not have "kubernetes.io/config.mirror" annotation, '
                f'node "{node}" can only create mirror pods'
            )
            raise _no(kinds.POD, name, why)
        if place != node:
            why = f'node "{node}" can only create pods with spec.nodeName set to itself'
            raise _no(kinds.POD, name, why)
        _restrict_mirror(node, pod)
        return
    if place != node:
        what = "delete pods" if obj is None else "update pod status for pods"
        if subresource == "eviction":
            what = "evict pods"
        why = f'node "{node}" can only {what} with spec.nodeName set to itself'
        raise _no(kinds.POD, name, why)
    if obj is not None and meta.labels(obj) != meta.labels(old):
        why = f'node "{node}" cannot update labels through pod status'
        raise _no(kinds.POD, name, why)


def _restrict_mirror(node: str, pod: Object) -> None:
    spec = pod.get("spec") or {}
    if spec.get("serviceAccountName"):
        why = f'node "{node}" can not create pods that reference a service account'
        raise _no(kinds.POD, meta.name(pod), why)
    used = {resource for resource, _ in _uses(pod)} - {"serviceaccounts"}
    if used:
        why = f'node "{node}" can not create pods that reference {", ".join(sorted(used))}'
        raise _no(kinds.POD, meta.name(pod), why)


def restrict_token(user: User, account: Object, bound: Object | None, pod: Object | None) -> None:
    """A node may ask for tokens bound to its own pods only. `bound` is the reference of the
    request, `pod` what it names. Raises `ApiError` 403."""
    node = user.node
    if not node:
        return
    kind, name = kinds.SERVICE_ACCOUNT, meta.name(account)
    if bound is None or bound.get("kind") != "Pod" or not bound.get("uid"):
        raise _no(kind, name, f'node "{node}" may only request tokens bound to pods by uid')
    place = ((pod or {}).get("spec") or {}).get("nodeName")
    if pod is None or place != node:
        why = f'node "{node}" can only create tokens for pods that run on it'
        raise _no(kind, name, why)


def _no(kind: Kind, name: str, why: str) -> ApiError:
    return errors.forbidden(kind.group, kind.plural, name, why)
