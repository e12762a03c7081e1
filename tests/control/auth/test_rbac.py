"""RBAC: a matrix of subjects, verbs and resources, and the rules behind it."""

from __future__ import annotations

from typing import Any

import pytest

from meshkube.api.types import Object
from meshkube.control.auth import attributes
from meshkube.control.auth.attributes import Attributes
from meshkube.control.auth.authorizer import Authorizer
from meshkube.control.auth.policy import binding, paths, role, rule
from meshkube.control.auth.rbac import Rbac
from meshkube.control.auth.rules import RuleSet, compact, uncovered
from meshkube.control.auth.users import MASTERS, User, component

ROBOT = component("system:serviceaccount:shop:robot")
ALICE = User("alice", ("devs", "system:authenticated"))
BOB = User("bob", ("system:authenticated",))
ADMIN = User("root", (MASTERS, "system:authenticated"))


def rbac() -> Rbac:
    found = Rbac()
    found.set_role(role("reader", [rule("get list watch", "", "pods pods/log")], namespace="shop"))
    found.set_role(role("one-map", [rule("get update", "", "configmaps", "settings")]))
    found.set_role(role("scaler", [rule("get patch", "*", "*/scale")]))
    found.set_role(role("everything-in-apps", [rule("*", "apps", "*")]))
    found.set_role(role("looker", [paths("get", "/metrics /logs/*")]))
    for one in (
        binding("b1", "reader", ["account:shop/robot"], namespace="shop", to_role=True),
        binding("b2", "one-map", ["user:alice"], namespace="shop"),
        binding("b3", "scaler", ["group:devs"]),
        binding("b4", "everything-in-apps", ["user:bob"], namespace="shop"),
        binding("b5", "looker", ["group:system:authenticated"]),
    ):
        found.set_binding(one)
    return found


# user, verb, group, resource, namespace, name, allowed
MATRIX = [
    (ROBOT, "list", "", "pods", "shop", "", True),
    (ROBOT, "get", "", "pods/log", "shop", "web", True),
    (ROBOT, "get", "", "pods/exec", "shop", "web", False),
    (ROBOT, "delete", "", "pods", "shop", "web", False),
    (ROBOT, "list", "", "pods", "other", "", False),
    (ROBOT, "list", "", "pods", "", "", False),
    (ROBOT, "list", "", "secrets", "shop", "", False),
    (ROBOT, "list", "metrics.k8s.io", "pods", "shop", "", False),
    (ALICE, "get", "", "configmaps", "shop", "settings", True),
    (ALICE, "get", "", "configmaps", "shop", "others", False),
    (ALICE, "list", "", "configmaps", "shop", "", False),
    (ALICE, "patch", "apps", "deployments/scale", "anywhere", "web", True),
    (ALICE, "patch", "example.com", "widgets/scale", "", "w", True),
    (ALICE, "patch", "apps", "deployments", "anywhere", "web", False),
    (BOB, "delete", "apps", "deployments", "shop", "web", True),
    (BOB, "deletecollection", "apps", "statefulsets/status", "shop", "", True),
    (BOB, "delete", "batch", "jobs", "shop", "x", False),
    (BOB, "delete", "apps", "deployments", "", "web", False),
]


def asked(
    user: User, verb: str, group: str, resource: str, namespace: str, name: str
) -> Attributes:
    plural, _, sub = resource.partition("/")
    return Attributes(user, verb, group, plural, sub, namespace, name)


@pytest.mark.parametrize(
    ("user", "verb", "group", "resource", "namespace", "name", "allowed"), MATRIX
)
def test_the_matrix(
    user: User, verb: str, group: str, resource: str, namespace: str, name: str, allowed: bool
) -> None:
    question = asked(user, verb, group, resource, namespace, name)
    decision = rbac().decide(question)
    assert decision.allowed is allowed
    assert bool(decision.reason) is allowed


@pytest.mark.parametrize(
    ("path", "allowed"),
    [("/metrics", True), ("/logs/kubelet", True), ("/logs", False), ("/metrics/x", False)],
)
def test_paths_that_are_no_resources(path: str, allowed: bool) -> None:
    assert rbac().decide(Attributes(BOB, "get", path=path)).allowed is allowed
    assert not rbac().decide(Attributes(BOB, "post", path=path)).allowed
    assert not rbac().decide(Attributes(User("x"), "get", path=path)).allowed


