"""Pods and their service accounts: the account is there, its pull secrets are taken over, and its
token is mounted (Kubernetes' admission plugin ServiceAccount). Pure.

Source: Kubernetes documentation, "Managing Service Accounts" and "Configure Service Accounts for
Pods".
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable

from meshkube.api import errors, kinds, meta
from meshkube.api.kinds import Kind
from meshkube.api.types import Object

DEFAULT = "default"
MIRROR = "kubernetes.io/config.mirror"
MOUNT_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
VOLUME_PREFIX = "kube-api-access-"
TOKEN_SECONDS = 3607
"""As in Kubernetes: the seven seconds tell tokens of this mount from those asked for by people."""
ROOT_CA = "kube-root-ca.crt"
_MODE = 0o644

Find = Callable[[Kind, str, str], Object | None]
All = Callable[[Kind], Iterable[Object]]


def account_of(pod: Object) -> str:
    spec = pod.get("spec") or {}
    return str(spec.get("serviceAccountName") or spec.get("serviceAccount") or DEFAULT)


def expected(pod: Object, namespace: str, find: Find, everything: All) -> bool:
    """Whether the account is missing but will come: each namespace gets its default account from a
    controller, soon after itself. Where no namespace has one, nothing makes them."""
    name = account_of(pod)
    if name != DEFAULT or find(kinds.SERVICE_ACCOUNT, name, namespace) is not None:
        return False
    return any(meta.name(one) == DEFAULT for one in everything(kinds.SERVICE_ACCOUNT))


def admit(pod: Object, namespace: str, find: Find, everything: All) -> None:
    """Changes a new pod (private to its request) in place. Raises `ApiError` 403."""
    if MIRROR in meta.annotations(pod):
        return
    spec = pod.setdefault("spec", {})
    name = account_of(pod)
    account = find(kinds.SERVICE_ACCOUNT, name, namespace)
    if account is None and (name != DEFAULT or expected(pod, namespace, find, everything)):
        why = (
            f'error looking up service account {namespace}/{name}: serviceaccount "{name}" '
            "not found"
        )
        raise errors.forbidden("", "pods", meta.name(pod), why)
    spec["serviceAccountName"] = name
    spec["serviceAccount"] = name
    if account is None:
        return
    if mounts_token(pod, account):
        _mount(spec, VOLUME_PREFIX + _suffix(namespace, name))
    if not spec.get("imagePullSecrets") and account.get("imagePullSecrets"):
        spec["imagePullSecrets"] = [dict(one) for one in account["imagePullSecrets"]]


def mounts_token(pod: Object, account: Object) -> bool:
    """The pod's word counts before the account's; who says nothing gets a token."""
    for source in (pod.get("spec") or {}, account):
        wanted = source.get("automountServiceAccountToken")
        if wanted is not None:
            return bool(wanted)
    return True


def _suffix(namespace: str, account: str) -> str:
    """Five characters as in generated names, the same for all pods of an account: so what pods of
    one template have in common stays in common, and is kept once (`sharing`)."""
    digest = hashlib.blake2b(f"{namespace}/{account}".encode(), digest_size=5).digest()
    return "".join(meta.SUFFIX_ALPHABET[byte % len(meta.SUFFIX_ALPHABET)] for byte in digest)


def _mount(spec: Object, name: str) -> None:
    """Mounts the token where a container has nothing at its path yet, from a volume of that
    name."""
    volumes = spec.get("volumes") or []
    known = next(
        (one["name"] for one in volumes if str(one.get("name")).startswith(VOLUME_PREFIX)), ""
    )
    missing = not known
    name = known or name
    used = False
    for container in [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]:
        mounts = container.get("volumeMounts") or []
        if any(one.get("mountPath") == MOUNT_PATH for one in mounts):
            continue
        mount = {"name": name, "readOnly": True, "mountPath": MOUNT_PATH}
        container["volumeMounts"] = [*mounts, mount]
        used = True
    if used and missing:
        spec["volumes"] = [*volumes, {"name": name, "projected": _projection()}]


def _projection() -> Object:
    namespace = {"apiVersion": "v1", "fieldPath": "metadata.namespace"}
    return {
        "defaultMode": _MODE,
        "sources": [
            {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
            {"configMap": {"name": ROOT_CA, "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": namespace}]}},
        ],
    }
