"""Small objects that tests of clients create."""

from __future__ import annotations

from typing import Any

from tests.lab.cluster import IMAGE

Object = dict[str, Any]


def config_map(name: str, **data: str) -> Object:
    """A ConfigMap without a namespace."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def pod(name: str, script: str = "trap exit TERM; sleep 9999 & wait", **spec: Any) -> Object:
    """A pod that runs a shell script; it ends within a second when asked to."""
    container = {"name": "main", "image": IMAGE, "command": ["sh", "-c", script]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 1, **spec},
    }


def deployment(name: str, replicas: int = 1) -> Object:
    """A Deployment of such pods."""
    template = pod(name)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": template["spec"]},
        },
    }
