"""What a node may do: its own things, and nothing of another."""

from __future__ import annotations

from typing import Any

import pytest

from meshkube.api import kinds
from meshkube.api.errors import ApiError
from meshkube.api.types import Object
from meshkube.control import volumes
from meshkube.control.auth.attributes import Attributes
from meshkube.control.auth.authorizer import Authorizer
from meshkube.control.auth.node import restrict, restrict_token
from meshkube.control.auth.users import User, component

N1 = component("system:node:n1")


def pod(name: str = "web", node: str = "n1", **spec: Any) -> Object:
    return {
        "metadata": {"name": name, "namespace": "shop", "uid": f"uid-of-{name}", "labels": {}},
        "spec": {"nodeName": node, "containers": [{"name": "c"}], **spec},
    }


def world() -> Authorizer:
    found = Authorizer()
    mounted = [
        {"name": "a", "secret": {"secretName": "volume-secret"}},
        {"name": "b", "projected": {"sources": [{"configMap": {"name": "projected-map"}}]}},
        {"name": "c", "persistentVolumeClaim": {"claimName": "disk"}},
    ]
    environment = [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "env-secret", "key": "k"}}}]
    container = {
        "name": "c",
        "env": environment,
        "envFrom": [{"configMapRef": {"name": "env-map"}}],
    }
    found.graph.set_pod(
        pod(
            volumes=mounted,
            containers=[container],
            imagePullSecrets=[{"name": "pull"}],
            serviceAccountName="robot",
        )
    )
    other = [{"name": "a", "secret": {"secretName": "other-secret"}}]
    found.graph.set_pod(pod("other", "n2", volumes=other))
    return found


def volume(name: str, claim: str = "", node: str = "", **metadata: Any) -> Object:
    """A PersistentVolume: of a claim in `shop`, and a directory of a node where that is given."""
    made: Object = {"metadata": {"name": name, **metadata}, "spec": {}, "status": {}}
    if claim:
        made["spec"]["claimRef"] = {"namespace": "shop", "name": claim}
    if node:
        made["metadata"] |= {
            "labels": {volumes.NODE_LABEL: node},
            "annotations": {volumes.PROVISIONED_BY: volumes.LOCAL_PATH},
        }
    return made


# verb, name, label selector, allowed
OF_VOLUMES = [
    ("get", "claimed", "", True),
    ("watch", "claimed", "", True),
    ("get", "directory", "", True),
    ("update", "directory", "", True),
    ("update", "claimed", "", False),
    ("delete", "directory", "", False),
    ("patch", "directory", "", False),
    ("get", "of-another", "", False),
    ("get", "claimed-by-another", "", False),
    ("update", "of-another", "", False),
    ("get", "gone", "", False),
    ("list", "", "meshkube.io/node=n1", True),
    ("watch", "", "meshkube.io/node=n1", True),
    ("list", "", "meshkube.io/node=n2", False),
    ("list", "", "meshkube.io/node!=n1", False),
    ("list", "", "", False),
    ("create", "", "", False),
]


@pytest.mark.parametrize(("verb", "name", "labels", "allowed"), OF_VOLUMES)
def test_volumes(verb: str, name: str, labels: str, allowed: bool) -> None:
    found = world()
    for each in (
        volume("claimed", claim="disk"),
        volume("claimed-by-another", claim="theirs"),
        volume("directory", claim="old", node="n1"),
        volume("of-another", claim="theirs", node="n2"),
        volume("gone", claim="disk"),
    ):
        found.graph.set_volume(each)
    found.graph.remove_volume(volume("gone"))
    asked = Attributes(N1, verb, "", "persistentvolumes", "", "", name, "", "", labels)
    assert found.allows(asked) is allowed


