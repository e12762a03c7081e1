"""A provider as a package of somebody else would bring it: a cloud in memory, with all services."""

from __future__ import annotations

from collections.abc import Sequence

from meshkube.api import meta
from meshkube.api.types import Object
from meshkube.control.cloud.loading import CloudSettings
from meshkube.control.cloud.provider import Balancer, CloudError, Instance, Route


class ExampleCloud:
    """Machines by the names of their nodes; balancers by the Services' keys; a route table."""

    name = "example"
    classes: frozenset[str] = frozenset()
    cleans_up = True

    def __init__(self, settings: CloudSettings) -> None:
        self.settings = settings
        self.machines: dict[str, str] = {}
        """Node -> `running`, `shut down`; gone: not in it."""
        self.balancers: dict[str, list[str]] = {}
        """Service -> the nodes behind its balancer."""
        self.table: set[Route] = set()
        self.refuses = ""

    @property
    def instances(self) -> ExampleInstances:
        return ExampleInstances(self)

    @property
    def load_balancers(self) -> ExampleCloud:
        return self

    @property
    def routes(self) -> ExampleRoutes:
        return ExampleRoutes(self)

    async def ensure(
        self, service: Object, nodes: Sequence[Object], services: Sequence[Object]
    ) -> Balancer:
        if self.refuses:
            raise CloudError("QuotaExceeded", self.refuses, again=0.05)
        self.balancers[meta.key(service)] = sorted(meta.name(node) for node in nodes)
        return Balancer(ingress=[{"hostname": f"{meta.name(service)}.balancers.example"}])

    async def delete(self, service: Object) -> None:
        self.balancers.pop(meta.key(service), None)


class ExampleInstances:
    def __init__(self, cloud: ExampleCloud) -> None:
        self._cloud = cloud

    async def exists(self, node: Object) -> bool:
        return meta.name(node) in self._cloud.machines

    async def is_shut_down(self, node: Object) -> bool:
        return self._cloud.machines[meta.name(node)] == "shut down"

    async def describe(self, node: Object) -> Instance:
        return Instance(
            provider_id=f"example://{meta.name(node)}",
            addresses=[("ExternalIP", "203.0.113.9")],
            instance_type="big",
            zone="zone-a",
        )


class ExampleRoutes:
    def __init__(self, cloud: ExampleCloud) -> None:
        self._cloud = cloud

    async def list(self) -> Sequence[Route]:
        return list(self._cloud.table)

    async def create(self, route: Route, node: Object) -> None:
        self._cloud.table.add(route)

    async def delete(self, route: Route) -> None:
        self._cloud.table.remove(route)
