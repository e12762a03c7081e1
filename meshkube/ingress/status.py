"""Where Ingresses say that they are reached: `status.loadBalancer`, written by every ingress alike.

Of a cluster whose nodes say which of them run an ingress, it is the addresses of all those that are
ready: whoever writes, writes the same. Elsewhere it is one's own, and of two ingresses that know
nothing of each other the one that came last has its way, instead of both writing without end.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Callable, Sequence

from meshkube.api import kinds, meta, nodes
from meshkube.api.errors import ApiError
from meshkube.api.types import Object
from meshkube.client.base import Client
from meshkube.client.informer import Informer
from meshkube.ingress.findings import has_status, load_balancer

log = logging.getLogger(__name__)


class Status:
    """Writes it. `own` is where this ingress answers; `changed` is called when it is others."""

    def __init__(
        self,
        client: Client,
        own: Callable[[], Sequence[str]],
        changed: Callable[[], None],
    ) -> None:
        self._client = client
        self._own = own
        self._changed = changed
        self._nodes: dict[str, tuple[str, ...]] | None = None
        self._written: dict[str, int] = {}

    def follow(self, informer: Informer) -> None:
        """Has the addresses come from Nodes."""
        self._nodes = {}
        informer.subscribe(self._node_changed)

    def _node_changed(self, old: Object | None, new: Object | None) -> None:
        assert self._nodes is not None
        name = meta.name(new or old or {})
        here = answers_at(new) if new is not None else ()
        if here == self._nodes.get(name, ()):
            return
        self._nodes[name] = here
        self._changed()

    def addresses(self) -> list[str]:
        """Those of the nodes, or one's own where no node says that it runs an ingress."""
        found = {address for here in (self._nodes or {}).values() for address in here}
        return sorted(found, key=_order) or list(self._own())

    async def write(self, key: str, ingress: Object) -> bool:
        """Whether it is as it should be, or not to be written; False asks for another try."""
        wanted = load_balancer(self.addresses())
        if not wanted["ingress"] or has_status(ingress, wanted) or self._left(key, ingress):
            return True
        try:
            await self._client.patch(
                kinds.INGRESS,
                meta.name(ingress),
                {"status": {"loadBalancer": wanted}},
                meta.namespace(ingress),
                subresource="status",
            )
        except ApiError as error:
            if error.code == 404:
                return True
            log.warning("status not written", extra={"ingress": key, "reason": error.message})
            return False
        self._written[key] = _generation(ingress)
        return True

    def forget(self, key: str) -> None:
        """The Ingress is gone, or of others."""
        self._written.pop(key, None)

    def _left(self, key: str, ingress: Object) -> bool:
        """Whether another ingress overwrote what this one wrote, and so has its way."""
        if self._nodes is not None or self._written.get(key) != _generation(ingress):
            return False
        return not has_status(ingress, load_balancer(()))


def answers_at(node: Object) -> tuple[str, ...]:
    """The addresses of a ready Node that runs an ingress; none of another."""
    runs = meta.annotations(node).get(nodes.INGRESS_KEY) == "true"
    if not runs or not nodes.is_ready(node):
        return ()
    return tuple(nodes.reachable_addresses(node).values())


def _order(address: str) -> tuple[int, int]:
    known = ipaddress.ip_address(address)
    return known.version, int(known)


def _generation(ingress: Object) -> int:
    return int((ingress.get("metadata") or {}).get("generation") or 0)
