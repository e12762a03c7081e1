"""A pod beside what runs of it: the one picture that plan and status are made from. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

import orjson

from meshkube.api import meta
from meshkube.api.types import Object
from meshkube.node.refusals import Ending
from meshkube.node.resizing import Waiting
from meshkube.node.runtime import SANDBOX, Record

Role = Literal["init", "sidecar", "app", "ephemeral"]
RestartPolicy = Literal["Always", "OnFailure", "Never"]


@dataclass(frozen=True, slots=True)
class ProbeView:
    """What probes have found about one running container."""

    started: bool = True
    """The startup probe has passed, or there is none."""
    ready: bool = True
    failed: str = ""
    """Why it must be killed: the message of a failed liveness or startup probe."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a container could not be started, and when to try again."""

    reason: str
    message: str
    retry_at: datetime
    delay: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """All the node knows about one pod beside the API's object."""

    records: tuple[Record, ...] = ()
    busy: frozenset[str] = frozenset()
    """Container names (or `SANDBOX`) with an operation under way."""
    troubles: Mapping[str, Trouble] = field(default_factory=dict)
    """By container name, or `SANDBOX`."""
    hooking: frozenset[str] = frozenset()
    """Ids of containers whose postStart hook is under way."""
    probes: Mapping[str, ProbeView] = field(default_factory=dict)
    """By container id; one not here has no probes."""
    now: datetime
    network: bool = True
    """False while the pods' network cannot be made yet."""
    ending: Ending | None = None
    """Why the node puts an end to the pod, where it does."""
    resize: Waiting | None = None
    """Why the pod does not get the resources it asks for, where it does not."""


@dataclass(frozen=True, slots=True)
class ContainerView:
    """One container of the spec: what runs or ran of it."""

    spec: Object
    role: Role
    current: Record | None
    """The newest attempt."""
    previous: Record | None
    last: Mapping[str, Any]
    """Its entry in the API's status, as last written; empty at first."""
    hooking: bool = False
    """Its postStart hook is under way."""

    @property
    def name(self) -> str:
        return str(self.spec["name"])

    @property
    def running(self) -> bool:
        """It runs, and its postStart hook has ended well."""
        return self.current is not None and self.current.state == "running" and not self.hooking

    @property
    def vanished(self) -> bool:
        """It was started once, and the runtime knows nothing of it any more."""
        return self.current is None and bool(self.last.get("containerID"))

    @property
    def next_attempt(self) -> int:
        if self.current is not None:
            return self.current.attempt + 1
        return int(self.last.get("restartCount") or 0) + 1 if self.vanished else 0

    @property
    def exit_code(self) -> int | None:
        """Of its end; None where it has not ended (or never ran)."""
        if self.vanished:
            return 137
        if self.current is None or self.current.state != "exited":
            return None
        # One that could not be started has failed, whatever the runtime noted.
        return self.current.exit_code or (128 if self.current.error else 0)


