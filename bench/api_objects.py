"""Objects of a usual size for the API's bench."""

from __future__ import annotations

from meshkube.api.types import Object


def pod(number: int) -> Object:
    """A pod of a usual size, with a status as a node writes it (2.5 kB)."""
    name = f"web-{number:05d}"
    state = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
    container = {
        "name": "app",
        "image": "registry.example/shop/app:1.2.3",
        "ports": [{"containerPort": 8080, "name": "http"}],
        "env": [{"name": f"VARIABLE_{n}", "value": f"value-{n}"} for n in range(8)],
        "resources": {
            "requests": {"cpu": "100m", "memory": "64Mi"},
            "limits": {"cpu": "500m", "memory": "128Mi"},
        },
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "default",
            "labels": {"app": f"app-{number % 100}", "pod-template-hash": "5d4f8c7b9"},
        },
        "spec": {"containers": [container], "nodeName": f"node-{number % 50}"},
        "status": {
            "phase": "Running",
            "podIP": f"10.42.{number // 250}.{number % 250 + 1}",
            "conditions": [
                {"type": kind, "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
                for kind in ("PodScheduled", "Initialized", "ContainersReady", "Ready")
            ],
            "containerStatuses": [
                {
                    "name": "app",
                    "image": container["image"],
                    "imageID": "sha256:0",
                    "ready": True,
                    "restartCount": 0,
                    "state": state,
                }
            ],
        },
    }


def config_map(name: str, kilobytes: int) -> Object:
    """Of many values of 100 bytes."""
    data = {f"key-{number:05d}": "x" * 88 for number in range(kilobytes * 10)}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def definition(number: int) -> Object:
    """A CustomResourceDefinition whose schema has the size of an operator's (8 kB)."""
    plural = f"things{number}"
    words = "What this field is for, in a sentence of the usual length of a generated schema."
    field = {"type": "string", "description": words, "maxLength": 253}
    part = {
        "type": "object",
        "description": words,
        "properties": {f"field{n}": field for n in range(10)},
        "required": ["field0"],
    }
    spec = {"type": "object", "properties": {f"part{n}": part for n in range(5)}}
    schema = {
        "type": "object",
        "properties": {
            "spec": spec,
            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        },
    }
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        "subresources": {"status": {}},
    }
    names = {"plural": plural, "singular": f"thing{number}", "kind": f"Thing{number}"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.bench.example"},
        "spec": {
            "group": "bench.example",
            "scope": "Namespaced",
            "names": names,
            "versions": [version],
        },
    }
