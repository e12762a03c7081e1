"""An operator on unmodified kopf: every Greeting gets a ConfigMap of its own, and an end."""

from __future__ import annotations

from typing import Any

import kopf
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

NAME = "greetings.example.com"


@kopf.on.startup()
def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
    config.load_kube_config()
    settings.posting.enabled = True
    settings.persistence.finalizer = "example.com/greeter"


@kopf.on.create(NAME)
def create(spec: kopf.Spec, name: str, namespace: str | None, **_: Any) -> dict[str, str]:
    body = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": f"{name}-text"},
        "data": {"text": f"hello {spec['who']}"},
    }
    kopf.adopt(body)
    client.CoreV1Api().create_namespaced_config_map(namespace, body)
    return {"config-map": f"{name}-text"}


@kopf.on.update(NAME, field="spec.who")
def update(new: str, name: str, namespace: str | None, patch: kopf.Patch, **_: Any) -> None:
    body = {"data": {"text": f"hello {new}"}}
    client.CoreV1Api().patch_namespaced_config_map(f"{name}-text", namespace, body)
    patch.status["greeted"] = new


@kopf.on.delete(NAME)
def delete(name: str, namespace: str | None, **_: Any) -> None:
    mark = {"metadata": {"name": f"{name}-farewell"}, "data": {"text": "bye"}}
    try:
        client.CoreV1Api().create_namespaced_config_map(namespace, mark)
    except ApiException as error:
        if error.status != 409:
            raise


@kopf.timer(NAME, interval=0.5)
def tick(status: kopf.Status, patch: kopf.Patch, **_: Any) -> None:
    patch.status["ticks"] = (status.get("ticks") or 0) + 1


@kopf.daemon(NAME, cancellation_polling=0.5)
def watch(stopped: kopf.DaemonStopped, name: str, namespace: str | None, **_: Any) -> None:
    api = client.CoreV1Api()
    body: dict[str, Any] = {"metadata": {"name": f"{name}-daemon"}, "data": {"is": "running"}}
    try:
        api.create_namespaced_config_map(namespace, body)
    except ApiException as error:
        if error.status != 409:
            raise
    stopped.wait(120)
    body["data"]["is"] = "stopped"
    api.patch_namespaced_config_map(body["metadata"]["name"], namespace, body)