def test_the_reason_names_binding_role_and_subject() -> None:
    decision = rbac().decide(asked(ROBOT, "get", "", "pods", "shop", "web"))
    assert decision.reason == (
        'RBAC: allowed by RoleBinding "b1/shop" of Role "reader" to ServiceAccount "robot/shop"'
    )


def test_changes_count_at_once_and_only_where_they_are() -> None:
    found = rbac()
    question = asked(ROBOT, "get", "", "pods", "shop", "web")
    assert found.decide(question).allowed
    found.set_role(role("reader", [], namespace="shop"))
    assert not found.decide(question).allowed
    found.set_role(role("reader", [rule("*", "", "pods")], namespace="shop"))
    assert found.decide(question).allowed
    found.set_binding(binding("b1", "reader", ["user:eve"], namespace="shop", to_role=True))
    assert not found.decide(question).allowed
    eve = User("eve")
    assert found.decide(asked(eve, "get", "", "pods", "shop", "web")).allowed
    found.remove_binding(binding("b1", "reader", [], namespace="shop", to_role=True))
    assert not found.decide(asked(eve, "get", "", "pods", "shop", "web")).allowed


def test_a_binding_to_a_role_that_is_not_there_says_so_and_works_once_it_is() -> None:
    found = Rbac()
    found.set_binding(binding("b", "late", ["user:bob"]))
    question = asked(BOB, "get", "", "pods", "shop", "web")
    decision = found.decide(question)
    assert decision == (False, 'RBAC: clusterrole.rbac.authorization.k8s.io "late" not found')
    found.set_role(role("late", [rule("get", "", "pods")]))
    assert found.decide(question).allowed


def test_a_role_binding_makes_a_cluster_role_count_in_its_namespace_only() -> None:
    found = Rbac()
    found.set_role(role("reader", [rule("get", "", "pods")]))
    found.set_binding(binding("b", "reader", ["user:bob"], namespace="shop"))
    assert found.decide(asked(BOB, "get", "", "pods", "shop", "w")).allowed
    assert not found.decide(asked(BOB, "get", "", "pods", "other", "w")).allowed


def test_superusers_pass_and_health_is_for_everybody() -> None:
    found = Authorizer()
    assert found.allows(asked(ADMIN, "escalate", "x", "y", "z", "n"))
    assert found.allows(Attributes(User("nobody"), "get", path="/readyz/etcd"))
    assert not found.allows(Attributes(User("nobody"), "get", path="/readyzz"))
    assert not found.allows(Attributes(User("nobody"), "get", path="/"))


@pytest.mark.parametrize(
    ("method", "path", "query", "expected"),
    [
        ("GET", "/api/v1/pods", {}, "list - pods - - -"),
        ("GET", "/api/v1/pods", {"watch": "1"}, "watch - pods - - -"),
        ("GET", "/api/v1/pods", {"watch": "false"}, "list - pods - - -"),
        ("HEAD", "/api/v1/namespaces/a/pods/b", {}, "get - pods - a b"),
        ("POST", "/api/v1/namespaces/a/pods/b/exec", {}, "create - pods exec a b"),
        ("GET", "/api/v1/namespaces/a", {}, "get - namespaces - a a"),
        ("PUT", "/api/v1/namespaces/a/finalize", {}, "update - namespaces finalize a a"),
        (
            "PATCH",
            "/apis/apps/v1/namespaces/a/deployments/b/scale",
            {},
            "patch apps deployments scale a b",
        ),
        (
            "DELETE",
            "/apis/apps/v1/namespaces/a/deployments",
            {},
            "deletecollection apps deployments - a -",
        ),
        (
            "GET",
            "/api/v1/namespaces/a/secrets",
            {"fieldSelector": "metadata.name=s"},
            "list - secrets - a s",
        ),
        ("GET", "/apis/un.known/v7/things/%7Ex", {}, "get un.known things - - ~x"),
        ("GET", "/api/v1/namespaces/a/services/b/proxy/x/y", {}, "get - services proxy a b"),
    ],
)
def test_requests_are_read_as_kubernetes_reads_them(
    method: str, path: str, query: dict[str, str], expected: str
) -> None:
    found = attributes.of_request(BOB, method, path, query)
    got = (found.verb, found.group, found.resource, found.subresource, found.namespace, found.name)
    assert " ".join(part or "-" for part in got) == expected
    assert found.of_resource


