"""The roles that every cluster has for its users, and who holds them from the start.

Source: Kubernetes documentation, "Using RBAC Authorization", "Default roles and role bindings".
"""

from __future__ import annotations

from collections.abc import Iterator

from meshkube.api.types import Object
from meshkube.control.auth.policy import CORE, READ, WRITE, binding, paths, role, rule
from meshkube.control.auth.users import (
    ALL_SERVICE_ACCOUNTS,
    AUTHENTICATED,
    MASTERS,
    UNAUTHENTICATED,
)

_AUTHORIZATION = "authorization.k8s.io"
_AUTHENTICATION = "authentication.k8s.io"
_CERTIFICATES = "certificates.k8s.io"
_RBAC = "rbac.authorization.k8s.io"
AGGREGATE = "rbac.authorization.k8s.io/aggregate-to-"
_HEALTH = "/healthz /livez /readyz /version /version/"
_MONITORED = "/metrics /metrics/slis /healthz /healthz/* /livez /livez/* /readyz /readyz/*"
_ISSUER = (
    "/.well-known/openid-configuration /.well-known/openid-configuration/"
    " /openid/v1/jwks /openid/v1/jwks/"
)

# What a namespace holds, by group. `edit` may change these and `view` may see them.
_CORE_EDIT = (
    "configmaps events persistentvolumeclaims replicationcontrollers replicationcontrollers/scale"
    " serviceaccounts services services/proxy"
)
_CORE_VIEW = (
    "configmaps endpoints persistentvolumeclaims persistentvolumeclaims/status pods"
    " replicationcontrollers replicationcontrollers/scale serviceaccounts services services/status"
)
_CORE_STATUS = (
    "bindings events limitranges namespaces/status pods/log pods/status"
    " replicationcontrollers/status resourcequotas resourcequotas/status"
)
_APPS = (
    "daemonsets deployments deployments/scale replicasets replicasets/scale statefulsets"
    " statefulsets/scale"
)
_APPS_VIEW = (
    "controllerrevisions daemonsets daemonsets/status deployments deployments/scale"
    " deployments/status replicasets replicasets/scale replicasets/status statefulsets"
    " statefulsets/scale statefulsets/status"
)


def roles() -> Iterator[Object]:
    """Every default role but those of the cluster's own parts."""
    everything = [rule("*", "*", "*"), paths("*", "*")]
    yield role("cluster-admin", everything)
    yield role(
        "system:discovery",
        [paths("get", "/api /api/* /apis /apis/* " + _HEALTH + " /openapi /openapi/*")],
    )
    yield role("system:public-info-viewer", [paths("get", _HEALTH)])
    yield role("system:monitoring", [paths("get", _MONITORED)])
    yield role(
        "system:service-account-issuer-discovery",
        [paths("get", _ISSUER)],
    )
    yield role(
        "system:basic-user",
        [
            rule("create", _AUTHORIZATION, "selfsubjectaccessreviews selfsubjectrulesreviews"),
            rule("create", _AUTHENTICATION, "selfsubjectreviews"),
        ],
    )
    yield role(
        "system:auth-delegator",
        [
            rule("create", _AUTHENTICATION, "tokenreviews"),
            rule("create", _AUTHORIZATION, "subjectaccessreviews"),
        ],
    )
    yield from _for_certificates()
    yield from _for_namespaces()


def _for_certificates() -> Iterator[Object]:
    """Held by nobody from the start, as in Kubernetes: an administrator hands them out."""
    requests = "certificatesigningrequests"
    prefix = f"system:{_CERTIFICATES}:"
    yield role("system:node-bootstrapper", [rule("create get list watch", _CERTIFICATES, requests)])
    for what in ("nodeclient", "selfnodeclient"):
        name = f"{prefix}{requests}:{what}"
        yield role(name, [rule("create", _CERTIFICATES, f"{requests}/{what}")])
    for signer in (
        "kube-apiserver-client",
        "kube-apiserver-client-kubelet",
        "kubelet-serving",
        "legacy-unknown",
    ):
        approves = rule("approve", _CERTIFICATES, "signers", f"kubernetes.io/{signer}")
        yield role(f"{prefix}{signer}-approver", [approves])


def _for_namespaces() -> Iterator[Object]:
    standard = {"admin": "admin", "edit": "edit", "view": "view"}
    feeds = {
        "admin": {},
        "edit": {f"{AGGREGATE}admin": "true"},
        "view": {f"{AGGREGATE}edit": "true"},
    }
    for name in standard:
        yield role(name, (), labels=feeds[name], aggregate=f"{AGGREGATE}{name}")
    for name, rules in (("admin", _admin()), ("edit", _edit()), ("view", _view())):
        labels = {f"{AGGREGATE}{name}": "true"}
        yield role(f"system:aggregate-to-{name}", rules, labels=labels)
    yield role(
        "system:aggregated-metrics-reader",
        [rule(READ, "metrics.k8s.io", "pods nodes")],
        labels={f"{AGGREGATE}{name}": "true" for name in standard},
    )


def _admin() -> list[Object]:
    return [
        rule("create", _AUTHORIZATION, "localsubjectaccessreviews"),
        rule(f"{WRITE} {READ}", _RBAC, "roles rolebindings"),
    ]


def _edit() -> list[Object]:
    return [
        rule(
            READ, CORE, "pods/attach pods/exec pods/portforward pods/proxy secrets services/proxy"
        ),
        rule("impersonate", CORE, "serviceaccounts"),
        rule(WRITE, CORE, "pods pods/attach pods/exec pods/portforward pods/proxy"),
        rule("create", CORE, "pods/eviction serviceaccounts/token"),
        rule(WRITE, CORE, "secrets " + _CORE_EDIT),
        rule(WRITE, "apps", _APPS + " deployments/rollback"),
        rule(WRITE, "autoscaling", "horizontalpodautoscalers"),
        rule(WRITE, "batch", "cronjobs jobs"),
        rule(WRITE, "policy", "poddisruptionbudgets"),
        rule(WRITE, "networking.k8s.io", "ingresses networkpolicies"),
        rule(f"{WRITE} {READ}", "coordination.k8s.io", "leases"),
    ]


def _view() -> list[Object]:
    return [
        rule(READ, CORE, _CORE_VIEW),
        rule(READ, CORE, _CORE_STATUS),
        rule(READ, CORE, "namespaces"),
        rule(READ, "discovery.k8s.io", "endpointslices"),
        rule(READ, "apps", _APPS_VIEW),
        rule(READ, "autoscaling", "horizontalpodautoscalers horizontalpodautoscalers/status"),
        rule(READ, "batch", "cronjobs cronjobs/status jobs jobs/status"),
        rule(READ, "policy", "poddisruptionbudgets poddisruptionbudgets/status"),
        rule(READ, "networking.k8s.io", "ingresses ingresses/status networkpolicies"),
    ]


def bindings() -> Iterator[Object]:
    """Who holds them: everybody may see the version, known users may discover and ask of
    themselves."""
    yield binding("cluster-admin", "cluster-admin", [f"group:{MASTERS}"])
    for name in ("system:discovery", "system:basic-user"):
        yield binding(name, name, [f"group:{AUTHENTICATED}"])
    everybody = [f"group:{AUTHENTICATED}", f"group:{UNAUTHENTICATED}"]
    yield binding("system:public-info-viewer", "system:public-info-viewer", everybody)
    yield binding("system:monitoring", "system:monitoring", ["group:system:monitoring"])
    issuer = "system:service-account-issuer-discovery"
    yield binding(issuer, issuer, [f"group:{ALL_SERVICE_ACCOUNTS}"])
