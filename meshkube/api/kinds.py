"""Every kind that is served, as data: one row each.

What differs by kind beyond its names lives in registries keyed by these rows: defaults
(`api.defaults`), validation (`api.validation`), printed columns (`api.printing`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from meshkube.api.custom.definition import Definition

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
    stored: Kind | None = None
    """The kind in whose form the same objects are kept, where that is another one than this: an
    older version, another group. `api.conversion` goes from one to the other."""
    list_name: str = ""
    """The kind of a list of these, where it is not the kind's own name and `List`."""
    definition: Definition | None = field(default=None, compare=False, repr=False)
    """What a CustomResourceDefinition says of these objects; None for a built-in kind."""

    @property
    def storage(self) -> Kind:
        """The kind in whose form objects are kept: mostly this one itself."""
        return self.stored or self

    @property
    def api_version(self) -> str:
        """`v1`, `apps/v1`: what `apiVersion` holds."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def list_kind(self) -> str:
        return self.list_name or self.kind + "List"

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


def _row(api_version: str, kind: str, plural: str, *shorts: str, **more: Any) -> Kind:
    group, _, version = api_version.rpartition("/")
    return Kind(group, version, kind, plural, kind.lower(), shorts, **more)


def _cluster(api_version: str, kind: str, plural: str, *shorts: str, **more: Any) -> Kind:
    return _row(api_version, kind, plural, *shorts, namespaced=False, **more)


NAMESPACE = _core(
    "Namespace",
    "namespaces",
    "ns",
    namespaced=False,
    subresources=("status", "finalize"),
    verbs=tuple(verb for verb in ALL_VERBS if verb != "deletecollection"),
)
NODE = _core("Node", "nodes", "no", namespaced=False, subresources=("status", "proxy"))
POD = _core(
    "Pod",
    "pods",
    "po",
    subresources=(
        "status",
        "log",
        "exec",
        "attach",
        "portforward",
        "proxy",
        "binding",
        "eviction",
        "ephemeralcontainers",
        "resize",
    ),
    categories=("all",),
)
SERVICE = _core("Service", "services", "svc", subresources=("status", "proxy"), categories=("all",))
ENDPOINTS = _core("Endpoints", "endpoints", "ep")
CONFIG_MAP = _core("ConfigMap", "configmaps", "cm")
SECRET = _core("Secret", "secrets")
SERVICE_ACCOUNT = _core("ServiceAccount", "serviceaccounts", "sa", subresources=("token",))
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
# The same stored objects as EVENT, in the newer group's names.
EVENTS_EVENT = _row("events.k8s.io/v1", "Event", "events", "ev", stored=EVENT)
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

_STATUS = ("status",)

PERSISTENT_VOLUME = _cluster(
    "v1", "PersistentVolume", "persistentvolumes", "pv", subresources=_STATUS
)
PERSISTENT_VOLUME_CLAIM = _row(
    "v1", "PersistentVolumeClaim", "persistentvolumeclaims", "pvc", subresources=_STATUS
)
POD_TEMPLATE = _row("v1", "PodTemplate", "podtemplates")
RESOURCE_QUOTA = _row("v1", "ResourceQuota", "resourcequotas", "quota", subresources=_STATUS)
LIMIT_RANGE = _row("v1", "LimitRange", "limitranges", "limits")

HORIZONTAL_POD_AUTOSCALER = _row(
    "autoscaling/v2",
    "HorizontalPodAutoscaler",
    "horizontalpodautoscalers",
    "hpa",
    subresources=_STATUS,
    categories=("all",),
)
HORIZONTAL_POD_AUTOSCALER_V1 = _row(
    "autoscaling/v1",
    "HorizontalPodAutoscaler",
    "horizontalpodautoscalers",
    "hpa",
    subresources=_STATUS,
    categories=("all",),
    stored=HORIZONTAL_POD_AUTOSCALER,
)
POD_DISRUPTION_BUDGET = _row(
    "policy/v1", "PodDisruptionBudget", "poddisruptionbudgets", "pdb", subresources=_STATUS
)
NETWORK_POLICY = _row("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies", "netpol")
IP_ADDRESS = _cluster("networking.k8s.io/v1", "IPAddress", "ipaddresses", "ip")
SERVICE_CIDR = _cluster("networking.k8s.io/v1", "ServiceCIDR", "servicecidrs", subresources=_STATUS)

ROLE = _row("rbac.authorization.k8s.io/v1", "Role", "roles")
ROLE_BINDING = _row("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings")
CLUSTER_ROLE = _cluster("rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles")
CLUSTER_ROLE_BINDING = _cluster(
    "rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "clusterrolebindings"
)

STORAGE_CLASS = _cluster("storage.k8s.io/v1", "StorageClass", "storageclasses", "sc")
VOLUME_ATTACHMENT = _cluster(
    "storage.k8s.io/v1", "VolumeAttachment", "volumeattachments", subresources=_STATUS
)
CSI_DRIVER = _cluster("storage.k8s.io/v1", "CSIDriver", "csidrivers")
CSI_NODE = _cluster("storage.k8s.io/v1", "CSINode", "csinodes")
CSI_STORAGE_CAPACITY = _row("storage.k8s.io/v1", "CSIStorageCapacity", "csistoragecapacities")

PRIORITY_CLASS = _cluster("scheduling.k8s.io/v1", "PriorityClass", "priorityclasses", "pc")
RUNTIME_CLASS = _cluster("node.k8s.io/v1", "RuntimeClass", "runtimeclasses")
CERTIFICATE_SIGNING_REQUEST = _cluster(
    "certificates.k8s.io/v1",
    "CertificateSigningRequest",
    "certificatesigningrequests",
    "csr",
    subresources=("status", "approval"),
)

_API_EXTENSIONS = ("api-extensions",)
MUTATING_WEBHOOK_CONFIGURATION = _cluster(
    "admissionregistration.k8s.io/v1",
    "MutatingWebhookConfiguration",
    "mutatingwebhookconfigurations",
    categories=_API_EXTENSIONS,
)
VALIDATING_WEBHOOK_CONFIGURATION = _cluster(
    "admissionregistration.k8s.io/v1",
    "ValidatingWebhookConfiguration",
    "validatingwebhookconfigurations",
    categories=_API_EXTENSIONS,
)
CUSTOM_RESOURCE_DEFINITION = _cluster(
    "apiextensions.k8s.io/v1",
    "CustomResourceDefinition",
    "customresourcedefinitions",
    "crd",
    "crds",
    subresources=_STATUS,
    categories=_API_EXTENSIONS,
)
VALIDATING_ADMISSION_POLICY = _cluster(
    "admissionregistration.k8s.io/v1",
    "ValidatingAdmissionPolicy",
    "validatingadmissionpolicies",
    subresources=_STATUS,
    categories=_API_EXTENSIONS,
)
VALIDATING_ADMISSION_POLICY_BINDING = _cluster(
    "admissionregistration.k8s.io/v1",
    "ValidatingAdmissionPolicyBinding",
    "validatingadmissionpolicybindings",
    categories=_API_EXTENSIONS,
)

FLOW_SCHEMA = _cluster(
    "flowcontrol.apiserver.k8s.io/v1", "FlowSchema", "flowschemas", subresources=_STATUS
)
PRIORITY_LEVEL_CONFIGURATION = _cluster(
    "flowcontrol.apiserver.k8s.io/v1",
    "PriorityLevelConfiguration",
    "prioritylevelconfigurations",
    subresources=_STATUS,
)

API_SERVICE = _cluster(
    "apiregistration.k8s.io/v1",
    "APIService",
    "apiservices",
    subresources=_STATUS,
    categories=_API_EXTENSIONS,
)

# A pod's sub-resource under an older path: what is posted there gives the pod of that name a node.
BINDING = _core("Binding", "bindings", verbs=("create",))

# Measured when somebody asks, and never stored.
NODE_METRICS = Kind(
    "metrics.k8s.io", "v1beta1", "NodeMetrics", "nodes", "", namespaced=False, verbs=("get", "list")
)
POD_METRICS = Kind("metrics.k8s.io", "v1beta1", "PodMetrics", "pods", "", verbs=("get", "list"))
MEASURED: tuple[Kind, ...] = (NODE_METRICS, POD_METRICS)


# Answered on the spot, and never stored.
def _review(group: str, kind: str, *, namespaced: bool = False) -> Kind:
    name = kind.lower()
    return Kind(group, "v1", kind, name + "s", name, namespaced=namespaced, verbs=("create",))


TOKEN_REVIEW = _review("authentication.k8s.io", "TokenReview")
SUBJECT_ACCESS_REVIEW = _review("authorization.k8s.io", "SubjectAccessReview")
REVIEWS: tuple[Kind, ...] = (
    _review("authentication.k8s.io", "SelfSubjectReview"),
    TOKEN_REVIEW,
    _review("authorization.k8s.io", "LocalSubjectAccessReview", namespaced=True),
    _review("authorization.k8s.io", "SelfSubjectAccessReview"),
    _review("authorization.k8s.io", "SelfSubjectRulesReview"),
    SUBJECT_ACCESS_REVIEW,
)

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
    PERSISTENT_VOLUME,
    PERSISTENT_VOLUME_CLAIM,
    POD_TEMPLATE,
    RESOURCE_QUOTA,
    LIMIT_RANGE,
    # The first version of a group is the one that clients prefer.
    HORIZONTAL_POD_AUTOSCALER,
    HORIZONTAL_POD_AUTOSCALER_V1,
    POD_DISRUPTION_BUDGET,
    NETWORK_POLICY,
    IP_ADDRESS,
    SERVICE_CIDR,
    ROLE,
    ROLE_BINDING,
    CLUSTER_ROLE,
    CLUSTER_ROLE_BINDING,
    STORAGE_CLASS,
    VOLUME_ATTACHMENT,
    CSI_DRIVER,
    CSI_NODE,
    CSI_STORAGE_CAPACITY,
    PRIORITY_CLASS,
    RUNTIME_CLASS,
    CERTIFICATE_SIGNING_REQUEST,
    CUSTOM_RESOURCE_DEFINITION,
    MUTATING_WEBHOOK_CONFIGURATION,
    VALIDATING_WEBHOOK_CONFIGURATION,
    VALIDATING_ADMISSION_POLICY,
    VALIDATING_ADMISSION_POLICY_BINDING,
    FLOW_SCHEMA,
    PRIORITY_LEVEL_CONFIGURATION,
    API_SERVICE,
)

STORED: tuple[Kind, ...] = tuple(kind for kind in KINDS if kind.stored is None)
"""Those that are kept under their own form: every stored object is of one of these."""

_BY_KIND = {(kind.api_version, kind.kind): kind for kind in KINDS}
_BY_PLURAL = {
    (kind.group, kind.version, kind.plural): kind for kind in (*KINDS, BINDING, *MEASURED)
}


def by_kind(api_version: str, kind: str) -> Kind | None:
    """The row of an object's `apiVersion` and `kind`."""
    return _BY_KIND.get((api_version, kind))


def by_plural(group: str, version: str, plural: str) -> Kind | None:
    """The row of a request path's group, version and resource."""
    return _BY_PLURAL.get((group, version, plural))
