"""Service-account tokens: what they claim, and whether that still holds.

Sources: Kubernetes documentation, "Managing Service Accounts"; KEP-1205 (bound tokens), KEP-4193
(node and `jti` claims); RFC 7519 (registered claims). Times are seconds since the epoch.
"""

from __future__ import annotations

import base64
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from meshkube import pki
from meshkube.api import kinds, meta
from meshkube.api.kinds import Kind
from meshkube.api.types import Object
from meshkube.control.auth import jws
from meshkube.control.auth.jws import BadToken, Signer, VerificationKey
from meshkube.control.auth.users import (
    AUTHENTICATED,
    User,
    service_account_groups,
    service_account_name,
)

DEFAULT_ISSUER = "https://kubernetes.default.svc.cluster.local"
PRIVATE = "kubernetes.io"
LEGACY_ISSUER = "kubernetes/serviceaccount"
LEGACY_PREFIX = "kubernetes.io/serviceaccount/"
SECRET_TYPE = "kubernetes.io/service-account-token"
DEFAULT_SECONDS = 3600
LEAST_SECONDS = 600
MOST_SECONDS = 1 << 32
DELETED_LEEWAY = 60.0
"""A token outlives the start of its pod's deletion by so much: the pod still shuts down."""
_REMEMBERED = 4096

Find = Callable[[Kind, str, str], Object | None]
"""An object of the caches by kind, name and namespace."""
_BOUND = {"pod": kinds.POD, "secret": kinds.SECRET, "node": kinds.NODE}


@dataclass(frozen=True, slots=True)
class Accepted:
    """A good token: whose, and for which of the asked audiences."""

    user: User
    audiences: tuple[str, ...]


class TokenIssuer:
    """Signs tokens with the first key and accepts those of every key: so keys can be rotated.

    `issuer` is the `iss` of the tokens; `audiences` are those of this API itself.
    """

    def __init__(
        self,
        signing_key: bytes,
        *,
        issuer: str,
        audiences: Sequence[str] = (),
        old: Iterable[bytes] = (),
    ) -> None:
        self._signer = Signer(signing_key)
        keys = [self._signer.verification, *(VerificationKey.of_pem(pem) for pem in old)]
        self.keys = list({key.id: key for key in keys}.values())
        self.issuer = issuer
        self.audiences = tuple(audiences) or (issuer,)
        self._known: OrderedDict[str, dict[str, Any]] = OrderedDict()

    def issue(
        self, account: Object, seconds: int, now: float, *,
        audiences: Sequence[str] = (), bound: Object | None = None, node: Object | None = None,
    ) -> str:  # fmt: skip
        """A token of a ServiceAccount. `bound` is a Pod, Secret or Node it dies with; `node` is
        where a bound pod runs."""
        private: Object = {"namespace": meta.namespace(account), "serviceaccount": _named(account)}
        if bound is not None:
            private[bound["kind"].lower()] = _named(bound)
        if node is not None:
            private["node"] = _named(node)
        start = int(now)
        claims = {
            "aud": list(audiences or self.audiences),
            "exp": start + seconds,
            "iat": start,
            "iss": self.issuer,
            "jti": str(uuid.uuid4()),
            PRIVATE: private,
            "nbf": start,
            "sub": service_account_name(meta.namespace(account), meta.name(account)),
        }
        return self._signer.sign(claims)

    def issue_legacy(self, namespace: str, account: str, uid: str, secret: str) -> str:
        """A token without an end, for a Secret of type `kubernetes.io/service-account-token`: it
        holds while the Secret does."""
        return self._signer.sign(
            {
                "iss": LEGACY_ISSUER,
                LEGACY_PREFIX + "namespace": namespace,
                LEGACY_PREFIX + "secret.name": secret,
                LEGACY_PREFIX + "service-account.name": account,
                LEGACY_PREFIX + "service-account.uid": uid,
                "sub": service_account_name(namespace, account),
            }
        )

    def ours(self, token: str) -> bool:
        """Whether a token says that it comes from here: no proof, only a reason to look closer."""
        try:
            return jws.unverified_claims(token).get("iss") in (self.issuer, LEGACY_ISSUER)
        except BadToken:
            return False

    def accept(
        self, token: str, find: Find, now: datetime, audiences: Sequence[str] = ()
    ) -> Accepted:
        """Whose token it is. `audiences` are those that the asker has; those of this API where it
        names none. Raises `BadToken`."""
        claims = self._claims(token)
        if claims.get("iss") == LEGACY_ISSUER:
            return self._legacy(claims, token, find, audiences or self.audiences)
        if claims.get("iss") != self.issuer:
            raise BadToken("token is of another issuer")
        _in_time(claims, now.timestamp())
        wanted = audiences or self.audiences
        given = claims.get("aud")
        given = [given] if isinstance(given, str) else given if isinstance(given, list) else []
        both = tuple(one for one in wanted if one in given)
        if not both:
            raise BadToken(
                f"token audiences {given} is invalid for the target audiences {list(wanted)}"
            )
        return Accepted(_user(claims, find, now), both)

    def _claims(self, token: str) -> dict[str, Any]:
        """The claims, with the costly part (the signature) remembered."""
        found = self._known.get(token)
        if found is None:
            found = self._known[token] = jws.verified(token, self.keys)
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return found

    def _legacy(
        self, claims: dict[str, Any], token: str, find: Find, audiences: Sequence[str]
    ) -> Accepted:
        namespace, name, uid, secret = (
            _text(claims, LEGACY_PREFIX + field)
            for field in ("namespace", "service-account.name", "service-account.uid", "secret.name")
        )
        stored = find(kinds.SECRET, secret, namespace)
        if stored is None or meta.deleting(stored) or stored.get("type") != SECRET_TYPE:
            raise BadToken("token has been invalidated: its secret is gone")
        if (stored.get("data") or {}).get("token") != _base64(token):
            raise BadToken("token does not match its secret")
        _account(find, namespace, name, uid, None)
        both = tuple(one for one in audiences if one in self.audiences)
        if not both:
            raise BadToken(f"token is invalid for the target audiences {list(audiences)}")
        groups = (*service_account_groups(namespace), AUTHENTICATED)
        return Accepted(User(service_account_name(namespace, name), groups, uid), both)

    def key_set(self) -> Object:
        """`/openid/v1/jwks`."""
        return {"keys": [key.jwk() for key in self.keys]}

    def configuration(self, address: str) -> Object:
        """`/.well-known/openid-configuration` (OpenID Connect Discovery 1.0, section 3), with the
        keys at `address`."""
        return {
            "issuer": self.issuer,
            "jwks_uri": f"{address}/openid/v1/jwks",
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": sorted({key.algorithm for key in self.keys}),
        }


