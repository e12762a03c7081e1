"""The door of the served API: certificates, tokens, impersonation, RBAC, reviews, nodes."""

from __future__ import annotations

from typing import Any

import pytest

from meshkube.api import kinds, meta
from meshkube.api.types import Object
from meshkube.control.apiserver import bootstrap_policy
from meshkube.control.auth.policy import binding, role, rule
from tests.control.auth.conftest import As
from tests.support.api import Served
from tests.support.asking import Asker

PODS = "/api/v1/namespaces/default/pods"
ACCOUNTS = "/api/v1/namespaces/default/serviceaccounts"
RBAC = "/apis/rbac.authorization.k8s.io/v1"


def pod(name: str = "web", **spec: Any) -> Object:
    return {
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "x"}], **spec},
    }


async def grant(ask: Asker, user: str, *rules: Object, namespace: str = "default") -> None:
    name = user.replace(":", "-").replace("/", "-")
    place = f"{RBAC}/namespaces/{namespace}"
    await ask.make(f"{place}/roles", role(name, rules, namespace=namespace))
    bound = binding(name, name, [user], namespace=namespace, to_role=True)
    await ask.make(f"{place}/rolebindings", bound)


async def account(ask: Asker, name: str = "robot", **spec: Any) -> str:
    """A token of a new service account."""
    await ask.make(ACCOUNTS, {"metadata": {"name": name}})
    answer = await ask.make(f"{ACCOUNTS}/{name}/token", {"spec": spec})
    token: str = answer["status"]["token"]
    return token


def bearer(token: str) -> dict[str, Any]:
    return {"headers": {"Authorization": f"Bearer {token}"}}


class TestWho:
    async def test_nobody_sees_only_what_is_public(self, user: As) -> None:
        async with user() as ask:
            for path in ("/healthz", "/readyz", "/livez", "/version"):
                async with ask("GET", path) as response:
                    assert response.status == 200
            answer = await ask.json("GET", "/api", 403)
            assert answer["message"] == (
                'forbidden: User "system:anonymous" cannot get path "/api"'
            )
            answer = await ask.json("GET", PODS, 403)
            assert answer["message"] == (
                'pods is forbidden: User "system:anonymous" cannot list resource "pods" in API '
                'group "" in the namespace "default"'
            )
            assert answer["details"] == {"kind": "pods"}

    async def test_whoever_is_known_may_discover_and_ask_of_themselves(self, user: As) -> None:
        async with user("alice", "devs") as ask:
            for path in ("/api", "/apis", "/api/v1", "/openapi/v2"):
                async with ask("GET", path) as response:
                    assert response.status == 200, path
            path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
            answer = await ask.json("POST", path, 201, body={})
            groups = ["devs", "system:authenticated"]
            assert answer["status"]["userInfo"] == {"username": "alice", "groups": groups}
            await ask.json("GET", "/metrics", 403)

    async def test_a_token_is_a_service_account(self, ask: Asker, user: As) -> None:
        token = await account(ask)
        async with user() as nobody:
            path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
            answer = await nobody.json("POST", path, 201, body={}, **bearer(token))
            found = answer["status"]["userInfo"]
            assert found["username"] == "system:serviceaccount:default:robot"
            (identifier,) = found["extra"]["authentication.kubernetes.io/credential-id"]
            assert identifier.startswith("JTI=")

    @pytest.mark.parametrize(
        "header", ["Bearer wrong", "Bearer ", "Basic YTpi", "Bearer a.b.c", "x", "Bearer é"]
    )
    async def test_bad_credentials_are_401_never_anonymous(self, user: As, header: str) -> None:
        async with user() as ask:
            for path in ("/healthz", PODS):
                answer = await ask.json("GET", path, 401, headers={"Authorization": header})
                assert (answer["reason"], answer["message"]) == ("Unauthorized", "Unauthorized")

    async def test_a_certificate_counts_before_a_token(self, ask: Asker) -> None:
        async with ask("GET", PODS, **bearer("wrong")) as response:
            assert response.status == 200

    async def test_a_token_dies_with_its_account(self, ask: Asker, user: As) -> None:
        token = await account(ask)
        async with user() as nobody:
            await nobody.json("GET", PODS, 403, **bearer(token))
            async with ask("DELETE", f"{ACCOUNTS}/robot"):
                pass
            await nobody.json("GET", PODS, 401, **bearer(token))
            await ask.make(ACCOUNTS, {"metadata": {"name": "robot"}})
            await nobody.json("GET", PODS, 401, **bearer(token))


