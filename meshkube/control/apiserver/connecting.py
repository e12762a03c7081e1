"""Admission of connections: policies and webhooks that match the operation CONNECT."""

from __future__ import annotations

from typing import Final

from meshkube.api import kinds
from meshkube.api.types import Object
from meshkube.control.apiserver.http import Call
from meshkube.control.apiserver.matching import Asked
from meshkube.control.apiserver.registry import Registry
from meshkube.control.apiserver.routing import Route

_KINDS: Final = {
    (kinds.POD, "exec"): "PodExecOptions",
    (kinds.POD, "attach"): "PodAttachOptions",
    (kinds.POD, "portforward"): "PodPortForwardOptions",
    (kinds.POD, "proxy"): "PodProxyOptions",
    (kinds.SERVICE, "proxy"): "ServiceProxyOptions",
    (kinds.NODE, "proxy"): "NodeProxyOptions",
}


async def connecting(registry: Registry, call: Call, route: Route, options: Object) -> None:
    """`options` are the fields of the request's options object. Raises `ApiError` where somebody
    refuses the connection."""
    kind = _KINDS[route.kind, route.subresource]
    body = {"kind": kind, "apiVersion": "v1", **options}
    asked = Asked(
        route.kind, "CONNECT", body, None, call.user, route.subresource, False,
        route.name.partition(":")[0], route.namespace, ("v1", kind),
    )  # fmt: skip
    await registry.admit(asked, call.warnings, call.leave)
