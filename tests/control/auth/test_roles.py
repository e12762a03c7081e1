"""The tables of roles: complete, least, and kept up."""

from __future__ import annotations

import pytest

from meshkube.api import kinds
from meshkube.control.auth import component_roles, default_roles
from meshkube.control.auth.attributes import Attributes
from meshkube.control.auth.authorizer import Authorizer
from meshkube.control.auth.component_roles import CONTROLLER_ACCOUNTS, controller_user
from meshkube.control.auth.policy import AUTO_UPDATE, binding, reconciled, role, rule
from meshkube.control.auth.users import ANONYMOUS, SERVICE_ACCOUNT_PREFIX, User, component
from meshkube.control.controllers import CONTROLLERS, cluster_role_aggregation


def world() -> Authorizer:
    """The default roles, put together."""
    found = Authorizer()
    roles = {
        one["metadata"]["name"]: one
        for source in (default_roles, component_roles)
        for one in source.roles()
    }
    # Those that are put together feed each other, so as often as it takes.
    for _ in range(3):
        for one in roles.values():
            if "aggregationRule" in one:
                one["rules"] = cluster_role_aggregation.plan(one, roles.values())
    for one in roles.values():
        found.rbac.set_role(one)
    for source in (default_roles, component_roles):
        for one in source.bindings():
            found.rbac.set_binding(one)
    return found


WORLD = world()


def may(
    user: User | str, verb: str, resource: str, group: str = "", namespace: str = "shop"
) -> bool:
    if isinstance(user, str):
        user = component(user.replace("kube-system:", f"{SERVICE_ACCOUNT_PREFIX}kube-system:"))
    plural, _, sub = resource.partition("/")
    return WORLD.allows(Attributes(user, verb, group, plural, sub, namespace, "x"))


def test_every_controller_has_an_account_and_a_role() -> None:
    for controller in CONTROLLERS:
        assert controller.name in CONTROLLER_ACCOUNTS
        user = component(controller_user(controller.name))
        assert WORLD.rbac.rules_of(user, "")[0], controller.name


def test_no_binding_names_a_role_that_is_not_there() -> None:
    for source in (default_roles, component_roles):
        names = {
            one["metadata"]["name"]
            for other in (default_roles, component_roles)
            for one in other.roles()
        }
        assert {one["roleRef"]["name"] for one in source.bindings()} <= names


MATRIX = [
    ("kube-system:deployment-controller", "create", "replicasets", "apps", True),
    ("kube-system:deployment-controller", "create", "pods", "", False),
    ("kube-system:deployment-controller", "get", "secrets", "", False),
    ("kube-system:replicaset-controller", "create", "pods", "", True),
    ("kube-system:replicaset-controller", "delete", "nodes", "", False),
    ("kube-system:endpoint-controller", "update", "services", "", False),
    ("system:kube-scheduler", "create", "pods/binding", "", True),
    ("system:kube-scheduler", "create", "pods", "", False),
    ("system:kube-scheduler", "get", "secrets", "", False),
    ("system:kube-controller-manager", "create", "pods", "", False),
    ("system:kube-controller-manager", "list", "secrets", "", True),
    ("system:kube-proxy", "watch", "endpointslices", "discovery.k8s.io", True),
    ("system:kube-proxy", "get", "secrets", "", False),
    ("system:kube-proxy", "update", "services", "", False),
    ("system:meshkube:dns", "watch", "services", "", True),
    ("system:meshkube:dns", "get", "configmaps", "", False),
    ("system:meshkube:ingress", "watch", "secrets", "", True),
    ("system:meshkube:ingress", "update", "secrets", "", False),
    ("system:meshkube:ingress", "patch", "ingresses/status", "networking.k8s.io", True),
    ("system:meshkube:ingress", "patch", "ingresses", "networking.k8s.io", False),
]  # fmt: skip


@pytest.mark.parametrize(("user", "verb", "resource", "group", "allowed"), MATRIX)
def test_parts_do_their_work_and_no_more(
    user: str, verb: str, resource: str, group: str, allowed: bool
) -> None:
    assert may(user, verb, resource, group) is allowed


@pytest.mark.parametrize(
    ("name", "verb", "resource", "group", "allowed"),
    [
        ("view", "list", "pods", "", True),
        ("view", "get", "secrets", "", False),
        ("view", "create", "pods", "", False),
        ("view", "list", "roles", "rbac.authorization.k8s.io", False),
        ("edit", "create", "deployments", "apps", True),
        ("edit", "get", "secrets", "", True),
        ("edit", "list", "pods", "", True),
        ("edit", "create", "serviceaccounts/token", "", True),
        ("edit", "create", "rolebindings", "rbac.authorization.k8s.io", False),
        ("admin", "create", "rolebindings", "rbac.authorization.k8s.io", True),
        ("admin", "delete", "deployments", "apps", True),
        ("admin", "update", "resourcequotas", "", False),
        ("cluster-admin", "delete", "nodes", "", True),
    ],
)
def test_roles_for_people(name: str, verb: str, resource: str, group: str, allowed: bool) -> None:
    found = world()
    found.rbac.set_binding(binding("b", name, ["user:alice"], namespace="shop"))
    plural, _, sub = resource.partition("/")
    asked = Attributes(User("alice"), verb, group, plural, sub, "shop", "x")
    assert found.allows(asked) is allowed


def test_nobody_can_do_anything_and_see_little() -> None:
    for kind in kinds.KINDS:
        assert not may(ANONYMOUS, "get", kind.plural, kind.group)
    assert WORLD.allows(Attributes(ANONYMOUS, "get", path="/version"))
    for path in ("/", "/api", "/apis", "/metrics", "/openapi/v2", "/openid/v1/jwks"):
        assert not WORLD.allows(Attributes(ANONYMOUS, "get", path=path))


def test_what_is_missing_is_added_and_what_is_more_is_kept() -> None:
    wanted = role("r", [rule("get list", "", "pods"), rule("get", "", "nodes")])
    assert reconciled(wanted, wanted) is None
    own = rule("delete", "", "pods")
    stored = {**wanted, "rules": [own, rule("get", "", "pods"), rule("get list", "", "nodes")]}
    changed = reconciled(wanted, stored)
    assert changed is not None
    assert changed["rules"] == [*stored["rules"], rule("get list", "", "pods")]
    metadata = {**stored["metadata"], "annotations": {AUTO_UPDATE: "false"}}
    assert reconciled(wanted, {**stored, "metadata": metadata}) is None


def test_a_role_is_put_together_by_label_and_never_of_itself() -> None:
    label = {"to": "sum"}
    total = role("sum", [rule("x", "", "y")], labels=label, aggregate="to")
    one = role("one", [rule("get", "", "a")], labels={"to": "true"})
    two = role("two", [rule("get", "", "a"), rule("get", "", "b")], labels={"to": "true"})
    other = role("other", [rule("get", "", "c")])
    plan = cluster_role_aggregation.plan(total, [two, total, other, one])
    assert plan == [rule("get", "", "a"), rule("get", "", "b")]
