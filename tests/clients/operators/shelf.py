"""An operator that keeps one ConfigMap for each Shelf: handlers, retries, status, children, timers,
field handlers and finalizers, all as kopf documents them."""

from typing import Any

import kopf
import kubernetes

GROUP = "rows.example"


@kopf.on.startup()
def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
    settings.posting.level = 10
    settings.persistence.finalizer = f"{GROUP}/held"


@kopf.on.resume("shelves")
@kopf.on.create("shelves")
def create(body: kopf.Body, spec: kopf.Spec, namespace: str, retry: int, **_: Any) -> dict:
    if retry < 1:
        raise kopf.TemporaryError("not yet", delay=0.2)
    child = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": body["metadata"]["name"]},
        "data": {"books": ",".join(spec["books"])},
    }
    kopf.adopt(child)
    core = kubernetes.client.CoreV1Api()
    try:
        core.create_namespaced_config_map(namespace, child)
    except kubernetes.client.ApiException as error:
        if error.status != 409:
            raise
    kopf.info(body, reason="Filled", message="books are on the shelf")
    return {"count": len(spec["books"])}


@kopf.on.field("shelves", field="spec.books")
def moved(new: list[str], name: str, namespace: str, patch: kopf.Patch, **_: Any) -> None:
    patch.status["books"] = len(new)


@kopf.on.update("shelves")
def update(spec: kopf.Spec, name: str, namespace: str, **_: Any) -> None:
    core = kubernetes.client.CoreV1Api()
    body = {"data": {"books": ",".join(spec["books"])}}
    core.patch_namespaced_config_map(name, namespace, body)


@kopf.timer("shelves", interval=0.5)
def dusted(patch: kopf.Patch, status: kopf.Status, **_: Any) -> None:
    patch.status["dusted"] = status.get("dusted", 0) + 1


@kopf.on.delete("shelves")
def delete(name: str, namespace: str, **_: Any) -> None:
    core = kubernetes.client.CoreV1Api()
    body = {"metadata": {"name": f"{name}-gone"}}
    core.create_namespaced_config_map(namespace, body)
