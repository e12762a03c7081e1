"""Every kind that is served, as data: one row each.

What differs by kind beyond its names lives in registries keyed by these rows: defaults
(`api.defaults`), validation (`api.validation`), printed columns (`api.printing`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

ALL_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind: how it is named, where it is served, what sub-resources it has."""

    group: str
    """Empty for the core group."""
    version: str
    kind: str
    plural: str
    singular: str
    short_names: tuple[str, ...] = ()
    namespaced: bool = True
    subresources: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ALL_VERBS

    @property
    def api_version(self) -> str:
        """`v1`, `apps/v1`: what `apiVersion` holds."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def list_kind(self) -> str:
        return self.kind + "List"

    @property
    def resource(self) -> str:
        """`pods`, `deployments.apps`: unique among all kinds, whatever their version."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def path(self, namespace: str | None = None, name: str = "", subresource: str = "") -> str:
        """The request path; without `namespace`, that of the whole cluster."""
        parts = ["/apis", self.group, self.version] if self.group else ["/api", self.version]
        if namespace and self.namespaced:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        if name:
            parts.append(name)
        if subresource:
            parts.append(subresource)
        return "/".join(parts)


def _core(kind: str, plural: str, *shorts: str, **more: Any) -> Kind:
    return Kind("", "v1", kind, plural, kind.lower(), shorts, **more)


NAMESPACE = _core(
    "Namespace", "namespaces", "ns", namespaced=False, subresources=("status", "finalize")
)
NODE = _core("Node", "nodes", "no", namespaced=False, subresources=("status", "proxy"))
POD = _core(
    "Pod",
    "pods",
    "po",
    subresources=("status", "log", "exec", "attach", "binding", "eviction"),
    categories=("all",),
)
SERVICE = _core("Service", "services", "svc", subresources=("status",), categories=("all",))
ENDPOINTS = _core("Endpoints", "endpoints", "ep")
CONFIG_MAP = _core("ConfigMap", "configmaps", "cm")
SECRET = _core("Secret", "secrets")
SERVICE_ACCOUNT = _core("ServiceAccount", "serviceaccounts", "sa")
EVENT = _core("Event", "events", "ev")
REPLICATION_CONTROLLER = _core(
    "ReplicationController",
    "replicationcontrollers",
    "rc",
    subresources=("status", "scale"),
    categories=("all",),
)

DEPLOYMENT = Kind(
    "apps",
    "v1",
    "Deployment",
    "deployments",
    "deployment",
    ("deploy",),
    subresources=("status", "scale"),
    categories=("all",),
)
REPLICA_SET = Kind(
    "apps",
    "v1",
    "ReplicaSet",
    "replicasets",
    "replicaset",
    ("rs",),
    subresources=("status", "scale"),
    categories=("all",),
)
CONTROLLER_REVISION = Kind(
    "apps", "v1", "ControllerRevision", "controllerrevisions", "controllerrevision"
)
DAEMON_SET = Kind(
    "apps",
    "v1",
    "DaemonSet",
    "daemonsets",
    "daemonset",
    ("ds",),
    subresources=("status",),
    categories=("all",),
)
STATEFUL_SET = Kind(
    "apps",
    "v1",
    "StatefulSet",
    "statefulsets",
    "statefulset",
    ("sts",),
    subresources=("status", "scale"),
    categories=("all",),
)
JOB = Kind("batch", "v1", "Job", "jobs", "job", subresources=("status",), categories=("all",))
CRON_JOB = Kind(
    "batch",
    "v1",
    "CronJob",
    "cronjobs",
    "cronjob",
    ("cj",),
    subresources=("status",),
    categories=("all",),
)
ENDPOINT_SLICE = Kind("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", "endpointslice")
# The same stored objects as EVENT, in the newer group's names (the API server converts).
EVENTS_EVENT = Kind("events.k8s.io", "v1", "Event", "events", "event", ("ev",))
INGRESS = Kind(
    "networking.k8s.io",
    "v1",
    "Ingress",
    "ingresses",
    "ingress",
    ("ing",),
    subresources=("status",),
)
INGRESS_CLASS = Kind(
    "networking.k8s.io", "v1", "IngressClass", "ingressclasses", "ingressclass", namespaced=False
)
LEASE = Kind("coordination.k8s.io", "v1", "Lease", "leases", "lease")

KINDS: tuple[Kind, ...] = (
    NAMESPACE,
    NODE,
    POD,
    REPLICATION_CONTROLLER,
    SERVICE,
    ENDPOINTS,
    CONFIG_MAP,
    SECRET,
    SERVICE_ACCOUNT,
    EVENT,
    DAEMON_SET,
    DEPLOYMENT,
    REPLICA_SET,
    CONTROLLER_REVISION,
    STATEFUL_SET,
    CRON_JOB,
    JOB,
    ENDPOINT_SLICE,
    EVENTS_EVENT,
    INGRESS,
    INGRESS_CLASS,
    LEASE,
)

_BY_KIND = {(kind.api_version, kind.kind): kind for kind in KINDS}
_BY_PLURAL = {(kind.group, kind.version, kind.plural): kind for kind in KINDS}


def by_kind(api_version: str, kind: str) -> Kind | None:
    """The row of an object's `apiVersion` and `kind`."""
    return _BY_KIND.get((api_version, kind))


def by_plural(group: str, version: str, plural: str) -> Kind | None:
    """The row of a request path's group, version and resource."""
    return _BY_PLURAL.get((group, version, plural))
