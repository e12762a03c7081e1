"""Secrets of type `kubernetes.io/service-account-token`: filled with a token that has no end, and
gone when their service account is."""

from __future__ import annotations

import base64
from collections.abc import Iterable

from meshkube.api import kinds, meta
from meshkube.api.errors import ApiError
from meshkube.api.types import Object
from meshkube.client.informer import Informers
from meshkube.control.loop import Context, Controller

TYPE = "kubernetes.io/service-account-token"
ACCOUNT = "kubernetes.io/service-account.name"
ACCOUNT_UID = "kubernetes.io/service-account.uid"


def account_of(secret: Object) -> str:
    """The account whose token a Secret wants; empty for every other Secret."""
    if secret.get("type") != TYPE:
        return ""
    return meta.annotations(secret).get(ACCOUNT, "")


def filled(secret: Object, account: Object, token: str, cluster_ca: str) -> Object:
    """A copy with what is missing."""
    new = meta.copy(secret)
    new["metadata"].setdefault("annotations", {})[ACCOUNT_UID] = meta.uid(account)
    data = new["data"] = dict(new.get("data") or {})
    if token:
        data["token"] = _base64(token)
    if cluster_ca:
        data["ca.crt"] = _base64(cluster_ca)
    data["namespace"] = _base64(meta.namespace(secret))
    return new


async def reconcile(context: Context, key: str) -> float | None:
    secret = context.caches.of(kinds.SECRET).get(key)
    name = account_of(secret) if secret is not None else ""
    if secret is None or not name or meta.deleting(secret):
        return None
    namespace = meta.namespace(secret)
    account = context.caches.of(kinds.SERVICE_ACCOUNT).get(f"{namespace}/{name}")
    if account is None or _of_another(secret, account):
        await _delete_orphan(context, secret, name)
        return None
    token = ""
    issue = context.settings.legacy_token
    if issue is not None and not (secret.get("data") or {}).get("token"):
        token = issue(namespace, name, meta.uid(account), meta.name(secret))
    wanted = filled(secret, account, token, context.settings.cluster_ca)
    if wanted != secret:
        await context.client.update(kinds.SECRET, wanted)
    return None


def _of_another(secret: Object, account: Object) -> bool:
    """Whether it belongs to an account of the same name that is no more."""
    uid = meta.annotations(secret).get(ACCOUNT_UID)
    return uid is not None and uid != meta.uid(account)


async def _delete_orphan(context: Context, secret: Object, name: str) -> None:
    """Asks the API first: the cache may be behind."""
    namespace = meta.namespace(secret)
    try:
        account = await context.client.get(kinds.SERVICE_ACCOUNT, name, namespace)
        if not _of_another(secret, account):
            return
    except ApiError as error:
        if error.code != 404:
            raise
    await context.client.delete(kinds.SECRET, meta.name(secret), namespace, uid=meta.uid(secret))


def _of_account(caches: Informers, old: Object | None, new: Object | None) -> Iterable[str]:
    account = new if new is not None else old or {}
    secrets = caches.of(kinds.SECRET).list(meta.namespace(account))
    return [meta.key(one) for one in secrets if account_of(one) == meta.name(account)]


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


CONTROLLER = Controller(
    name="serviceaccount-token",
    kind=kinds.SECRET,
    watches={kinds.SERVICE_ACCOUNT: _of_account},
    component="service-account-controller",
    reconcile=reconcile,
    workers=2,
)