@pytest.mark.parametrize(
    "path", ["/", "/api", "/api/v1", "/apis/apps", "/apis/apps/v1", "/version"]
)
def test_other_paths_are_no_resources(path: str) -> None:
    found = attributes.of_request(BOB, "GET", path, {})
    assert (found.path, found.verb) == (path, "get")


@pytest.mark.parametrize(
    ("question", "message"),
    [
        (
            asked(BOB, "list", "", "pods", "shop", ""),
            'pods is forbidden: User "bob" cannot list resource "pods" in API group "" in the '
            'namespace "shop"',
        ),
        (
            asked(BOB, "get", "apps", "deployments/scale", "shop", "web"),
            'deployments.apps "web" is forbidden: User "bob" cannot get resource '
            '"deployments/scale" in API group "apps" in the namespace "shop"',
        ),
        (
            asked(BOB, "list", "", "nodes", "", ""),
            'nodes is forbidden: User "bob" cannot list resource "nodes" in API group "" at the '
            "cluster scope",
        ),
        (
            Attributes(BOB, "get", path="/metrics"),
            'forbidden: User "bob" cannot get path "/metrics"',
        ),
    ],
)
def test_refusals_are_worded_as_kubernetes_does(question: Attributes, message: str) -> None:
    error = attributes.denied(question)
    assert (error.code, error.reason, error.message) == (403, "Forbidden", message)


def rules(*more: Any) -> list[Object]:
    return list(more)


@pytest.mark.parametrize(
    ("owned", "wanted", "missing"),
    [
        (rule("*", "*", "*"), rule("get", "apps", "deployments/scale"), 0),
        (rule("get list", "", "pods"), rule("get", "", "pods"), 0),
        (rule("get", "", "pods"), rule("get list", "", "pods"), 1),
        (rule("get", "", "pods"), rule("get", "", "pods", "web"), 0),
        (rule("get", "", "pods", "web"), rule("get", "", "pods"), 1),
        (rule("get", "", "pods", "web db"), rule("get", "", "pods", "web"), 0),
        (rule("get", "", "pods", "web"), rule("get", "", "pods", "web db"), 1),
        (rule("get", "", "*/scale"), rule("get", "", "pods/scale"), 0),
        (rule("get", "", "pods"), rule("get", "", "pods/log"), 1),
        (rule("get", "", "pods"), rule("get", "", "*"), 1),
        (rule("get", "", "pods"), rule("*", "", "pods"), 1),
        (rule("get", ",apps", "pods deployments"), rule("get", "apps", "deployments"), 0),
        (paths("get", "/healthz/*"), paths("get", "/healthz/etcd"), 0),
        (paths("get", "/healthz"), paths("get", "/healthz/*"), 1),
        (rule("*", "*", "*"), paths("get", "/healthz"), 1),
    ],
)
def test_what_rules_cover(owned: Object, wanted: Object, missing: int) -> None:
    assert len(uncovered([owned], [wanted])) == missing
    # What covers a rule allows all that the rule allows.
    if not missing and "resources" in wanted:
        one = Attributes(
            BOB,
            wanted["verbs"][0],
            wanted["apiGroups"][0],
            *_resource(wanted["resources"][0]),
            name=(wanted.get("resourceNames") or ["n"])[0],
        )
        assert RuleSet([wanted]).allows(one)
        assert RuleSet([owned]).allows(one)


def _resource(text: str) -> tuple[str, str]:
    plural, _, sub = text.partition("/")
    return plural, sub


def test_rules_of_one_thing_are_shown_together() -> None:
    parts = uncovered([], [rule("get list", "", "pods"), rule("get", "", "secrets")])
    assert compact(parts) == [rule("get list", "", "pods"), rule("get", "", "secrets")]
