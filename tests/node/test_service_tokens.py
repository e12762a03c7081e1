"""Tokens of pods: asked for with the right binding, renewed in time, kept while the API is away."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from meshkube.api import errors, kinds, meta
from meshkube.api.kinds import Kind
from meshkube.api.types import Object
from meshkube.client.base import Client
from meshkube.clock import SystemClock
from meshkube.control.apiserver.local import LocalClient
from meshkube.control.auth import jws
from meshkube.control.auth.tokens import BadToken
from meshkube.node.env import Context
from meshkube.node.service_tokens import PodTokens, renewal, token_request, wanted
from meshkube.node.volumes import VolumeError, files_of
from tests.support.api import running_registry

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class SetClock:
    """A clock that stands until it is set."""

    def __init__(self) -> None:
        self.time = NOW

    def now(self) -> datetime:
        return self.time

    def monotonic(self) -> float:
        return self.time.timestamp()

    async def sleep(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


class Issuer:
    """The API's sub-resource `token`, which may be away."""

    def __init__(self, clock: SetClock) -> None:
        self.clock = clock
        self.requests: list[Object] = []
        self.away = False

    async def create(self, kind: Kind, obj: Object, namespace: str, *, subresource: str) -> Object:
        assert (kind, subresource) == (kinds.SERVICE_ACCOUNT, "token")
        if self.away:
            raise errors.unavailable("the API is away")
        self.requests.append(obj)
        end = self.clock.now() + timedelta(seconds=obj["spec"]["expirationSeconds"])
        number = len(self.requests)
        return {"status": {"token": f"t{number}", "expirationTimestamp": meta.timestamp(end)}}


def pod(*sources: Object) -> Object:
    volumes = [
        {"name": "api", "projected": {"sources": [{"serviceAccountToken": one} for one in sources]}}
    ]
    return {
        "metadata": {"name": "web", "namespace": "shop", "uid": "u"},
        "spec": {"serviceAccountName": "robot", "containers": [], "volumes": volumes},
    }


def made() -> tuple[SetClock, Issuer, PodTokens]:
    clock = SetClock()
    issuer = Issuer(clock)
    return clock, issuer, PodTokens(cast(Client, issuer), clock)


def test_what_a_pod_wants() -> None:
    one = pod({"path": "token"}, {"path": "v", "audience": "vault", "expirationSeconds": 600})
    assert wanted(one) == {("", 3600), ("vault", 600)}
    assert token_request(one, "vault", 600)["spec"] == {
        "audiences": ["vault"],
        "expirationSeconds": 600,
        "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "web", "uid": "u"},
    }


@pytest.mark.parametrize(
    ("seconds", "after"), [(600, 480), (3600, 2880), (7 * 86400, 86400), (100_000, 80_000)]
)
def test_renewed_after_four_fifths_of_its_life_or_a_day(seconds: int, after: int) -> None:
    assert renewal(NOW, NOW + timedelta(seconds=seconds)) == NOW + timedelta(seconds=after)


async def test_asked_for_once_and_again_when_due() -> None:
    clock, issuer, tokens = made()
    one = pod({"path": "token", "expirationSeconds": 600})
    await tokens.refresh(one)
    await tokens.refresh(one)
    assert tokens.texts() == {("", 600): "t1"}
    due = tokens.renew_at()
    assert due is not None
    assert timedelta(seconds=470) <= due - NOW <= timedelta(seconds=480)
    clock.time = due
    await tokens.refresh(one)
    assert tokens.texts() == {("", 600): "t2"}
    assert len(issuer.requests) == 2


async def test_a_good_token_outlives_an_api_that_is_away() -> None:
    clock, issuer, tokens = made()
    one = pod({"path": "token", "expirationSeconds": 600})
    await tokens.refresh(one)
    issuer.away = True
    clock.time = NOW + timedelta(seconds=500)
    await tokens.refresh(one)
    assert tokens.texts() == {("", 600): "t1"}
    due = tokens.renew_at()
    assert due is not None
    assert due > clock.time
    clock.time = NOW + timedelta(seconds=600)
    with pytest.raises(VolumeError, match="failed to fetch token: the API is away"):
        await tokens.refresh(one)
    # Not at once again: the API is asked every ten seconds.
    due = tokens.renew_at()
    assert due is not None
    assert due > clock.time
    issuer.away = False
    clock.time = due
    await tokens.refresh(one)
    assert tokens.texts() == {("", 600): "t2"}


async def test_without_a_token_there_is_no_volume() -> None:
    _, issuer, tokens = made()
    issuer.away = True
    with pytest.raises(VolumeError):
        await tokens.refresh(pod({"path": "token"}))


def test_the_file_holds_the_token() -> None:
    one = pod({"path": "token"})
    context = Context(
        pod=one, pod_ip="", node_name="n", host_ip="", lookup=lambda kind, name: None,
        allocatable={}, tokens={("", 3600): "secret"},
    )  # fmt: skip
    files = files_of(one["spec"]["volumes"][0], context)
    assert files["token"].content == b"secret"
    without: Any = Context(
        pod=one, pod_ip="", node_name="n", host_ip="", lookup=lambda kind, name: None,
        allocatable={},
    )  # fmt: skip
    with pytest.raises(VolumeError):
        files_of(one["spec"]["volumes"][0], without)


@pytest.mark.parametrize(
    ("pod_wide", "users", "mode", "owner"),
    [
        ({}, [None], 0o644, None),
        ({"runAsUser": 1000}, [None, None], 0o600, 1000),
        ({}, [7, 7], 0o600, 7),
        ({"runAsUser": 1000}, [None, 7], 0o644, None),
        ({"fsGroup": 5}, [None], 0o600, None),
        ({"fsGroup": 5, "runAsUser": 0}, [None], 0o600, 0),
    ],
)
def test_a_token_is_its_users_where_there_is_one(
    pod_wide: Object, users: list[int | None], mode: int, owner: int | None
) -> None:
    one = pod({"path": "token"})
    one["spec"]["securityContext"] = pod_wide
    one["spec"]["containers"] = [
        {"name": "c", "securityContext": {"runAsUser": user} if user is not None else {}}
        for user in users
    ]
    context: Any = Context(
        pod=one, pod_ip="", node_name="n", host_ip="", lookup=lambda kind, name: None,
        allocatable={}, tokens={("", 3600): "secret"},
    )  # fmt: skip
    token = files_of(one["spec"]["volumes"][0], context)["token"]
    assert (token.mode, token.owner) == (mode, owner)


async def test_the_real_api_accepts_the_request_and_the_token(tmp_path: Path) -> None:
    async with running_registry(tmp_path) as registry:
        admin = LocalClient(registry)
        node = LocalClient(registry, "system:node:n1")
        account = {"metadata": {"name": "robot", "namespace": "default"}}
        await admin.create(kinds.SERVICE_ACCOUNT, account)
        container = {"name": "c", "image": "x"}
        spec = {"serviceAccountName": "robot", "nodeName": "n1", "containers": [container]}
        made = await admin.create(
            kinds.POD, {"metadata": {"name": "web", "namespace": "default"}, "spec": spec}
        )
        tokens = PodTokens(node, SystemClock())
        await tokens.refresh(made)
        (token,) = tokens.texts().values()
        assert jws.unverified_claims(token)["kubernetes.io"]["pod"]["name"] == "web"
        user = registry.access.accept(token).user
        assert user.name == "system:serviceaccount:default:robot"
        await admin.delete(kinds.POD, "web", "default", grace_period=0)
        with pytest.raises(BadToken):
            registry.access.accept(token)
