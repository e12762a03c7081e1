"""What every pod's worker shares: the node's own facts and services, in one place."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from meshkube.api.types import Object
from meshkube.client.base import Client
from meshkube.client.events import EventRecorder, Type
from meshkube.clock import Clock
from meshkube.node.handlers import Handlers
from meshkube.node.hosts import Resolver
from meshkube.node.images import Images
from meshkube.node.pace import Pace
from meshkube.node.pull_secrets import PullSecrets
from meshkube.node.records import Records
from meshkube.node.references import References
from meshkube.node.refusals import Ending
from meshkube.node.runtime import Runtime


@dataclass(frozen=True, slots=True, kw_only=True)
class Kit:
    """The node, as its pods see it."""

    client: Client
    runtime: Runtime
    clock: Clock
    recorder: EventRecorder
    records: Records
    references: References
    images: Images
    pull_secrets: PullSecrets
    handlers: Handlers
    services: Callable[[], Iterable[Object]]
    """Every Service of the cluster."""
    node_name: str
    node_ip: str
    pods_directory: Path
    seccomp_directory: Path
    cluster_dns: str
    cluster_domain: str
    host_resolver: Callable[[], Resolver]
    allocatable: dict[str, str]
    memory_capacity: int
    network_ready: Callable[[], bool]
    refused: Callable[[Object], Ending | None]
    """Why a new pod is not taken on now: the node runs short of something."""
    pods: Callable[[], Iterable[Object]]
    """Those of this node."""
    second_ips: tuple[str, ...] = ()
    """The node's addresses beside `node_ip`."""
    pace: Pace = dataclasses.field(default_factory=Pace)


def container_event(
    kit: Kit, pod: Object, name: str, type: Type, reason: str, message: str
) -> None:
    """Records an Event about one container of a pod."""
    part = "containers"
    for field in ("initContainers", "ephemeralContainers"):
        if any(container["name"] == name for container in pod["spec"].get(field) or ()):
            part = field
    reference = {"apiVersion": "v1", "kind": "Pod", **pod}
    kit.recorder.event(reference, type, reason, message, field_path=f"spec.{part}{{{name}}}")


def pod_event(kit: Kit, pod: Object, type: Type, reason: str, message: str) -> None:
    """Records an Event about a pod."""
    kit.recorder.event({"apiVersion": "v1", "kind": "Pod", **pod}, type, reason, message)