# verb, resource, namespace, name, field selector, allowed
MATRIX = [
    ("get", "secrets", "shop", "volume-secret", "", True),
    ("get", "secrets", "shop", "env-secret", "", True),
    ("get", "secrets", "shop", "pull", "", True),
    ("watch", "secrets", "shop", "volume-secret", "metadata.name=volume-secret", True),
    ("get", "secrets", "shop", "other-secret", "", False),
    ("get", "secrets", "other", "volume-secret", "", False),
    ("list", "secrets", "shop", "", "", False),
    ("list", "secrets", "", "", "", False),
    ("update", "secrets", "shop", "volume-secret", "", False),
    ("get", "configmaps", "shop", "projected-map", "", True),
    ("get", "configmaps", "shop", "env-map", "", True),
    ("get", "configmaps", "shop", "another", "", False),
    ("get", "persistentvolumeclaims", "shop", "disk", "", True),
    ("create", "serviceaccounts/token", "shop", "robot", "", True),
    ("create", "serviceaccounts/token", "shop", "admin", "", False),
    ("create", "serviceaccounts/token", "kube-system", "robot", "", False),
    ("get", "nodes", "", "n1", "", True),
    ("get", "nodes", "", "n2", "", False),
    ("list", "nodes", "", "", "", False),
    ("watch", "nodes", "", "n1", "metadata.name=n1", True),
    ("patch", "nodes/status", "", "n1", "", True),
    ("patch", "nodes/status", "", "n2", "", False),
    ("create", "nodes", "", "", "", True),
    ("list", "pods", "", "", "spec.nodeName=n1", True),
    ("watch", "pods", "", "", "spec.nodeName=n1", True),
    ("list", "pods", "", "", "spec.nodeName=n2", False),
    ("list", "pods", "", "", "spec.nodeName!=n1", False),
    ("list", "pods", "", "", "", False),
    ("get", "pods", "shop", "web", "", True),
    ("get", "pods", "shop", "other", "", False),
    ("list", "services", "", "", "", True),
    ("create", "services", "shop", "x", "", False),
    ("create", "events", "shop", "", "", True),
    ("delete", "events", "shop", "x", "", False),
    ("patch", "pods/status", "shop", "web", "", True),
    ("create", "pods/exec", "shop", "web", "", False),
    ("list", "deployments", "shop", "", "", False),
]


@pytest.mark.parametrize(("verb", "resource", "namespace", "name", "fields", "allowed"), MATRIX)
def test_the_matrix(
    verb: str, resource: str, namespace: str, name: str, fields: str, allowed: bool
) -> None:
    plural, _, sub = resource.partition("/")
    asked = Attributes(N1, verb, "", plural, sub, namespace, name, "", fields)
    assert world().allows(asked) is allowed


@pytest.mark.parametrize(
    ("verb", "namespace", "name", "allowed"),
    [
        ("get", "kube-node-lease", "n1", True),
        ("patch", "kube-node-lease", "n1", True),
        ("create", "kube-node-lease", "n1", True),
        ("patch", "kube-node-lease", "n2", False),
        ("create", "kube-node-lease", "n2", False),
        ("patch", "kube-system", "n1", False),
        ("list", "kube-node-lease", "", False),
    ],
)
def test_leases(verb: str, namespace: str, name: str, allowed: bool) -> None:
    asked = Attributes(N1, verb, "coordination.k8s.io", "leases", "", namespace, name)
    assert world().allows(asked) is allowed


def test_only_members_of_the_group_are_nodes() -> None:
    asked = Attributes(User("system:node:n1"), "get", "", "nodes", "", "", "n1")
    assert not world().allows(asked)


def test_what_a_pod_used_is_closed_again_when_it_goes() -> None:
    found = world()
    asked = Attributes(N1, "get", "", "secrets", "", "shop", "volume-secret")
    second = pod("second", volumes=[{"name": "a", "secret": {"secretName": "volume-secret"}}])
    found.graph.set_pod(second)
    found.graph.remove_pod(pod())
    assert found.allows(asked)
    found.graph.remove_pod(second)
    assert not found.allows(asked)


def refused(kind: kinds.Kind, obj: Object | None, old: Object | None, sub: str = "") -> str:
    try:
        restrict(N1, kind, obj, old, sub)
    except ApiError as error:
        return f"{error.code} {error.message}"
    return ""


