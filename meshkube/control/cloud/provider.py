"""The seam between a cluster and the place where its hosts run: the role of Kubernetes' cloud
controller manager, as a Protocol.

A provider offers any of three services, and None for those that its place does not have. Objects
are the API's JSON dicts, shared with caches: copy before changing one. Failures are `CloudError`;
calls are repeated until they succeed, and have to bear that. Everything runs on the leader only.
Sources: Kubernetes documents "Cloud Controller Manager", "Developing Cloud Controller Manager".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from meshkube.api.types import Object


class CloudError(Exception):
    """What could not be done. `reason` is one word in CamelCase for the Event, the message a
    sentence; after `again` seconds the call is repeated."""

    def __init__(self, reason: str, message: str, again: float = 10.0) -> None:
        super().__init__(message)
        self.reason = reason
        self.again = again


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """The machine that a node runs on."""

    provider_id: str
    """`<provider>://<id>`: becomes `spec.providerID`, which is never changed after."""
    addresses: Sequence[tuple[str, str]] = ()
    """`(type, address)` as in `status.addresses`: `ExternalIP`, `ExternalDNS`, `InternalDNS`. The
    node itself says its `InternalIP` and `Hostname`."""
    instance_type: str = ""
    zone: str = ""
    region: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Balancer:
    """Where a Service of type LoadBalancer is reached: `status.loadBalancer.ingress`."""

    ingress: Sequence[Object] = ()
    """`{"ip": …}` or `{"hostname": …}`, each with `ipMode` if it is not `VIP`."""
    conditions: Sequence[Object] = field(default=())
    """`{"type", "status", "reason", "message"}` for the Service's status. A type with `/` in it."""
    warning: tuple[str, str] | None = None
    """Reason and message of an Event: what whoever made the Service should know of this."""


class Route(NamedTuple):
    """Packets to a node's pods go to that node."""

    node: str
    destination: str


class Instances(Protocol):
    """The lifetime and the properties of nodes."""

    async def exists(self, node: Object) -> bool:
        """False: the Node of a machine that is no more is deleted."""
        ...

    async def is_shut_down(self, node: Object) -> bool:
        """True: the node is tainted `node.cloudprovider.kubernetes.io/shutdown`."""
        ...

    async def describe(self, node: Object) -> Instance:
        """Of a node that has registered itself."""
        ...


class LoadBalancers(Protocol):
    """Addresses of Services of type LoadBalancer without a `loadBalancerClass`, or with one of
    `classes`."""

    @property
    def classes(self) -> frozenset[str]: ...

    @property
    def cleans_up(self) -> bool:
        """Whether `delete` has to be called before a Service may go (a finalizer sees to it)."""
        ...

    async def ensure(
        self, service: Object, nodes: Sequence[Object], services: Sequence[Object]
    ) -> Balancer:
        """Makes it so. `nodes` may be sent traffic: ready, and not excluded by their label;
        `services` are all other LoadBalancer Services, with what was given to them."""
        ...

    async def delete(self, service: Object) -> None:
        """Takes it back; nothing is there: nothing to do."""
        ...


class Routes(Protocol):
    """Routes to the pods of nodes in the network of the place, for `--network routes`."""

    async def list(self) -> Sequence[Route]:
        """Those that were made for this cluster."""
        ...

    async def create(self, route: Route, node: Object) -> None: ...

    async def delete(self, route: Route) -> None: ...


class CloudProvider(Protocol):
    """One place."""

    @property
    def name(self) -> str: ...

    @property
    def instances(self) -> Instances | None: ...

    @property
    def load_balancers(self) -> LoadBalancers | None: ...

    @property
    def routes(self) -> Routes | None: ...
