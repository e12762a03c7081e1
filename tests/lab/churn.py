"""A cluster kept busy: writes by a client, and work for the controllers that follows from them.

Each write is a numbered ConfigMap and a change of a Deployment's replicas. What was acknowledged is
remembered; afterwards it must all be there.
"""

from __future__ import annotations

import random
import threading
import time
from typing import Any

from tests.lab.hosts import Hosts

DEPLOYMENT = "/apis/apps/v1/namespaces/default/deployments"
CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"
LARGEST = 6


class Churn:
    """Writes through whichever server answers, while the `with` block runs. `name` keeps the
    ConfigMaps of one run apart from those of another."""

    def __init__(self, hosts: Hosts, name: str, seed: object, pause: float = 0.1) -> None:
        self.hosts = hosts
        self.name = name
        self.pause = pause
        self.acknowledged: list[str] = []
        self.refused = 0
        self.replicas = 0
        self._chance = random.Random(str(seed))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Churn:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        for number in range(1_000_000):
            if self._stop.is_set():
                return
            self._write(f"{self.name}-{number}")
            time.sleep(self.pause)

    def _write(self, name: str) -> None:
        servers = [node for node in self.hosts.servers if node.serves]
        if not servers:
            return
        node = self._chance.choice(servers)
        made = node.write("POST", CONFIG_MAPS, {"metadata": {"name": name}})
        if made is None:
            self.refused += 1
        else:
            self.acknowledged.append(name)
        replicas = self._chance.randint(1, LARGEST)
        change = {"spec": {"replicas": replicas}}
        if node.write("PATCH", f"{DEPLOYMENT}/churn", change) is not None:
            self.replicas = replicas

    def missing(self) -> set[str]:
        """Acknowledged ConfigMaps that are not there."""
        found = self.hosts.read(CONFIG_MAPS) or {"items": []}
        return set(self.acknowledged) - {item["metadata"]["name"] for item in found["items"]}


def deployment() -> dict[str, Any]:
    """What the churn scales."""
    labels = {"app": "churn"}
    template = {
        "metadata": {"labels": labels},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "main", "image": "any:1"}],
        },
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "churn", "namespace": "default"},
        "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": template},
    }