class TestRoles:
    async def test_rights_begin_and_end_with_the_write(self, ask: Asker, user: As) -> None:
        async with user("alice") as alice:
            await alice.json("GET", PODS, 403)
            await grant(ask, "user:alice", rule("list create", "", "pods"))
            await alice.json("GET", PODS)
            await alice.make(PODS, pod())
            await alice.json("GET", f"{PODS}/web", 403)
            await alice.json("GET", "/api/v1/namespaces/kube-system/pods", 403)
            async with ask("DELETE", f"{RBAC}/namespaces/default/rolebindings/user-alice"):
                pass
            await alice.json("GET", PODS, 403)

    async def test_sub_resources_are_rights_of_their_own(self, ask: Asker, user: As) -> None:
        await ask.make(PODS, pod())
        await grant(ask, "user:alice", rule("get", "", "pods/status"))
        async with user("alice") as alice:
            await alice.json("GET", f"{PODS}/web/status")
            answer = await alice.json("GET", f"{PODS}/web/log", 403)
            assert 'cannot get resource "pods/log"' in answer["message"]

    async def test_an_apply_that_creates_needs_the_right_to_create(
        self, ask: Asker, user: As
    ) -> None:
        await grant(ask, "user:alice", rule("patch", "", "configmaps"))
        path = "/api/v1/namespaces/default/configmaps/settings"
        config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}}
        headers = {"Content-Type": "application/apply-patch+yaml"}
        apply = {"json": config, "headers": headers, "params": {"fieldManager": "t"}}
        async with user("alice") as alice:
            answer = await alice.json("PATCH", path, 403, **apply)
            assert 'cannot create resource "configmaps"' in answer["message"]
            await ask.json("PATCH", path, 201, **apply)
            await alice.json("PATCH", path, 200, **apply)

    async def test_the_standard_roles_are_there(self, ask: Asker) -> None:
        listed = await ask.json("GET", f"{RBAC}/clusterroles")
        names = {meta.name(one) for one in listed["items"]}
        assert names >= {
            "admin", "cluster-admin", "edit", "view", "system:basic-user", "system:discovery",
            "system:kube-controller-manager", "system:kube-scheduler", "system:node",
            "system:node-proxier", "system:public-info-viewer",
        }  # fmt: skip

    async def test_what_was_taken_from_a_standard_role_comes_back(
        self, ask: Asker, served: Served
    ) -> None:
        path = f"{RBAC}/clusterroles/system:basic-user"
        stored = await ask.json("GET", path)
        own = rule("get", "", "nodes")
        await ask.json("PUT", path, body={**stored, "rules": [own]})
        await bootstrap_policy.ensure(served.registry)
        rules = (await ask.json("GET", path))["rules"]
        assert own in rules
        assert len(rules) == 1 + len(stored["rules"])
        left_alone = {
            **stored,
            "metadata": {
                "name": "system:basic-user",
                "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "false"},
            },
            "rules": [],
        }
        await ask.json("PUT", path, body=left_alone)
        await bootstrap_policy.ensure(served.registry)
        assert not (await ask.json("GET", path)).get("rules")