def node(name: str = "n1", **more: Any) -> Object:
    return {"metadata": {"name": name, **more}, "spec": {}}


class TestRestriction:
    def test_of_nodes(self) -> None:
        assert not refused(kinds.NODE, node(), None)
        assert not refused(kinds.NODE, node(labels={"zone": "a"}), node())
        assert 'not allowed to modify node "n2"' in refused(kinds.NODE, node("n2"), None)
        assert "n2" in refused(kinds.NODE, None, node("n2"))
        restricted = node(labels={"node-restriction.kubernetes.io/tier": "gold"})
        assert "not allowed to modify labels" in refused(kinds.NODE, restricted, node())
        assert "not allowed to modify labels" in refused(kinds.NODE, node(), restricted)
        tainted = {**node(), "spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}}
        assert "taints" in refused(kinds.NODE, node(), tainted)
        assert not refused(kinds.NODE, tainted, None)

    def test_of_pods(self) -> None:
        assert not refused(kinds.POD, pod(), pod(), "status")
        assert not refused(kinds.POD, None, pod())
        assert "can only update pod status" in refused(
            kinds.POD, pod("o", "n2"), pod("o", "n2"), "status"
        )
        assert "can only delete pods" in refused(kinds.POD, None, pod("o", "n2"))
        assert "mirror" in refused(kinds.POD, pod(), None)
        mirror = pod()
        mirror["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "x"}
        assert not refused(kinds.POD, mirror, None)
        mirror["spec"]["volumes"] = [{"name": "a", "secret": {"secretName": "s"}}]
        assert "secrets" in refused(kinds.POD, mirror, None)

    def test_of_volumes(self) -> None:
        """A node takes its own mark from its own volumes, and changes nothing else of any."""
        held = [volumes.VOLUME_PROTECTION, volumes.LOCAL_PATH]
        old = volume("v", node="n1", finalizers=held)
        kind = kinds.PERSISTENT_VOLUME
        assert not refused(kind, volume("v", node="n1", finalizers=held[:1]), old)
        for changed in (
            volume("v", node="n1"),
            volume("v", node="n1", finalizers=held[1:]),
            volume("v", node="n2", finalizers=held[:1]),
            volume("v", claim="x", node="n1", finalizers=held[:1]),
            volume("v", finalizers=held[:1]),
        ):
            assert "may only let go of volumes" in refused(kind, changed, old)
        other = volume("v", node="n2", finalizers=held)
        assert refused(kind, volume("v", node="n2", finalizers=held[:1]), other)
        assert refused(kind, None, old)
        assert refused(kind, old, None)

    def test_of_leases(self) -> None:
        own = (
            node(namespace="kube-node-lease"),
            node("meshkube-announcer-n1", namespace="kube-system"),
        )
        for lease in own:
            assert not refused(kinds.LEASE, lease, None)
        others = (
            node("n2", namespace="kube-node-lease"),
            node("meshkube-announcer-n2", namespace="kube-system"),
            node("meshkube", namespace="kube-system"),
            node("n1", namespace="kube-system"),
        )
        for lease in others:
            assert "leases other than its own" in refused(kinds.LEASE, lease, None)

    def test_others_are_not_restricted(self) -> None:
        restrict(User("alice"), kinds.NODE, node("n2"), None, "")

    @pytest.mark.parametrize(
        ("reference", "of", "message"),
        [
            (None, None, "bound to pods by uid"),
            ({"kind": "Secret", "name": "s", "uid": "u"}, None, "bound to pods by uid"),
            ({"kind": "Pod", "name": "web"}, pod(), "bound to pods by uid"),
            ({"kind": "Pod", "name": "o", "uid": "u"}, pod("o", "n2"), "that run on it"),
        ],
    )
    def test_of_tokens(self, reference: Object | None, of: Object | None, message: str) -> None:
        account = {"metadata": {"name": "robot", "namespace": "shop"}}
        with pytest.raises(ApiError, match=message):
            restrict_token(N1, account, reference, of)
        good = {"kind": "Pod", "name": "web", "uid": "uid-of-web"}
        restrict_token(N1, account, good, pod())
