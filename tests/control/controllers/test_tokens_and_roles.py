"""Aggregated ClusterRoles and token Secrets, by the real controllers on a real API."""

from __future__ import annotations

import base64
from pathlib import Path

from meshkube.api import kinds
from meshkube.api.types import Object
from meshkube.control.auth.policy import role, rule
from meshkube.control.controllers import cluster_role_aggregation, token_secrets
from meshkube.control.loop import Settings
from tests.support.cluster import Cluster, cluster


def rules_of(running: Cluster, name: str) -> list[Object]:
    found = running.caches.of(kinds.CLUSTER_ROLE).get(name) or {}
    return found.get("rules") or []


async def test_the_standard_roles_are_put_together_and_follow_what_is_added(
    tmp_path: Path,
) -> None:
    async with cluster(tmp_path, [cluster_role_aggregation.CONTROLLER]) as running:
        await running.until(lambda: rules_of(running, "view"))
        # `admin` is made of `edit`, and `edit` of `view`.
        own = rule("get", "example.com", "widgets")
        labels = {"rbac.authorization.k8s.io/aggregate-to-view": "true"}
        await running.create(role("widgets", [own], labels=labels))
        for name in ("view", "edit", "admin"):
            await running.until(lambda name=name: own in rules_of(running, name), name)
        await running.client.delete(kinds.CLUSTER_ROLE, "widgets")
        for name in ("view", "edit", "admin"):
            await running.until(lambda name=name: own not in rules_of(running, name), name)


def secret(name: str = "lasting", account: str = "robot") -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/service-account-token",
        "metadata": {
            "name": name,
            "annotations": {"kubernetes.io/service-account.name": account},
        },
    }


def account(name: str = "robot") -> Object:
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}


async def test_token_secrets_are_filled_once_and_go_with_their_account(tmp_path: Path) -> None:
    def sign(*about: str) -> str:
        return "token of " + "/".join(about)

    settings = Settings(cluster_ca="the CA", legacy_token=sign)
    async with cluster(tmp_path, [token_secrets.CONTROLLER], settings=settings) as running:
        made = await running.create(account())
        await running.create(secret())
        secrets = running.caches.of(kinds.SECRET)
        stored = await running.until(
            lambda: (found := secrets.get("default/lasting")) and found.get("data") and found
        )
        uid = made["metadata"]["uid"]
        token = base64.b64decode(stored["data"]["token"]).decode()
        assert token == f"token of default/robot/{uid}/lasting"
        assert base64.b64decode(stored["data"]["ca.crt"]) == b"the CA"
        assert base64.b64decode(stored["data"]["namespace"]) == b"default"
        assert stored["metadata"]["annotations"]["kubernetes.io/service-account.uid"] == uid
        await running.client.delete(kinds.SERVICE_ACCOUNT, "robot", "default")
        await running.until(lambda: secrets.get("default/lasting") is None)


async def test_a_secret_for_nobody_goes(tmp_path: Path) -> None:
    async with cluster(tmp_path, [token_secrets.CONTROLLER]) as running:
        await running.create(secret(account="absent"))
        secrets = running.caches.of(kinds.SECRET)
        await running.until(lambda: secrets.get("default/lasting") is None)