class TestEscalation:
    async def test_nobody_gives_what_they_do_not_have(self, ask: Asker, user: As) -> None:
        rights = [
            rule("create update get patch", "rbac.authorization.k8s.io", "roles rolebindings"),
            rule("get list", "", "pods"),
        ]
        await grant(ask, "user:alice", *rights)
        place = f"{RBAC}/namespaces/default"
        async with user("alice") as alice:
            mine = role("mine", [rule("get", "", "pods")], namespace="default")
            await alice.make(f"{place}/roles", mine)
            more = role("more", [rule("get", "", "pods secrets")], namespace="default")
            answer = await alice.json("POST", f"{place}/roles", 403, body=more)
            assert answer["message"] == (
                'roles.rbac.authorization.k8s.io "more" is forbidden: user "alice" '
                '(groups=["system:authenticated"]) is attempting to grant RBAC permissions not '
                'currently held:\n{APIGroups:[""], Resources:["secrets"], Verbs:["get"]}'
            )
            patch = [{"op": "add", "path": "/rules/-", "value": rule("*", "*", "*")}]
            headers = {"Content-Type": "application/json-patch+json"}
            await alice.json("PATCH", f"{place}/roles/mine", 403, json=patch, headers=headers)
            await alice.make(
                f"{place}/rolebindings",
                binding("ok", "mine", ["user:eve"], namespace="default", to_role=True),
            )
            admin = binding("no", "cluster-admin", ["user:alice"], namespace="default")
            await alice.json("POST", f"{place}/rolebindings", 403, body=admin)
            absent = binding("no", "absent", ["user:alice"], namespace="default")
            await alice.json("POST", f"{place}/rolebindings", 404, body=absent)

    async def test_bind_and_escalate_are_rights(self, ask: Asker, user: As) -> None:
        group = "rbac.authorization.k8s.io"
        await grant(
            ask,
            "user:alice",
            rule("create", group, "roles rolebindings"),
            rule("escalate", group, "roles", "big"),
            rule("bind", group, "clusterroles", "edit"),
        )
        place = f"{RBAC}/namespaces/default"
        async with user("alice") as alice:
            big = role("big", [rule("*", "*", "*")], namespace="default")
            await alice.make(f"{place}/roles", big)
            other = role("other", [rule("*", "*", "*")], namespace="default")
            await alice.json("POST", f"{place}/roles", 403, body=other)
            edit = binding("edit", "edit", ["user:eve"], namespace="default")
            await alice.make(f"{place}/rolebindings", edit)
            admin = binding("admin", "cluster-admin", ["user:eve"], namespace="default")
            await alice.json("POST", f"{place}/rolebindings", 403, body=admin)

    async def test_a_bindings_role_is_for_good(self, ask: Asker) -> None:
        path = f"{RBAC}/namespaces/default/rolebindings"
        made = await ask.make(path, binding("b", "view", ["user:eve"], namespace="default"))
        changed = {**made, "roleRef": {**made["roleRef"], "name": "edit"}}
        answer = await ask.json("PUT", f"{path}/b", 422, body=changed)
        assert "cannot change roleRef" in answer["message"]


class TestImpersonation:
    async def test_as_somebody_else(self, ask: Asker) -> None:
        path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
        headers = [
            ("Impersonate-User", "bob"),
            ("Impersonate-Group", "devs"),
            ("Impersonate-Group", "ops"),
            ("Impersonate-Uid", "7"),
            ("Impersonate-Extra-Example.com%2Fscopes", "a"),
            ("Impersonate-Extra-Example.com%2Fscopes", "b"),
        ]
        answer = await ask.json("POST", path, 201, body={}, headers=headers)
        assert answer["status"]["userInfo"] == {
            "username": "bob",
            "uid": "7",
            "groups": ["devs", "ops", "system:authenticated"],
            "extra": {"example.com/scopes": ["a", "b"]},
        }
        answer = await ask.json("GET", PODS, 403, headers={"Impersonate-User": "bob"})
        assert 'User "bob" cannot list' in answer["message"]

    async def test_a_service_account_gets_its_groups(self, ask: Asker) -> None:
        path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
        headers = {"Impersonate-User": "system:serviceaccount:shop:robot"}
        answer = await ask.json("POST", path, 201, body={}, headers=headers)
        assert "system:serviceaccounts:shop" in answer["status"]["userInfo"]["groups"]

    async def test_each_part_is_a_right(self, ask: Asker, user: As) -> None:
        rights = role("actor", [rule("impersonate", "", "users", "bob")])
        await ask.make(f"{RBAC}/clusterroles", rights)
        bound = binding("actor", "actor", ["user:alice"])
        await ask.make(f"{RBAC}/clusterrolebindings", bound)
        async with user("alice") as alice:
            await alice.json("GET", "/version", headers={"Impersonate-User": "bob"})
            answer = await alice.json("GET", "/version", 403, headers={"Impersonate-User": "eve"})
            assert answer["message"] == (
                'users "eve" is forbidden: User "alice" cannot impersonate resource "users" in '
                'API group "" at the cluster scope'
            )
            headers = {"Impersonate-User": "bob", "Impersonate-Group": "system:masters"}
            await alice.json("GET", "/version", 403, headers=headers)
            await alice.json("GET", "/version", 400, headers={"Impersonate-Group": "x"})


