"""What kube-proxy says of itself, for the balancers of clouds that ask a node before they send it
anything: `/healthz` (503 too while the node is about to go, KEP-3836), `/livez`, `/proxyMode`.

Source: Kubernetes document "Virtual IPs and Service Proxies".
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime

from meshkube.api import meta
from meshkube.api.types import Object
from meshkube.dataplane.health_ports import reply

GOING = "ToBeDeletedByClusterAutoscaler"
"""The taint of a node that is about to be taken away."""


class ProxyHealth:
    """`in_step`: whether the kernel has the rules as they are wanted; `node`: this node's object,
    None while it is not there."""

    def __init__(
        self,
        in_step: Callable[[], bool],
        node: Callable[[], Object | None],
        now: Callable[[], datetime],
    ) -> None:
        self._in_step, self._node, self._now = in_step, node, now
        self._updated = ""

    def health(self, path: str) -> bytes:
        """The answer to a request of the port for balancers."""
        now = meta.timestamp(self._now())
        if self._in_step():
            self._updated = now
        healthy, eligible = self._in_step(), self._eligible()
        told = {"lastUpdated": self._updated, "currentTime": now}
        if path == "/livez":
            return reply(200 if healthy else 503, json.dumps(told))
        if path not in ("/", "/healthz"):
            return reply(404, "", "text/plain")
        body = json.dumps({**told, "nodeEligible": eligible})
        return reply(200 if healthy and eligible else 503, body)

    def _eligible(self) -> bool:
        node = self._node()
        if node is None:
            return True
        taints = (node.get("spec") or {}).get("taints") or ()
        return not meta.deleting(node) and all(taint.get("key") != GOING for taint in taints)


def mode(name: str) -> Callable[[str], bytes]:
    """The answers of the port for this host's own programs."""

    def respond(path: str) -> bytes:
        return (
            reply(200, name, "text/plain") if path == "/proxyMode" else reply(404, "", "text/plain")
        )

    return respond
