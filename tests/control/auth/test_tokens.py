"""Tokens: good ones say who, and every sort of bad one is refused."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from meshkube import pki
from meshkube.api.kinds import Kind
from meshkube.api.types import Object
from meshkube.control.auth import jws
from meshkube.control.auth.jws import BadToken, Signer
from meshkube.control.auth.tokens import SECRET_TYPE, TokenIssuer

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ISSUER = "https://kubernetes.default.svc.cluster.local"
KEY = pki.new_key()


def obj(kind: str, name: str, namespace: str = "shop", **more: Any) -> Object:
    metadata: Object = {"name": name, "uid": f"uid-of-{name}"}
    if namespace:
        metadata["namespace"] = namespace
    return {"kind": kind, "apiVersion": "v1", "metadata": metadata, **more}


ACCOUNT = obj("ServiceAccount", "robot")
POD = obj("Pod", "web", spec={"serviceAccountName": "robot", "nodeName": "n1"})
NODE = obj("Node", "n1", "")


class World:
    """Objects as the caches would show them."""

    def __init__(self, *objects: Object) -> None:
        self.objects = list(objects)

    def __call__(self, kind: Kind, name: str, namespace: str) -> Object | None:
        for one in self.objects:
            metadata = one["metadata"]
            if (one["kind"], metadata["name"]) == (kind.kind, name):
                return one if metadata.get("namespace", "") == namespace else None
        return None


@pytest.fixture
def issuer() -> TokenIssuer:
    return TokenIssuer(KEY, issuer=ISSUER)


@pytest.fixture
def world() -> World:
    return World(ACCOUNT, POD, NODE)


def claims_of(token: str) -> dict[str, Any]:
    return jws.unverified_claims(token)


def bound(issuer: TokenIssuer, seconds: int = 600, **more: Any) -> str:
    return issuer.issue(ACCOUNT, seconds, NOW.timestamp(), bound=POD, node=NODE, **more)


def test_a_bound_token_says_whose_it_is_and_what_it_hangs_on(issuer: TokenIssuer) -> None:
    claims = claims_of(bound(issuer))
    assert claims["kubernetes.io"] == {
        "namespace": "shop",
        "serviceaccount": {"name": "robot", "uid": "uid-of-robot"},
        "pod": {"name": "web", "uid": "uid-of-web"},
        "node": {"name": "n1", "uid": "uid-of-n1"},
    }
    assert claims["sub"] == "system:serviceaccount:shop:robot"
    assert claims["aud"] == [ISSUER]
    assert claims["exp"] - claims["iat"] == 600


def test_a_good_token_is_a_user_with_groups_and_extra(issuer: TokenIssuer, world: World) -> None:
    token = bound(issuer)
    user = issuer.accept(token, world, NOW).user
    assert user.name == "system:serviceaccount:shop:robot"
    assert user.uid == "uid-of-robot"
    assert user.groups == (
        "system:serviceaccounts",
        "system:serviceaccounts:shop",
        "system:authenticated",
    )
    assert user.extra == {
        "authentication.kubernetes.io/credential-id": ["JTI=" + claims_of(token)["jti"]],
        "authentication.kubernetes.io/pod-name": ["web"],
        "authentication.kubernetes.io/pod-uid": ["uid-of-web"],
        "authentication.kubernetes.io/node-name": ["n1"],
        "authentication.kubernetes.io/node-uid": ["uid-of-n1"],
    }


def test_it_ends(issuer: TokenIssuer, world: World) -> None:
    token = bound(issuer)
    issuer.accept(token, world, NOW + timedelta(seconds=599))
    with pytest.raises(BadToken, match="expired"):
        issuer.accept(token, world, NOW + timedelta(seconds=600))


def test_it_is_for_its_audiences_only(issuer: TokenIssuer, world: World) -> None:
    token = bound(issuer, audiences=["vault", "other"])
    with pytest.raises(BadToken, match="audiences"):
        issuer.accept(token, world, NOW)
    assert issuer.accept(token, world, NOW, ["vault", "mail"]).audiences == ("vault",)


@pytest.mark.parametrize("gone", ["robot", "web"])
def test_it_dies_with_what_it_is_bound_to(issuer: TokenIssuer, world: World, gone: str) -> None:
    token = bound(issuer)
    world.objects = [one for one in world.objects if one["metadata"]["name"] != gone]
    with pytest.raises(BadToken, match="is gone"):
        issuer.accept(token, world, NOW)


@pytest.mark.parametrize("changed", ["robot", "web"])
def test_another_object_of_the_same_name_is_not_the_one(
    issuer: TokenIssuer, world: World, changed: str
) -> None:
    token = bound(issuer)
    world.objects = [
        {**one, "metadata": {**one["metadata"], "uid": "another"}}
        if one["metadata"]["name"] == changed
        else one
        for one in world.objects
    ]
    with pytest.raises(BadToken, match="another one"):
        issuer.accept(token, world, NOW)


def test_a_pod_that_shuts_down_keeps_its_token_for_a_minute(issuer: TokenIssuer) -> None:
    token = bound(issuer)
    ending = {**POD, "metadata": {**POD["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}}
    world = World(ACCOUNT, ending, NODE)
    issuer.accept(token, world, NOW + timedelta(seconds=60))
    with pytest.raises(BadToken, match="deleted"):
        issuer.accept(token, world, NOW + timedelta(seconds=61))


def test_the_node_of_a_pod_may_go_but_not_one_the_token_is_bound_to(issuer: TokenIssuer) -> None:
    world = World(ACCOUNT, POD)
    issuer.accept(bound(issuer), world, NOW)
    token = issuer.issue(ACCOUNT, 600, NOW.timestamp(), bound=NODE)
    with pytest.raises(BadToken, match="node n1 is gone"):
        issuer.accept(token, world, NOW)


def part(content: Any) -> str:
    return jws.encode(orjson.dumps(content))


def resigned(change: Callable[[dict[str, Any]], Any], key: bytes = KEY) -> str:
    claims = claims_of(bound(TokenIssuer(KEY, issuer=ISSUER)))
    change(claims)
    return Signer(key).sign(claims)


def as_none(token: str) -> str:
    return f"{part({'alg': 'none'})}.{token.split('.')[1]}."


def as_hmac(token: str) -> str:
    """Signed with the public key as if it were a shared secret (RFC 8725, section 2.1)."""
    content = f"{part({'alg': 'HS256'})}.{token.split('.')[1]}"
    digest = hmac.new(pki.public_key(KEY), content.encode(), hashlib.sha256).digest()
    return f"{content}.{jws.encode(digest)}"


def changed_payload(token: str) -> str:
    header, payload, signature = token.split(".")
    claims = orjson.loads(jws.decode(payload))
    claims["kubernetes.io"]["serviceaccount"]["name"] = "admin"
    return f"{header}.{part(claims)}.{signature}"


BAD = {
    "nothing": lambda token: "",
    "no token": lambda token: "secret",
    "two parts": lambda token: token.rpartition(".")[0],
    "no signature": lambda token: token.rpartition(".")[0] + ".",
    "cut signature": lambda token: token[:-4],
    "alg none": as_none,
    "alg of a shared secret": as_hmac,
    "other claims under the signature": changed_payload,
    "not JSON": lambda token: ".".join([jws.encode(b"{"), *token.split(".")[1:]]),
    "not an object": lambda token: ".".join([part([1]), *token.split(".")[1:]]),
    "not base64": lambda token: "*" + token,
    "padded": lambda token: token + "==",
    "huge": lambda token: "a." * 20000,
    "another cluster's key": lambda token: resigned(lambda claims: None, pki.new_key()),
    "another issuer": lambda token: resigned(lambda claims: claims.update(iss="https://evil")),
    "no end": lambda token: resigned(lambda claims: claims.pop("exp")),
    "an end that is no number": lambda token: resigned(lambda claims: claims.update(exp="never")),
    "not yet": lambda token: resigned(lambda claims: claims.update(nbf=claims["nbf"] + 100)),
    "no audience": lambda token: resigned(lambda claims: claims.pop("aud")),
    "another subject": lambda token: resigned(lambda claims: claims.update(sub="admin")),
    "no account": lambda token: resigned(
        lambda claims: claims["kubernetes.io"].pop("serviceaccount")
    ),
    "private claims that are none": lambda token: resigned(
        lambda claims: claims.update({"kubernetes.io": "x"})
    ),
    "a pod that is none": lambda token: resigned(
        lambda claims: claims["kubernetes.io"].update(pod="web")
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_tokens_are_refused(issuer: TokenIssuer, world: World, kind: str) -> None:
    with pytest.raises(BadToken):
        issuer.accept(BAD[kind](bound(issuer)), world, NOW)


def test_extensions_that_must_be_understood_are_not(issuer: TokenIssuer, world: World) -> None:
    token = bound(issuer)
    header = {"alg": "ES256", "crit": ["b64"], "b64": False}
    with pytest.raises(BadToken, match="extensions"):
        issuer.accept(".".join([part(header), *token.split(".")[1:]]), world, NOW)


def test_tokens_of_the_key_before_hold_until_that_key_is_taken_away(world: World) -> None:
    before = TokenIssuer(KEY, issuer=ISSUER)
    token = bound(before)
    new = pki.new_key()
    after = TokenIssuer(new, issuer=ISSUER, old=[pki.public_key(KEY)])
    assert after.accept(token, world, NOW).user.uid == "uid-of-robot"
    assert len(after.key_set()["keys"]) == 2
    later = TokenIssuer(new, issuer=ISSUER)
    with pytest.raises(BadToken, match="not signed by a key of this cluster"):
        later.accept(token, world, NOW)


def test_rsa_keys_sign_and_verify_too(world: World) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    issuer = TokenIssuer(pem, issuer=ISSUER)
    assert issuer.accept(bound(issuer), world, NOW).user.name.endswith("robot")
    (key_of_set,) = issuer.key_set()["keys"]
    assert (key_of_set["kty"], key_of_set["alg"], key_of_set["e"]) == ("RSA", "RS256", "AQAB")


class TestLegacy:
    """Tokens without an end, that a Secret holds."""

    def secret(self, token: str) -> Object:
        data = {"token": base64.b64encode(token.encode()).decode()}
        return obj("Secret", "robot-token", type=SECRET_TYPE, data=data)

    def test_it_holds_while_its_secret_does(self, issuer: TokenIssuer) -> None:
        token = issuer.issue_legacy("shop", "robot", "uid-of-robot", "robot-token")
        world = World(ACCOUNT, self.secret(token))
        user = issuer.accept(token, world, NOW + timedelta(days=3650)).user
        assert user.name == "system:serviceaccount:shop:robot"
        world.objects.pop()
        with pytest.raises(BadToken, match="secret is gone"):
            issuer.accept(token, world, NOW)

    def test_another_token_in_the_secret_ends_it(self, issuer: TokenIssuer) -> None:
        token = issuer.issue_legacy("shop", "robot", "uid-of-robot", "robot-token")
        world = World(ACCOUNT, self.secret("another"))
        with pytest.raises(BadToken, match="does not match"):
            issuer.accept(token, world, NOW)

    def test_it_dies_with_its_account(self, issuer: TokenIssuer) -> None:
        token = issuer.issue_legacy("shop", "robot", "uid-of-robot", "robot-token")
        with pytest.raises(BadToken, match="serviceaccount robot is gone"):
            issuer.accept(token, World(self.secret(token)), NOW)