class TestReviews:
    ACCESS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"

    async def test_of_anybodys_access(self, ask: Asker) -> None:
        await grant(ask, "group:devs", rule("get", "", "pods/log"))
        attributes = {
            "verb": "get", "resource": "pods", "subresource": "log", "namespace": "default",
        }  # fmt: skip
        spec = {"user": "bob", "groups": ["devs"], "resourceAttributes": attributes}
        answer = await ask.json("POST", self.ACCESS, 201, body={"spec": spec})
        assert answer["status"]["allowed"] is True
        assert 'to Group "devs"' in answer["status"]["reason"]
        attributes["namespace"] = "other"
        answer = await ask.json("POST", self.ACCESS, 201, body={"spec": spec})
        assert answer["status"] == {"allowed": False}

    async def test_of_paths(self, ask: Asker) -> None:
        wanted = {"verb": "get", "path": "/version"}
        spec = {"user": "bob", "groups": ["system:authenticated"], "nonResourceAttributes": wanted}
        answer = await ask.json("POST", self.ACCESS, 201, body={"spec": spec})
        assert answer["status"]["allowed"] is True

    async def test_in_one_namespace(self, ask: Asker, user: As) -> None:
        path = "/apis/authorization.k8s.io/v1/namespaces/default/localsubjectaccessreviews"
        attributes = {"verb": "get", "resource": "pods", "namespace": "default"}
        body = {"spec": {"user": "bob", "resourceAttributes": attributes}}
        answer = await ask.json("POST", path, 201, body=body)
        assert answer["status"]["allowed"] is False
        attributes["namespace"] = "other"
        await ask.json("POST", path, 422, body=body)
        async with user("alice") as alice:
            await alice.json("POST", path, 403, body=body)

    @pytest.mark.parametrize(
        ("spec", "code"),
        [
            ({}, 422),
            ({"user": "bob"}, 422),
            ({"resourceAttributes": {"verb": "get"}}, 422),
            ({"user": "b", "resourceAttributes": {}, "nonResourceAttributes": {}}, 422),
            ({"user": "b", "resourceAttributes": 7}, 400),
            ({"user": "b", "groups": 7, "resourceAttributes": {}}, 400),
            ([], 400),
        ],
    )
    async def test_that_make_no_sense(self, ask: Asker, spec: Any, code: int) -> None:
        await ask.json("POST", self.ACCESS, code, body={"spec": spec})

    async def test_of_tokens(self, ask: Asker) -> None:
        path = "/apis/authentication.k8s.io/v1/tokenreviews"
        token = await account(ask, audiences=["vault"])
        answer = await ask.json("POST", path, 201, body={"spec": {"token": token}})
        assert answer["status"]["authenticated"] is False
        spec = {"token": token, "audiences": ["vault", "x"]}
        answer = await ask.json("POST", path, 201, body={"spec": spec})
        assert answer["status"]["audiences"] == ["vault"]
        assert answer["status"]["user"]["username"] == "system:serviceaccount:default:robot"
        await ask.json("POST", path, 400, body={"spec": {}})

    async def test_of_ones_rules(self, ask: Asker, user: As) -> None:
        await grant(ask, "user:alice", rule("get", "", "pods", "web"))
        path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
        async with user("alice") as alice:
            answer = await alice.json("POST", path, 201, body={"spec": {"namespace": "default"}})
        assert rule("get", "", "pods", "web") in answer["status"]["resourceRules"]
        assert answer["status"]["incomplete"] is False


