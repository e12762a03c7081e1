"""The cluster's own parts as users: what each may do, and no more.

Every controller is a service account of its own in kube-system, as in Kubernetes. Enforced in the
process as over the network: a part that needs a right gets a row here.
"""

from __future__ import annotations

from collections.abc import Iterator

from meshkube.api.types import Object
from meshkube.control.auth.node import RULES as NODE_RULES
from meshkube.control.auth.policy import CORE, READ, binding, paths, role, rule
from meshkube.control.auth.rules import Rule
from meshkube.control.auth.users import AUTHENTICATED, NODES, UNAUTHENTICATED

CA_PATH = "/cacerts"
CLUSTER_PATH = "/meshkube/v1/cluster"
CONTROLLER_MANAGER = "system:kube-controller-manager"
SCHEDULER = "system:kube-scheduler"
PROXY = "system:kube-proxy"
DNS = "system:meshkube:dns"
INGRESS = "system:meshkube:ingress"

_DISCOVERY = "discovery.k8s.io"
_CERTIFICATES = "certificates.k8s.io"
_SIGNERS = (
    "kubernetes.io/kube-apiserver-client kubernetes.io/kube-apiserver-client-kubelet"
    " kubernetes.io/kubelet-serving kubernetes.io/legacy-unknown"
)
_EVENTS = rule("create patch update", f"{CORE},events.k8s.io", "events")
_FOLLOW = "list watch"
_SERVICES = [rule(READ, CORE, "services"), rule(READ, _DISCOVERY, "endpointslices")]
_ANY = "*"
_DNS_SETTINGS = "meshkube:dns-settings"

# Name of the ClusterRole, its rules, and who holds it.
_COMPONENTS: tuple[tuple[str, list[Rule], tuple[str, ...]], ...] = (
    # Its caches hold every kind; what changes the cluster is done by the controllers below.
    (
        CONTROLLER_MANAGER,
        [
            rule(READ, _ANY, _ANY),
            _EVENTS,
            rule("create get update patch", "coordination.k8s.io", "leases"),
            rule("create", CORE, "serviceaccounts/token"),
            rule("create", "authentication.k8s.io", "tokenreviews"),
            rule("create", "authorization.k8s.io", "subjectaccessreviews"),
        ],
        (f"user:{CONTROLLER_MANAGER}",),
    ),
    (
        SCHEDULER,
        [
            _EVENTS,
            rule("create get update patch", "coordination.k8s.io", "leases"),
            rule(READ, CORE, "nodes namespaces pods services replicationcontrollers"),
            rule("delete", CORE, "pods"),
            rule("create", CORE, "bindings pods/binding"),
            rule("patch update", CORE, "pods/status"),
            rule(READ, "apps", "replicasets statefulsets"),
            rule(READ, "policy", "poddisruptionbudgets"),
            rule(f"{READ} patch update", CORE, "persistentvolumeclaims persistentvolumes"),
            rule(READ, "storage.k8s.io", "storageclasses csinodes csidrivers csistoragecapacities"),
            rule(READ, "scheduling.k8s.io", "priorityclasses"),
        ],
        (f"user:{SCHEDULER}",),
    ),
    (
        "system:node-proxier",
        [
            *_SERVICES,
            rule(_FOLLOW, CORE, "endpoints"),
            rule(READ, CORE, "nodes"),
            # By their Leases nodes know which of them can announce addresses.
            rule(READ, "coordination.k8s.io", "leases"),
            rule(READ, CORE, "pods namespaces"),
            rule(READ, "networking.k8s.io", "networkpolicies servicecidrs"),
            _EVENTS,
        ],
        (f"user:{PROXY}",),
    ),
    # A host without a control plane proxies, names and routes as these, over its own certificate.
    (
        "meshkube:node-components",
        [
            rule("impersonate", CORE, "users", f"{PROXY} {DNS} {INGRESS}"),
            paths("get", CLUSTER_PATH),
        ],
        (f"group:{NODES}",),
    ),
    # Whoever joins has a hash of the CA's certificate, and asks for that first.
    (
        "meshkube:join",
        [paths("get", CA_PATH)],
        (f"group:{AUTHENTICATED}", f"group:{UNAUTHENTICATED}"),
    ),
    # The authorizer of nodes decides by node: nobody is bound to this, as in Kubernetes.
    ("system:node", list(NODE_RULES), ()),
    (
        "system:kube-dns",
        [rule(_FOLLOW, CORE, "endpoints services")],
        ("account:kube-system/kube-dns",),
    ),
    (
        DNS,
        [*_SERVICES, rule(READ, CORE, "namespaces pods nodes"), _EVENTS],
        (f"user:{DNS}",),
    ),
    (
        INGRESS,
        [
            *_SERVICES,
            rule(READ, CORE, "secrets"),
            rule(READ, CORE, "nodes"),
            rule(READ, "networking.k8s.io", "ingresses ingressclasses"),
            rule("get patch update", "networking.k8s.io", "ingresses/status"),
            _EVENTS,
        ],
        (f"user:{INGRESS}",),
    ),
)

