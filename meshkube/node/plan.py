"""What to do next for one pod. Pure: `plan(view)` compares what is wanted with what is.

The plan never waits and never remembers: called again with the same picture it says the same, and
an operation under way (`seen.busy`) is left alone. Rules as in the kubelet's documents: pod
lifecycle, init and sidecar containers, restart back-off.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from meshkube.api import meta
from meshkube.node.resizing import lacks, needs_restart
from meshkube.node.resources import limits_on
from meshkube.node.runtime import SANDBOX, Limits, Record
from meshkube.node.view import ContainerView, PodView, is_host_network, spec_hash

FIRST_BACKOFF = 10.0
LONGEST_BACKOFF = 300.0
# A container that ran this long starts its next attempts as if it were new.
STEADY_AFTER = 600.0
# Ended attempts kept beside the newest one, for `kubectl logs --previous`.
KEPT = 1


@dataclass(frozen=True, slots=True)
class CreateSandbox:
    attempt: int


@dataclass(frozen=True, slots=True)
class StartContainer:
    name: str
    attempt: int
    backoff: float
    """Seconds to wait before the attempt after this one."""


@dataclass(frozen=True, slots=True)
class KillContainer:
    record: Record
    reason: str
    """For the Event; empty: say nothing of it."""
    at_once: bool = False


@dataclass(frozen=True, slots=True)
class Resize:
    """Change what a running container may use."""

    record: Record
    limits: Limits


@dataclass(frozen=True, slots=True)
class StopSandbox:
    record: Record


@dataclass(frozen=True, slots=True)
class Remove:
    record: Record


@dataclass(frozen=True, slots=True)
class Finish:
    """Nothing of the deleted pod runs any more: say so for the last time, and forget it."""


Action = CreateSandbox | StartContainer | KillContainer | Resize | StopSandbox | Remove | Finish


@dataclass(frozen=True, slots=True)
class Plan:
    actions: tuple[Action, ...] = ()
    wake_at: datetime | None = None
    """Look again then, though nothing may have changed."""


def plan(view: PodView) -> Plan:
    """The next steps; the ones for different containers can be done side by side."""
    if meta.deleting(view.pod):
        return _deleted(view)
    if view.finished:
        return _finished(view)
    if SANDBOX in view.seen.busy:
        return Plan()
    if not view.sandbox_running:
        return _join([Plan(wake_at=view.deadline), _without_sandbox(view)])
    until = Plan(wake_at=view.deadline)
    return _join([until, _old_records(view), _ephemeral(view), _init(view), _apps(view)])


def _join(plans: list[Plan]) -> Plan:
    times = [one.wake_at for one in plans if one.wake_at is not None]
    return Plan(
        tuple(action for one in plans for action in one.actions), min(times) if times else None
    )


def _free(view: PodView, record: Record) -> bool:
    return record.name not in view.seen.busy


def _deleted(view: PodView) -> Plan:
    running = [r for r in view.seen.records if r.state == "running" and r.name != SANDBOX]
    if running:
        return Plan(tuple(_kills(view, running, "Stopping container {name}")))
    if view.seen.busy:
        return Plan()
    if view.seen.records:
        # The last word on how each container ended must be said before they are removed.
        return Plan((Finish(),))
    return Plan((Finish(),))


def _kills(view: PodView, running: list[Record], reason: str) -> list[KillContainer]:
    """Sidecars end after the others, the last one first."""
    sidecars = [c.name for c in view.init if c.role == "sidecar"]
    others = [record for record in running if record.name not in sidecars]
    if not others:
        last = max(running, key=lambda record: sidecars.index(record.name))
        others = [last]
    return [
        KillContainer(record, reason.format(name=record.name))
        for record in others
        if _free(view, record)
    ]


def _finished(view: PodView) -> Plan:
    running = [r for r in view.seen.records if r.state == "running" and r.name != SANDBOX]
    if running:
        return Plan(tuple(_kills(view, running, "Stopping container {name}")))
    if view.sandbox_running and SANDBOX not in view.seen.busy and not view.seen.busy:
        assert view.sandbox is not None
        return Plan((StopSandbox(view.sandbox),))
    return Plan()


def _without_sandbox(view: PodView) -> Plan:
    """Containers of a dead sandbox share a network that nobody will see again: end them, and start
    anew. Sandboxes that ended before are cleared away then."""
    running = [r for r in view.seen.records if r.state == "running" and r.name != SANDBOX]
    if running:
        message = "Pod sandbox changed, it will be killed and re-created."
        return Plan(tuple(
            KillContainer(record, message, at_once=True)
            for record in running
            if _free(view, record)
        ))  # fmt: skip
    if view.seen.busy:
        return Plan()
    if not view.seen.network and not is_host_network(view.pod):
        return Plan()
    trouble = view.seen.troubles.get(SANDBOX)
    if trouble is not None and trouble.retry_at > view.seen.now:
        return Plan(wake_at=trouble.retry_at)
    attempt = view.sandbox.attempt + 1 if view.sandbox is not None else 0
    return Plan((CreateSandbox(attempt),))


def _ephemeral(view: PodView) -> Plan:
    """They wait for nothing: an init container that fails may be what is looked into."""
    return _join([_keep(view, container) for container in view.ephemeral])


def _init(view: PodView) -> Plan:
    plans: list[Plan] = []
    started = any(view.in_sandbox(app) for app in view.apps)
    for container in view.init:
        if container.role == "sidecar":
            plans.append(_keep(view, container))
        elif not started and not view.init_done(container):
            plans.append(_run_init(view, container))
        if not started and not view.init_done(container):
            break
    return _join(plans)


def _run_init(view: PodView, container: ContainerView) -> Plan:
    """An init container that ran to its end in an earlier sandbox runs again in this one."""
    if not container.running and not view.in_sandbox(container):
        return _start(view, container, fresh=True)
    return _keep(view, container)


def _apps(view: PodView) -> Plan:
    if not view.initialized:
        return Plan()
    return _join([_keep(view, app) for app in view.apps])


def _keep(view: PodView, container: ContainerView) -> Plan:
    """Keeps one container in the state its spec asks for."""
    if container.name in view.seen.busy:
        return Plan()
    record = container.current
    if record is not None and record.state == "running":
        return _check(view, container, record)
    if record is not None and record.state == "created":
        # An agent ended between making and starting it.
        return Plan((Remove(record),))
    if not view.restarts(container):
        return Plan()
    return _start(view, container, fresh=record is None)


def _check(view: PodView, container: ContainerView, record: Record) -> Plan:
    if _defined_anew(container, record):
        reason = f"Container {container.name} definition changed, will be restarted"
        return Plan((KillContainer(record, reason),))
    failed = view.probe(container).failed
    if failed:
        reason = f"Container {container.name} failed {failed}, will be restarted"
        return Plan((KillContainer(record, reason),))
    return _resize(view, container, record)


def _resize(view: PodView, container: ContainerView, record: Record) -> Plan:
    if container.role == "ephemeral" or not lacks(container.spec, record):
        return Plan()
    if needs_restart(container.spec, record):
        return Plan((KillContainer(record, f"Container {container.name} resize requires restart"),))
    trouble = view.seen.troubles.get(container.name)
    if trouble is not None and trouble.retry_at > view.seen.now:
        return Plan(wake_at=trouble.retry_at)
    return Plan((Resize(record, limits_on(container.spec)),))


def _start(view: PodView, container: ContainerView, *, fresh: bool) -> Plan:
    if container.name in view.seen.busy:
        return Plan()
    now = view.seen.now
    trouble = view.seen.troubles.get(container.name)
    if trouble is not None and trouble.retry_at > now:
        return Plan(wake_at=trouble.retry_at)
    record = container.current
    wait, following = (0.0, 0.0) if fresh or record is None else restart_backoff(record)
    if record is not None and _defined_anew(container, record):
        # What failed was another program: nothing is held against this one.
        wait, following = 0.0, 0.0
    elif record is not None and lacks(container.spec, record):
        wait, following = 0.0, record.backoff
    if record is not None and record.finished is not None and wait:
        due = record.finished + timedelta(seconds=wait)
        if due > now:
            return Plan(wake_at=due)
    return Plan((StartContainer(container.name, container.next_attempt, following),))


def _defined_anew(container: ContainerView, record: Record) -> bool:
    return bool(record.spec_hash) and record.spec_hash != spec_hash(container.spec)


def restart_backoff(record: Record) -> tuple[float, float]:
    """Seconds to wait after the end of `record`, and what its successor waits after its own: none
    after the first, then 10 s, doubled each time up to 300 s; forgotten after ten good minutes."""
    started = record.started or record.created
    if record.finished is not None and (record.finished - started).total_seconds() > STEADY_AFTER:
        return 0.0, FIRST_BACKOFF
    if not record.backoff:
        return 0.0, FIRST_BACKOFF
    return record.backoff, min(record.backoff * 2, LONGEST_BACKOFF)


def _old_records(view: PodView) -> Plan:
    """Clears away sandboxes that ended, and attempts older than the kept ones."""
    by_name: dict[str, list[Record]] = {}
    for record in view.seen.records:
        by_name.setdefault(record.name, []).append(record)
    old: list[Record] = []
    for name, records in by_name.items():
        keep = 1 if name == SANDBOX else 1 + KEPT
        records.sort(key=lambda record: (record.attempt, record.created), reverse=True)
        old += [r for r in records[keep:] if r.state != "running" and _free(view, r)]
    return Plan(tuple(Remove(record) for record in old))