class TestTokenRequests:
    async def test_defaults_and_limits(self, ask: Asker) -> None:
        await ask.make(ACCOUNTS, {"metadata": {"name": "robot"}})
        path = f"{ACCOUNTS}/robot/token"
        answer = await ask.make(path, {})
        assert answer["spec"]["expirationSeconds"] == 3600
        assert answer["spec"]["audiences"] == ["https://kubernetes.default.svc.cluster.local"]
        for seconds, code in ((599, 422), (2**33, 422), ("x", 400), (True, 400)):
            await ask.json("POST", path, code, body={"spec": {"expirationSeconds": seconds}})
        await ask.json("POST", f"{ACCOUNTS}/absent/token", 404, body={})
        await ask.json("POST", path, 400, body={"metadata": {"name": "other"}})

    async def test_bound_to_a_pod_of_the_account(self, ask: Asker, user: As) -> None:
        token = await account(ask)
        made = await ask.make(PODS, pod(serviceAccountName="robot"))
        await ask.make(PODS, pod("other"))
        path = f"{ACCOUNTS}/robot/token"
        reference = {"apiVersion": "v1", "kind": "Pod", "name": "web", "uid": meta.uid(made)}

        async def asked(code: int, **change: Any) -> Any:
            body = {"spec": {"boundObjectRef": {**reference, **change}}}
            return await ask.json("POST", path, code, body=body)

        await asked(409, uid="another")
        await asked(404, name="absent")
        await asked(400, name="other", uid="")
        await asked(400, kind="Service")
        token = (await asked(201))["status"]["token"]
        async with user() as nobody:
            await nobody.json("GET", PODS, 403, **bearer(token))
            options = {"gracePeriodSeconds": 0}
            async with ask("DELETE", f"{PODS}/web", body=options):
                pass
            await nobody.json("GET", PODS, 401, **bearer(token))

    async def test_the_issuer_says_how_to_verify(self, ask: Asker, user: As) -> None:
        token = await account(ask)
        async with user() as nobody:
            found = await nobody.json("GET", "/.well-known/openid-configuration", **bearer(token))
            assert found["issuer"] == "https://kubernetes.default.svc.cluster.local"
            keys = await nobody.json(
                "GET", found["jwks_uri"].removeprefix(ask.served.url), **bearer(token)
            )
            assert keys["keys"][0]["alg"] == "ES256"
            await nobody.json("GET", "/openid/v1/jwks", 403)


class TestPods:
    async def test_get_their_token_mounted(self, ask: Asker) -> None:
        await ask.make(ACCOUNTS, {"metadata": {"name": "default"}})
        made = await ask.make(PODS, pod())
        (volume,) = made["spec"]["volumes"]
        assert volume["name"].startswith("kube-api-access-")
        again = await ask.make(PODS, {**pod(), "metadata": {"name": "again"}})
        assert again["spec"]["volumes"] == made["spec"]["volumes"], "kept once for both"
        kinds_of = [next(iter(source)) for source in volume["projected"]["sources"]]
        assert kinds_of == ["serviceAccountToken", "configMap", "downwardAPI"]
        (mount,) = made["spec"]["containers"][0]["volumeMounts"]
        assert mount == {
            "name": volume["name"],
            "readOnly": True,
            "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
        }

    async def test_unless_the_pod_or_its_account_decline(self, ask: Asker) -> None:
        shy = {"metadata": {"name": "shy"}, "automountServiceAccountToken": False}
        await ask.make(ACCOUNTS, {**shy, "imagePullSecrets": [{"name": "pull"}]})
        made = await ask.make(PODS, pod("a", serviceAccountName="shy"))
        assert "volumes" not in made["spec"]
        assert made["spec"]["imagePullSecrets"] == [{"name": "pull"}]
        wants = pod("b", serviceAccountName="shy", automountServiceAccountToken=True)
        assert (await ask.make(PODS, wants))["spec"]["volumes"]
        await ask.make(ACCOUNTS, {"metadata": {"name": "default"}})
        made = await ask.make(PODS, pod("c", automountServiceAccountToken=False))
        assert "volumes" not in made["spec"]

    async def test_own_mounts_at_the_path_stay(self, ask: Asker) -> None:
        await ask.make(ACCOUNTS, {"metadata": {"name": "default"}})
        path = "/var/run/secrets/kubernetes.io/serviceaccount"
        wanted = pod(volumes=[{"name": "own", "emptyDir": {}}])
        wanted["spec"]["containers"][0]["volumeMounts"] = [{"name": "own", "mountPath": path}]
        made = await ask.make(PODS, wanted)
        assert [one["name"] for one in made["spec"]["volumes"]] == ["own"]

    async def test_need_an_account_that_is_there(self, ask: Asker) -> None:
        answer = await ask.json("POST", PODS, 403, body=pod(serviceAccountName="absent"))
        assert 'serviceaccount "absent" not found' in answer["message"]


