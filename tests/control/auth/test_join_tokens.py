"""Join tokens at the door of a served API: what each opens, and that a stranger gets nothing."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from meshkube import csr, join_token, pki
from meshkube.api import meta
from meshkube.control.apiserver.joining import Joining
from meshkube.join_token import JoinToken
from tests.control.auth.conftest import As
from tests.support.asking import Asker

SECRETS = "/api/v1/namespaces/kube-system/secrets"
REQUESTS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
PATHS = (
    "/api/v1/pods",
    "/api/v1/nodes",
    "/api/v1/secrets",
    SECRETS,
    "/api/v1/namespaces/default/configmaps",
    REQUESTS,
    REQUESTS + "/any",
    "/meshkube/v1/server",
    "/meshkube/v1/cluster",
    "/version",
    "/metrics",
    "/api",
    "/openapi/v2",
    "/statusz",
)


def bearer(token: object) -> dict[str, Any]:
    return {"headers": {"Authorization": f"Bearer {token}"}}


async def made(ask: Asker, role: str = "agent", life: float = 3600, **data: str) -> JoinToken:
    token = join_token.new("0" * 64)
    end = meta.timestamp(datetime.now(UTC) + timedelta(seconds=life))
    content = {"hash": token.digest, "role": role, "expiration": end, **data}
    encoded = {key: base64.b64encode(text.encode()).decode() for key, text in content.items()}
    secret = {
        "metadata": {"name": f"join-token-{token.id}"},
        "type": join_token.SECRET_TYPE,
        "data": encoded,
    }
    await ask.make(SECRETS, secret)
    return token


@pytest.fixture
async def strangers(ask: Asker) -> list[str]:
    """Tokens that are worth nothing, each for another reason."""
    ended = await made(ask, life=-1)
    roleless = await made(ask, role="king")
    wrong = await made(ask)
    other = JoinToken(wrong.ca, wrong.id, "x" * 43)
    unknown = join_token.new("0" * 64)
    gone = await made(ask)
    async with ask("DELETE", f"{SECRETS}/join-token-{gone.id}") as response:
        assert response.status == 200
    return [str(one) for one in (ended, roleless, other, unknown, gone)] + [
        "meshkube.",
        "meshkube.a.b.c",
    ]


async def test_a_stranger_gets_nothing_on_any_path(strangers: list[str], user: As) -> None:
    async with user() as nobody:
        for token in strangers:
            for path in PATHS:
                answer = await nobody.json("GET", path, 401, **bearer(token))
                assert answer["message"] == "Unauthorized"
            await nobody.json("POST", REQUESTS, 401, body={}, **bearer(token))


async def test_an_agents_token_opens_one_request_of_its_own(ask: Asker, user: As) -> None:
    token, other = await made(ask), await made(ask)
    pem = csr.new(pki.new_key(), "system:node:n1", organizations=["system:nodes"])
    request = {
        "metadata": {"generateName": "node-csr-"},
        "spec": {
            "request": base64.b64encode(pem).decode(),
            "signerName": "kubernetes.io/kube-apiserver-client-kubelet",
            "usages": ["digital signature", "client auth"],
            "username": "system:admin",
        },
    }
    async with user() as host:
        for path in PATHS:
            await host.json("GET", path, 403, **bearer(token))
        created = await host.json("POST", REQUESTS, 201, body=request, **bearer(token))
        assert created["spec"]["username"] == f"system:bootstrap:{token.id}"
        assert "system:bootstrappers:meshkube:agent" in created["spec"]["groups"]
        mine = f"{REQUESTS}/{created['metadata']['name']}"
        await host.json("GET", mine, 200, **bearer(token))
        await host.json("GET", mine, 403, **bearer(other))
        await host.json("GET", mine + "/approval", 403, **bearer(token))
        await host.json("DELETE", mine, 403, **bearer(token))
        await host.json("PUT", mine + "/approval", 403, body=created, **bearer(token))
        impersonating = bearer(token)
        impersonating["headers"]["Impersonate-User"] = "system:kube-proxy"
        await host.json("GET", "/api/v1/services", 403, **impersonating)


async def test_a_servers_token_opens_the_bundle_and_nothing_else(ask: Asker, user: As) -> None:
    token = await made(ask, role="server")
    async with user() as host:
        for path in PATHS:
            # Nothing hands out a bundle on this server: what counts is that the door is open.
            expected = 404 if path == "/meshkube/v1/server" else 403
            await host.json("GET", path, expected, **bearer(token))
        await host.json("POST", REQUESTS, 403, body={}, **bearer(token))


def test_no_token_is_shown_by_accident():
    token = join_token.new("0" * 64)
    assert token.secret not in repr(token)
    assert join_token.parse(str(token)) == token
    with pytest.raises(ValueError, match="is no join token") as raised:
        join_token.parse("meshkube.zz.secretsecret")
    assert "secretsecret" not in str(raised.value)


def test_what_a_joining_host_asks_for_has_a_path_each():
    joining = Joining(ca=b"", settings={}, bundle=lambda node: {})
    assert set(joining.handlers()) == {"/cacerts", "/meshkube/v1/cluster", "/meshkube/v1/server"}