# The writes of each controller, by its account in kube-system; reads come from the shared caches.
_PODS = rule("create delete patch update get list", CORE, "pods")
_CONTROLLERS: dict[str, list[Rule]] = {
    "deployment-controller": [
        rule("get list watch patch update", "apps", "deployments"),
        rule("update patch", "apps", "deployments/status deployments/finalizers"),
        rule("create delete get list patch update watch", "apps", "replicasets"),
        rule("get list update watch", CORE, "pods"),
    ],
    "replicaset-controller": [
        rule("get list patch update watch", "apps", "replicasets"),
        rule("update patch", "apps", "replicasets/status replicasets/finalizers"),
        _PODS,
    ],
    "replication-controller": [
        rule("get list patch update watch", CORE, "replicationcontrollers"),
        rule(
            "update patch", CORE, "replicationcontrollers/status replicationcontrollers/finalizers"
        ),
        _PODS,
    ],
    "statefulset-controller": [
        rule("get list watch patch update", "apps", "statefulsets"),
        rule("update patch", "apps", "statefulsets/status statefulsets/finalizers"),
        rule("create delete get list patch update watch", "apps", "controllerrevisions"),
        rule("create get list update delete", CORE, "persistentvolumeclaims"),
        _PODS,
    ],
    "daemon-set-controller": [
        rule("get list watch patch update", "apps", "daemonsets"),
        rule("update patch", "apps", "daemonsets/status daemonsets/finalizers"),
        rule("create delete get list patch update watch", "apps", "controllerrevisions"),
        rule("create", CORE, "pods/binding"),
        _PODS,
    ],
    "job-controller": [
        rule("get list watch patch update delete", "batch", "jobs"),
        rule("update patch", "batch", "jobs/status jobs/finalizers"),
        _PODS,
    ],
    "cronjob-controller": [
        rule("get list watch patch update", "batch", "cronjobs"),
        rule("update patch", "batch", "cronjobs/status cronjobs/finalizers"),
        rule("create delete get list patch update watch", "batch", "jobs"),
        rule("delete list", CORE, "pods"),
    ],
    "ttl-after-finished-controller": [rule("get list watch delete", "batch", "jobs")],
    "disruption-controller": [
        rule("get list watch", "policy", "poddisruptionbudgets"),
        rule("update patch", "policy", "poddisruptionbudgets/status"),
        rule("patch update", CORE, "pods/status"),
        rule("get", _ANY, "*/scale"),
    ],
    "horizontal-pod-autoscaler": [
        rule("get list watch", "autoscaling", "horizontalpodautoscalers"),
        rule("update patch", "autoscaling", "horizontalpodautoscalers/status"),
        rule("list", CORE, "pods"),
        rule("get update patch", _ANY, "*/scale"),
        rule("list get", "metrics.k8s.io,custom.metrics.k8s.io,external.metrics.k8s.io", "*"),
    ],
    "resourcequota-controller": [
        rule("list watch get", _ANY, _ANY),
        rule("update patch", CORE, "resourcequotas/status"),
    ],
    "endpoint-controller": [rule("create delete get list update patch", CORE, "endpoints")],
    "endpointslice-controller": [
        rule("create delete get list update patch", _DISCOVERY, "endpointslices"),
        rule("update patch", CORE, "services/finalizers"),
    ],
    "endpointslicemirroring-controller": [
        rule("create delete get list update patch", _DISCOVERY, "endpointslices"),
        rule("update patch", CORE, "endpoints/finalizers"),
    ],
    "service-controller": [rule("get list patch update", CORE, "services services/status")],
    "cloud-node-controller": [
        rule("get list patch update delete", CORE, "nodes"),
        rule("patch update", CORE, "nodes/status"),
    ],
    "route-controller": [rule("list", CORE, "nodes")],
    "namespace-controller": [
        rule("get list watch delete update patch", CORE, "namespaces"),
        rule("update patch", CORE, "namespaces/finalize namespaces/status"),
        rule("get list delete deletecollection watch", _ANY, _ANY),
    ],
    "generic-garbage-collector": [rule("get list watch delete patch update", _ANY, _ANY)],
    "node-controller": [
        rule("get list patch update delete", CORE, "nodes"),
        rule("patch update", CORE, "nodes/status pods/status"),
        rule("get list delete", CORE, "pods"),
        rule("get list create update delete", "coordination.k8s.io", "leases"),
    ],
    "pod-garbage-collector": [
        rule("list watch delete get", CORE, "pods"),
        rule("patch update", CORE, "pods/status"),
        rule("get list", CORE, "nodes"),
    ],
    "persistent-volume-binder": [
        rule("get list watch update create delete", CORE, "persistentvolumes"),
        rule("update", CORE, "persistentvolumes/status persistentvolumeclaims/status"),
        rule("get list watch update", CORE, "persistentvolumeclaims"),
        rule(READ, "storage.k8s.io", "storageclasses"),
    ],
    "meshkube-local-path": [
        rule("create", CORE, "persistentvolumes"),
        rule("update", CORE, "persistentvolumeclaims"),
    ],
    "expand-controller": [
        rule("get list watch update", CORE, "persistentvolumes"),
        rule("update", CORE, "persistentvolumeclaims/status"),
    ],
    "pvc-protection-controller": [
        rule("get list watch update", CORE, "persistentvolumeclaims"),
        rule(READ, CORE, "pods"),
    ],
    "pv-protection-controller": [rule("get list watch update", CORE, "persistentvolumes")],
    "ephemeral-volume-controller": [
        rule(READ, CORE, "pods"),
        rule("update", CORE, "pods/finalizers"),
        rule("get list watch create", CORE, "persistentvolumeclaims"),
    ],
    "service-account-controller": [rule("create get list", CORE, "serviceaccounts")],
    "root-ca-cert-publisher": [rule("create update get", CORE, "configmaps")],
    "token-controller": [
        rule("get list watch update patch delete", CORE, "secrets"),
        rule("get list watch update", CORE, "serviceaccounts"),
    ],
    "token-cleaner": [rule("get list watch delete", CORE, "secrets")],
    "meshkube-ingress-tickets": [
        rule("create", CORE, "secrets"),
        rule("get update", CORE, "secrets", "meshkube-ingress-tickets"),
    ],
    "certificate-controller": [
        rule("delete get list watch", _CERTIFICATES, "certificatesigningrequests"),
        rule(
            "update",
            _CERTIFICATES,
            "certificatesigningrequests/approval certificatesigningrequests/status",
        ),
        rule("approve sign", _CERTIFICATES, "signers", _SIGNERS),
    ],
    # It puts together what others were allowed to write: no more may come of it.
    "clusterrole-aggregation-controller": [
        rule("escalate get list patch update watch", "rbac.authorization.k8s.io", "clusterroles")
    ],
}
# Our controller (`control.loop.Controller.name`) -> its accounts' rights, all under one account.
CONTROLLER_ACCOUNTS = {
    "deployment": "deployment-controller",
    "replicaset": "replicaset-controller",
    "replicationcontroller": "replication-controller",
    "statefulset": "statefulset-controller",
    "daemonset": "daemon-set-controller",
    "job": "job-controller",
    "cronjob": "cronjob-controller",
    "ttl-after-finished": "ttl-after-finished-controller",
    "disruption": "disruption-controller",
    "horizontalpodautoscaler": "horizontal-pod-autoscaler",
    "resourcequota": "resourcequota-controller",
    "persistentvolumeclaim-binder": "persistent-volume-binder",
    "persistentvolume-binder": "persistent-volume-binder",
    "local-path": "meshkube-local-path",
    "persistentvolume-expander": "expand-controller",
    "pvc-protection": "pvc-protection-controller",
    "pv-protection": "pv-protection-controller",
    "ephemeral-volume": "ephemeral-volume-controller",
    "endpoints": "endpoint-controller",
    "endpointslice": "endpointslice-controller",
    "endpointslicemirroring": "endpointslicemirroring-controller",
    "service-lb": "service-controller",
    "cloud-node": "cloud-node-controller",
    "cloud-route": "route-controller",
    "namespace": "namespace-controller",
    "garbage-collector": "generic-garbage-collector",
    "node": "node-controller",
    "taint-eviction": "node-controller",
    "node-ipam": "node-controller",
    "pod-gc": "pod-garbage-collector",
    "serviceaccount": "service-account-controller",
    "serviceaccount-token": "token-controller",
    "tokencleaner": "token-cleaner",
    "ingress-tickets": "meshkube-ingress-tickets",
    "csrapproving": "certificate-controller",
    "csrsigning": "certificate-controller",
    "csrcleaner": "certificate-controller",
    "clusterrole-aggregation": "clusterrole-aggregation-controller",
}