class TestNodes:
    async def test_a_nodes_certificate_is_for_its_own_things(self, ask: Asker, user: As) -> None:
        secrets = "/api/v1/namespaces/default/secrets"
        for name in ("used", "other"):
            await ask.make(secrets, {"metadata": {"name": name}})
        volume = {"name": "v", "secret": {"secretName": "used"}}
        await ask.make(PODS, pod(nodeName="n1", volumes=[volume]))
        await ask.make(PODS, pod("elsewhere", nodeName="n2"))
        async with user("system:node:n1", "system:nodes") as node:
            await node.make("/api/v1/nodes", {"metadata": {"name": "n1"}})
            await node.json("POST", "/api/v1/nodes", 403, body={"metadata": {"name": "n2"}})
            await node.json("GET", f"{secrets}/used")
            await node.json("GET", f"{secrets}/other", 403)
            await node.json("GET", secrets, 403)
            listed = await node.json("GET", "/api/v1/pods?fieldSelector=spec.nodeName=n1")
            assert [meta.name(one) for one in listed["items"]] == ["web"]
            await node.json("GET", "/api/v1/pods", 403)
            headers = {"Content-Type": "application/merge-patch+json"}
            status = {"status": {"phase": "Running"}}
            for name, code in (("web", 200), ("elsewhere", 403)):
                path = f"{PODS}/{name}/status"
                await node.json("PATCH", path, code, json=status, headers=headers)
            await node.json("DELETE", f"{PODS}/elsewhere", 403, body={"gracePeriodSeconds": 0})
            await node.json("DELETE", f"{PODS}/web", body={"gracePeriodSeconds": 0})

    async def test_tokens_for_its_own_pods_only(self, ask: Asker, user: As) -> None:
        await ask.make(ACCOUNTS, {"metadata": {"name": "robot"}})
        here = await ask.make(PODS, pod(nodeName="n1", serviceAccountName="robot"))
        there = await ask.make(PODS, pod("there", nodeName="n2", serviceAccountName="robot"))
        path = f"{ACCOUNTS}/robot/token"

        def body(of: Object) -> Object:
            reference = {"apiVersion": "v1", "kind": "Pod", "name": meta.name(of)}
            return {"spec": {"boundObjectRef": {**reference, "uid": meta.uid(of)}}}

        async with user("system:node:n1", "system:nodes") as node:
            await node.json("POST", path, 201, body=body(here))
            await node.json("POST", path, 403, body=body(there))
            await node.json("POST", path, 403, body={})


async def test_the_reviews_are_discovered(ask: Asker) -> None:
    found = await ask.json("GET", "/apis/authorization.k8s.io/v1")
    names = {one["name"]: one["namespaced"] for one in found["resources"]}
    assert names["localsubjectaccessreviews"] is True
    assert names["subjectaccessreviews"] is False
    core = await ask.json("GET", "/api/v1")
    assert "serviceaccounts/token" in {one["name"] for one in core["resources"]}
    assert kinds.SERVICE_ACCOUNT.subresources == ("token",)
