"""What every namespace holds: the ServiceAccount `default`, and the cluster's CA for pods."""

from __future__ import annotations

from collections.abc import Iterable

from meshkube.api import kinds, meta
from meshkube.api.errors import ApiError
from meshkube.api.types import Object
from meshkube.client.informer import Informers
from meshkube.control.loop import Context, Controller, MapFn

ACCOUNT = "default"
ROOT_CA = "kube-root-ca.crt"
_DESCRIPTION = (
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal"
    " endpoints such as the internal service IP or kubernetes.default.svc. No other usage is"
    " guaranteed across distributions of Kubernetes clusters."
)


async def reconcile(context: Context, key: str) -> float | None:
    namespace = context.caches.of(kinds.NAMESPACE).get(key)
    if namespace is None or meta.deleting(namespace):
        return None
    if context.caches.of(kinds.SERVICE_ACCOUNT).get(f"{key}/{ACCOUNT}") is None:
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT}}
        await _create(context, account, key)
    if context.settings.cluster_ca:
        await _publish_ca(context, key)
    return None


async def _publish_ca(context: Context, namespace: str) -> None:
    data = {"ca.crt": context.settings.cluster_ca}
    stored = context.caches.of(kinds.CONFIG_MAP).get(f"{namespace}/{ROOT_CA}")
    if stored is None:
        config = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": ROOT_CA,
                "annotations": {"kubernetes.io/description": _DESCRIPTION},
            },
            "data": data,
        }
        await _create(context, config, namespace)
    elif stored.get("data") != data:
        await context.client.update(kinds.CONFIG_MAP, {**stored, "data": data})


async def _create(context: Context, obj: Object, namespace: str) -> None:
    kind = kinds.SERVICE_ACCOUNT if obj["kind"] == "ServiceAccount" else kinds.CONFIG_MAP
    obj["metadata"]["namespace"] = namespace
    try:
        await context.client.create(kind, obj, namespace)
    except ApiError as error:
        # There already, or the namespace is on its way out.
        if error.code not in (403, 404, 409):
            raise


def _namespace(name: str) -> MapFn:
    def wakes(caches: Informers, old: Object | None, new: Object | None) -> Iterable[str]:
        obj = new if new is not None else old or {}
        return (meta.namespace(obj),) if meta.name(obj) == name else ()

    return wakes


CONTROLLER = Controller(
    name="serviceaccount",
    kind=kinds.NAMESPACE,
    watches={kinds.SERVICE_ACCOUNT: _namespace(ACCOUNT), kinds.CONFIG_MAP: _namespace(ROOT_CA)},
    component="service-account-controller",
    reconcile=reconcile,
)