def temporary_issuer() -> TokenIssuer:
    """One with a key of its own, that nobody keeps."""
    return TokenIssuer(pki.new_key(), issuer=DEFAULT_ISSUER)


def _user(claims: dict[str, Any], find: Find, now: datetime) -> User:
    private = claims.get(PRIVATE)
    if not isinstance(private, dict):
        raise BadToken("token says nothing of Kubernetes")
    namespace = _text(private, "namespace")
    name, uid = _reference(private, "serviceaccount")
    if claims.get("sub") != service_account_name(namespace, name):
        raise BadToken("subject and private claims do not match")
    _account(find, namespace, name, uid, now)
    extra = {}
    if isinstance(claims.get("jti"), str):
        extra["authentication.kubernetes.io/credential-id"] = ["JTI=" + claims["jti"]]
    for field, kind in _BOUND.items():
        if field not in private:
            continue
        bound, bound_uid = _reference(private, field)
        # A pod's node is told, not bound: a pod may outlive the object of its node.
        if field != "node" or "pod" not in private:
            _alive(find, kind, bound, namespace if kind.namespaced else "", bound_uid, now)
        if field != "secret":
            extra[f"authentication.kubernetes.io/{field}-name"] = [bound]
            extra[f"authentication.kubernetes.io/{field}-uid"] = [bound_uid]
    groups = (*service_account_groups(namespace), AUTHENTICATED)
    return User(service_account_name(namespace, name), groups, uid, extra)


def _account(find: Find, namespace: str, name: str, uid: str, now: datetime | None) -> None:
    _alive(find, kinds.SERVICE_ACCOUNT, name, namespace, uid, now)


def _alive(
    find: Find, kind: Kind, name: str, namespace: str, uid: str, now: datetime | None
) -> None:
    found = find(kind, name, namespace)
    if found is None:
        raise BadToken(f"token has been invalidated: {kind.singular} {name} is gone")
    if meta.uid(found) != uid:
        raise BadToken(f"token has been invalidated: {kind.singular} {name} is another one now")
    if meta.deleting(found) and (now is None or _long_ago(found, now)):
        raise BadToken(f"token has been invalidated: {kind.singular} {name} has been deleted")


def _long_ago(obj: Object, now: datetime) -> bool:
    deleted = datetime.fromisoformat(meta.metadata(obj)["deletionTimestamp"])
    return (now - deleted).total_seconds() > DELETED_LEEWAY


def _in_time(claims: dict[str, Any], now: float) -> None:
    start, end = claims.get("nbf"), claims.get("exp")
    if not isinstance(end, int | float) or isinstance(end, bool):
        raise BadToken("token has no end")
    if now >= end:
        raise BadToken("service account token has expired")
    if isinstance(start, int | float) and now < start - 10:
        raise BadToken("service account token is not valid yet")


def _reference(private: Object, field: str) -> tuple[str, str]:
    found = private.get(field)
    if not isinstance(found, dict):
        raise BadToken(f"token has no {field}")
    return _text(found, "name"), _text(found, "uid")


def _text(claims: Object, field: str) -> str:
    found = claims.get(field)
    if not isinstance(found, str) or not found:
        raise BadToken(f"token has no {field}")
    return found


def _named(obj: Object) -> Object:
    return {"name": meta.name(obj), "uid": meta.uid(obj)}


def _base64(token: str) -> str:
    return base64.b64encode(token.encode()).decode()