@dataclass(frozen=True, slots=True)
class PodView:
    """The pod with each container's view, in the order of the spec."""

    pod: Object
    seen: Seen
    sandbox: Record | None
    """The newest one."""
    init: tuple[ContainerView, ...]
    apps: tuple[ContainerView, ...]
    ephemeral: tuple[ContainerView, ...] = ()
    """What somebody looks into the running pod with: started once, and no part of its life."""

    @property
    def containers(self) -> tuple[ContainerView, ...]:
        return self.init + self.apps

    @property
    def restart_policy(self) -> RestartPolicy:
        return self.pod["spec"].get("restartPolicy") or "Always"

    @property
    def sandbox_running(self) -> bool:
        return self.sandbox is not None and self.sandbox.state == "running"

    @property
    def phase(self) -> str:
        return str((self.pod.get("status") or {}).get("phase") or "Pending")

    def in_sandbox(self, container: ContainerView) -> bool:
        """Its newest attempt belongs to the sandbox that runs now."""
        record = container.current
        return (
            record is not None and self.sandbox is not None and record.sandbox_id == self.sandbox.id
        )

    def restarts(self, container: ContainerView) -> bool:
        """Whether it is started again after the end it has come to."""
        if container.role == "sidecar":
            return True
        code = container.exit_code
        if code is None:
            return True
        if container.role == "ephemeral":
            return False
        if container.role == "init":
            return code != 0 and self.restart_policy != "Never"
        return self.restart_policy == "Always" or (self.restart_policy == "OnFailure" and code != 0)

    @property
    def init_failed(self) -> bool:
        return any(
            container.role == "init" and bool(container.exit_code) and not self.restarts(container)
            for container in self.init
        )

    @property
    def deadline(self) -> datetime | None:
        """When `activeDeadlineSeconds` ends the pod."""
        seconds = self.pod["spec"].get("activeDeadlineSeconds")
        began = (self.pod.get("status") or {}).get("startTime")
        if seconds is None or not began:
            return None
        return meta.parse_timestamp(began) + timedelta(seconds=int(seconds))

    @property
    def overdue(self) -> bool:
        deadline = self.deadline
        return deadline is not None and deadline <= self.seen.now

    @property
    def finished(self) -> Literal["", "Succeeded", "Failed"]:
        """The phase the pod has come to its end with, were nothing more to run."""
        if self.phase in ("Succeeded", "Failed"):
            return self.phase  # type: ignore[return-value]
        if self.init_failed or self.overdue or self.seen.ending:
            return "Failed"
        codes = [c.exit_code for c in self.apps if not self.restarts(c)]
        if len(codes) < len(self.apps) or not codes:
            return ""
        return "Failed" if any(codes) else "Succeeded"

    @property
    def initialized(self) -> bool:
        """Every init container has done its work, in the sandbox that runs now."""
        if any(self.in_sandbox(app) for app in self.apps):
            return True
        return all(self.init_done(container) for container in self.init)

    def init_done(self, container: ContainerView) -> bool:
        if container.role == "sidecar":
            return container.running and self.probe(container).started
        if container.exit_code != 0 or container.vanished:
            return False
        return self.in_sandbox(container) or self.restart_policy == "Never"

    def probe(self, container: ContainerView) -> ProbeView:
        if container.current is None:
            return ProbeView(started=False, ready=False)
        return self.seen.probes.get(container.current.id, ProbeView())


def look(pod: Object, seen: Seen) -> PodView:
    """The picture of `pod` beside what was `seen`."""
    by_name: dict[str, list[Record]] = {}
    for record in sorted(seen.records, key=lambda record: (record.attempt, record.created)):
        by_name.setdefault(record.name, []).append(record)
    sandboxes = by_name.get(SANDBOX, [])
    spec, status = pod["spec"], pod.get("status") or {}

    def views(field: str, statuses: str) -> tuple[ContainerView, ...]:
        last = {entry["name"]: entry for entry in status.get(statuses) or ()}
        found: list[ContainerView] = []
        for container in spec.get(field) or ():
            records = by_name.get(container["name"])
            current = _nth(records, 1)
            hooking = current is not None and current.id in seen.hooking
            before = last.get(container["name"], {})
            role = _role(field, container)
            found.append(ContainerView(container, role, current, _nth(records, 2), before, hooking))
        return tuple(found)

    return PodView(
        pod,
        seen,
        sandboxes[-1] if sandboxes else None,
        views("initContainers", "initContainerStatuses"),
        views("containers", "containerStatuses"),
        views("ephemeralContainers", "ephemeralContainerStatuses"),
    )


def all_containers(pod: Object) -> list[Object]:
    """Those of every kind, in the order in which they are started."""
    spec = pod["spec"]
    fields = ("initContainers", "containers", "ephemeralContainers")
    return [container for field in fields for container in spec.get(field) or ()]


def _nth(records: Sequence[Record] | None, from_end: int) -> Record | None:
    return records[-from_end] if records and len(records) >= from_end else None


def _role(field: str, container: Object) -> Role:
    if field == "containers":
        return "app"
    if field == "ephemeralContainers":
        return "ephemeral"
    return "sidecar" if container.get("restartPolicy") == "Always" else "init"


def spec_hash(container: Object) -> str:
    """Changes where a running container must be replaced: of what may be edited in a pod's spec,
    only the image."""
    return hashlib.sha256(
        orjson.dumps([container["name"], container.get("image", "")])
    ).hexdigest()[:16]


def is_host_network(pod: Object) -> bool:
    return bool(pod["spec"].get("hostNetwork"))


def deletion_grace(pod: Object) -> int:
    """Seconds that the pod's containers have, at least 1, once it is to end."""
    grace = meta.metadata(pod).get("deletionGracePeriodSeconds")
    if grace is None:
        grace = pod["spec"].get("terminationGracePeriodSeconds", 30)
    return max(1, int(grace))
