"""Certificate requests: who gets which, by the real controllers on a real API."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from meshkube import csr, pki
from meshkube.api import kinds, meta
from meshkube.api.errors import ApiError
from meshkube.api.types import Object
from meshkube.control.apiserver.local import LocalClient
from meshkube.control.certificates import approval, conditions, signers
from meshkube.control.certificates.approval import World, verdict
from meshkube.control.controllers import (
    certificate_approving,
    certificate_cleaning,
    certificate_signing,
    join_token_cleaning,
)
from meshkube.control.loop import Settings
from tests.support.cluster import Cluster, cluster

NOW = datetime(2026, 1, 1, tzinfo=UTC)
KEY, OTHER_KEY = pki.new_key(), pki.new_key()
CA = pki.new_authority("test")
AGENT = ["system:bootstrappers", "system:bootstrappers:meshkube:agent", "system:authenticated"]
NODES = ["system:nodes", "system:authenticated"]
REQUEST = kinds.CERTIFICATE_SIGNING_REQUEST


def request(
    name: str = "n1", *, key: bytes = KEY, signer: str = signers.NODE_CLIENT,
    groups: tuple[str, ...] = ("system:nodes",), names: tuple[str, ...] = (),
    by: str = "", by_groups: list[str] | None = None, usages: tuple[str, ...] = (),
    user: str = "",
) -> Object:  # fmt: skip
    pem = csr.new(key, user or f"system:node:{name}", organizations=groups, names=names)
    purpose = "server auth" if signer == signers.NODE_SERVING else "client auth"
    made: Object = {
        "apiVersion": REQUEST.api_version,
        "kind": REQUEST.kind,
        "metadata": {"name": f"csr-{name}", "uid": f"uid-{name}-{hash(key)}"},
        "spec": {
            "request": base64.b64encode(pem).decode(),
            "signerName": signer,
            "usages": list(usages or ("digital signature", purpose)),
        },
    }
    if by:
        made["spec"] |= {"username": by, "groups": by_groups or []}
    return made


def node(name: str, address: str, ready: str = "True", key: bytes | None = None) -> Object:
    found: Object = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "annotations": {}},
        "status": {
            "addresses": [{"type": "InternalIP", "address": address}],
            "conditions": [{"type": "Ready", "status": ready}],
        },
    }
    if key is not None:
        found["metadata"]["annotations"][csr.NODE_KEY] = csr.key_of_private(key)
    return found


def world(*nodes: Object, requests: tuple[Object, ...] = ()) -> World:
    by_name = {meta.name(one): one for one in nodes}
    return World(by_name.get, lambda: nodes, lambda: requests, NOW)


REFUSED = [
    ({"groups": ("system:masters",)}, "subject organization is not system:nodes"),
    ({"user": "alice"}, "subject common name does not begin with system:node:"),
    ({"user": "system:node:"}, "subject common name does not begin with system:node:"),
    ({"names": ("a.example",)}, "subjectAltNames are not allowed"),
    ({"usages": ("client auth",)}, "usages must be digital signature, client auth"),
    ({"usages": ("digital signature", "client auth", "server auth")}, "usages must be"),
    ({"signer": signers.NODE_SERVING}, "DNS or IP subjectAltName is required"),
    (
        {"signer": signers.CLIENT, "groups": ("system:masters",)},
        "subject organization system:masters is not allowed",
    ),
    ({"signer": signers.CLIENT, "usages": ("server auth",)}, "usages must include client auth"),
    (
        {"signer": signers.CLIENT, "usages": ("client auth", "code signing")},
        "usages code signing are not allowed",
    ),
]


@pytest.mark.parametrize(("asked", "why"), REFUSED)
def test_a_signer_signs_what_its_documents_say_and_nothing_else(asked: dict[str, Any], why: str):
    made = request(**asked)
    spec = made["spec"]
    found = csr.read(conditions.pem(made))
    assert why in signers.refusal(spec["signerName"], found, spec["usages"])


def test_a_certificate_holds_what_was_asked_for_and_no_authority():
    pem = csr.new(KEY, "system:node:n1", organizations=["system:nodes"], names=["n1", "192.0.2.1"])
    usages = ["digital signature", "server auth"]
    now = datetime.now(UTC)
    made = csr.sign(CA, pem, usages, timedelta(hours=1), now)
    assert pki.alternative_names(made) == {"n1", "192.0.2.1"}
    assert csr.key_of_certificate(made) == csr.key_of_private(KEY)
    start, end = pki.validity(made)
    assert start <= now < end <= now + timedelta(hours=1)


BOOT = "system:bootstrap:abcdef"


def test_a_host_with_a_token_joins_under_a_free_name():
    found = verdict(request(by=BOOT, by_groups=AGENT), world())
    assert found is not None
    assert found.approved


@pytest.mark.parametrize(
    ("there", "approved"),
    [
        (node("n1", "192.0.2.1", key=OTHER_KEY), False),
        (node("n1", "192.0.2.1"), False),
        (node("n1", "192.0.2.1", key=KEY), True),
        (node("n1", "192.0.2.1", "Unknown", key=OTHER_KEY), True),
        (node("n2", "192.0.2.1", key=OTHER_KEY), True),
    ],
)
def test_the_name_of_a_living_node_belongs_to_its_key(there: Object, approved: bool):
    found = verdict(request(by=BOOT, by_groups=AGENT), world(there))
    assert found is not None
    assert found.approved is approved
    if not approved:
        assert "kubectl delete node n1" in found.message


def test_of_two_hosts_that_join_under_one_name_the_second_is_denied():
    first = request(by=BOOT, by_groups=AGENT, key=OTHER_KEY)
    first = conditions.with_condition(first, "Approved", "AutoApproved", "", NOW)
    asked = request(by=BOOT, by_groups=AGENT)
    found = verdict(asked, world(requests=(first, asked)))
    assert found is not None
    assert not found.approved
    late = NOW - approval.JOINING - timedelta(seconds=1)
    first = request(by=BOOT, by_groups=AGENT, key=OTHER_KEY)
    first = conditions.with_condition(first, "Approved", "AutoApproved", "", late)
    found = verdict(asked, world(requests=(first, asked)))
    assert found is not None
    assert found.approved


def test_a_name_is_free_again_once_the_node_that_had_joined_is_deleted():
    first = request(by=BOOT, by_groups=AGENT, key=OTHER_KEY)
    first = conditions.with_condition(first, "Approved", "AutoApproved", "", NOW)
    serving = request(
        signer=signers.NODE_SERVING, names=("n1",), by="system:node:n1", by_groups=NODES,
        key=OTHER_KEY,
    )  # fmt: skip
    serving = conditions.with_condition(serving, "Approved", "AutoApproved", "", NOW)
    asked = request(by=BOOT, by_groups=AGENT)
    found = verdict(asked, world(requests=(first, serving, asked)))
    assert found is not None
    assert found.approved


SERVING = [
    (("n1", "192.0.2.1"), True),
    (("n1", "192.0.2.9"), False),
    (("n1", "192.0.2.2"), False),
    (("kubernetes.default.svc",), False),
]


@pytest.mark.parametrize(("names", "approved"), SERVING)
def test_a_node_is_served_under_its_own_addresses(names: tuple[str, ...], approved: bool):
    asked = request(signer=signers.NODE_SERVING, names=names, by="system:node:n1", by_groups=NODES)
    found = verdict(asked, world(node("n1", "192.0.2.1"), node("n2", "192.0.2.2")))
    assert found is not None
    assert found.approved is approved


def test_others_are_left_to_a_person():
    asked = [
        request(by="alice", by_groups=["system:authenticated"]),
        request("n2", by="system:node:n1", by_groups=NODES),
        request(signer=signers.CLIENT, user="alice", groups=(), by=BOOT, by_groups=AGENT),
        request(signer="example.com/mine", by=BOOT, by_groups=AGENT),
        request(signer=signers.NODE_SERVING, names=("n1",), by=BOOT, by_groups=AGENT),
    ]
    assert [verdict(one, world(node("n1", "192.0.2.1"))) for one in asked] == [None] * 5


def settings() -> Settings:
    def sign(pem: bytes, usages: Any, seconds: int | None) -> bytes:
        return csr.sign(CA, pem, usages, timedelta(seconds=seconds or 3600), datetime.now(UTC))

    return Settings(sign=sign)


def as_user(running: Cluster, user: str) -> LocalClient:
    client = running.client
    assert isinstance(client, LocalClient)
    return LocalClient(client._registry, user=user)


ALL = [
    certificate_approving.CONTROLLER,
    certificate_signing.CONTROLLER,
    certificate_cleaning.CONTROLLER,
]


async def test_a_node_renews_its_certificate_by_itself(tmp_path: Path):
    async with cluster(tmp_path, ALL, settings=settings()) as running:
        client = as_user(running, "system:node:n1")
        await client.create(REQUEST, request())
        requests = running.caches.of(REQUEST)
        issued = await running.until(
            lambda: (found := requests.get("csr-n1")) and conditions.certificate(found)
        )
        assert csr.key_of_certificate(issued) == csr.key_of_private(KEY)


async def test_what_a_signer_refuses_has_failed_and_says_why(tmp_path: Path):
    async with cluster(tmp_path, ALL, settings=settings()) as running:
        await running.client.create(REQUEST, request(groups=("a", "b")))
        made = await running.client.get(REQUEST, "csr-n1")
        decided = conditions.with_condition(made, "Approved", "ByHand", "", datetime.now(UTC))
        await running.client.update(REQUEST, decided, subresource="approval")
        requests = running.caches.of(REQUEST)
        failed = await running.until(
            lambda: (found := requests.get("csr-n1")) and conditions.condition(found, "Failed")
        )
        assert failed["reason"] == "SignerValidationFailure"


async def test_approving_and_signing_need_a_right_on_the_signer(tmp_path: Path):
    async with cluster(tmp_path) as running:
        await running.client.create(REQUEST, request())
        made = await running.client.get(REQUEST, "csr-n1")
        rights = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": "half"},
            "rules": [
                {
                    "apiGroups": ["certificates.k8s.io"],
                    "verbs": ["update"],
                    "resources": [
                        "certificatesigningrequests/approval",
                        "certificatesigningrequests/status",
                    ],
                }
            ],
        }
        await running.client.create(kinds.CLUSTER_ROLE, rights)
        bound = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "half"},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": "half",
            },
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "eve"}],
        }
        await running.client.create(kinds.CLUSTER_ROLE_BINDING, bound)
        eve = as_user(running, "eve")
        decided = conditions.with_condition(made, "Approved", "ByHand", "", datetime.now(UTC))
        with pytest.raises(ApiError, match="not permitted to approve requests with signerName"):
            await eve.update(REQUEST, decided, subresource="approval")
        signed = {**made, "status": {"certificate": base64.b64encode(CA.certificate).decode()}}
        with pytest.raises(ApiError, match="not permitted to sign requests with signerName"):
            await eve.update(REQUEST, signed, subresource="status")


async def test_nobody_becomes_a_superuser_by_request(tmp_path: Path):
    async with cluster(tmp_path) as running:
        asked = request(signer=signers.CLIENT, user="eve", groups=("system:masters",))
        controller = "system:kube-controller-manager"
        rights = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "all"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole",
                        "name": "cluster-admin"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User",
                          "name": controller}],
        }  # fmt: skip
        await running.client.create(kinds.CLUSTER_ROLE_BINDING, rights)
        with pytest.raises(ApiError, match="system:masters group is not allowed"):
            await as_user(running, controller).create(REQUEST, asked)


BAD = [
    ({"request": "bm90aGluZw=="}, "is no PEM certificate request"),
    ({"usages": []}, "spec.usages: Required value"),
    ({"usages": ["client auth", "reading"]}, 'spec.usages[1]: Unsupported value: "reading"'),
    ({"signerName": "mine"}, "fully qualified domain and path"),
    ({"signerName": "kubernetes.io/legacy-unknown"}, "is not allowed"),
    ({"expirationSeconds": 60}, "less than 600 seconds"),
]


@pytest.mark.parametrize(("change", "message"), BAD)
async def test_a_request_that_makes_no_sense_is_refused(
    change: dict[str, Any], message: str, tmp_path: Path
):
    async with cluster(tmp_path) as running:
        made = request()
        made["spec"] |= change
        with pytest.raises(ApiError) as raised:
            await running.client.create(REQUEST, made)
        assert raised.value.code == 422
        assert message in raised.value.message


async def test_a_decision_is_never_taken_back(tmp_path: Path):
    async with cluster(tmp_path) as running:
        made = await running.client.create(REQUEST, request())
        denied = conditions.with_condition(made, "Denied", "No", "", datetime.now(UTC))
        done = await running.client.update(REQUEST, denied, subresource="approval")
        both = conditions.with_condition(done, "Approved", "Yes", "", datetime.now(UTC))
        with pytest.raises(ApiError, match="mutually exclusive"):
            await running.client.update(REQUEST, both, subresource="approval")
        with pytest.raises(ApiError, match="may not remove a condition of type"):
            await running.client.update(REQUEST, {**done, "status": {}}, subresource="approval")


def test_requests_are_kept_for_an_hour_once_settled_and_for_a_day_before():
    pending = request()
    pending["metadata"]["creationTimestamp"] = meta.timestamp(NOW)
    assert certificate_cleaning.ends(pending) == NOW + timedelta(hours=24)
    approved = conditions.with_condition(pending, "Approved", "", "", NOW)
    assert certificate_cleaning.ends(approved) == NOW + timedelta(hours=24)
    denied = conditions.with_condition(pending, "Denied", "", "", NOW + timedelta(hours=2))
    assert certificate_cleaning.ends(denied) == NOW + timedelta(hours=3)
    pem = conditions.pem(pending)
    short = csr.sign(CA, pem, ["client auth"], timedelta(seconds=60), NOW)
    approved["status"]["certificate"] = base64.b64encode(short).decode()
    assert certificate_cleaning.ends(approved) == NOW + timedelta(seconds=60)


def token(id: str, end: datetime) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "meshkube.io/join-token",
        "metadata": {"name": f"join-token-{id}", "namespace": "kube-system"},
        "data": {"expiration": base64.b64encode(meta.timestamp(end).encode()).decode()},
    }


async def test_settled_requests_and_ended_tokens_go(tmp_path: Path):
    now = datetime.now(UTC)
    parts = [certificate_cleaning.CONTROLLER, join_token_cleaning.CONTROLLER]
    async with cluster(tmp_path, parts) as running:
        for name in ("old", "new"):
            made = await running.client.create(REQUEST, request(name))
            since = now - timedelta(hours=2 if name == "old" else 0)
            denied = conditions.with_condition(made, "Denied", "No", "", since)
            await running.client.update(REQUEST, denied, subresource="approval")
        await running.client.create(kinds.SECRET, token("ended0", now - timedelta(seconds=1)))
        await running.client.create(kinds.SECRET, token("soon00", now + timedelta(seconds=2)))
        await running.client.create(kinds.SECRET, token("stays0", now + timedelta(hours=1)))
        requests, secrets = running.caches.of(REQUEST), running.caches.of(kinds.SECRET)

        def left() -> set[str]:
            found = [*requests.list(), *secrets.list("kube-system")]
            return {meta.name(one) for one in found}

        await running.until(lambda: left() == {"csr-new", "join-token-stays0"})