def controller_user(name: str) -> str:
    """The user name of one of our controllers, or of the scheduler."""
    if name == "scheduler":
        return SCHEDULER
    account = CONTROLLER_ACCOUNTS.get(name, f"{name}-controller")
    return f"system:serviceaccount:kube-system:{account}"


def roles() -> Iterator[Object]:
    for name, rules, _ in _COMPONENTS:
        yield role(name, rules)
    for account, rules in _CONTROLLERS.items():
        yield role(f"system:controller:{account}", [*rules, _EVENTS])
    names = "extension-apiserver-authentication"
    yield role(f"{names}-reader", [rule(READ, CORE, "configmaps", names)], namespace="kube-system")
    settings = rule(READ, CORE, "configmaps", "meshkube-dns")
    yield role(_DNS_SETTINGS, [settings], namespace="kube-system")


def bindings() -> Iterator[Object]:
    for name, _, holders in _COMPONENTS:
        yield binding(name, name, holders)
    for account in _CONTROLLERS:
        name = f"system:controller:{account}"
        yield binding(name, name, [f"account:kube-system/{account}"])
    yield binding(
        _DNS_SETTINGS, _DNS_SETTINGS, [f"user:{DNS}"], namespace="kube-system", to_role=True
    )
    # One controller of ours makes both the accounts and the bundle of CAs.
    yield binding(
        "meshkube:root-ca-cert-publisher",
        "system:controller:root-ca-cert-publisher",
        ["account:kube-system/service-account-controller"],
    )
