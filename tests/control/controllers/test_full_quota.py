"""What a full quota keeps from being made: its owners' Events and conditions say so, the log does
not cry, and all of it comes once there is room."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from meshkube.api import kinds, meta
from meshkube.api.kinds import Kind
from meshkube.api.types import Object
from meshkube.control import pods, queue
from meshkube.control.controllers import (
    cronjob,
    daemonset,
    deployment,
    job,
    replicaset,
    replicationcontroller,
    resource_quota,
    statefulset,
)
from tests.support import cluster as support
from tests.support.cluster import Cluster, cluster, node, template

CONTROLLERS = [
    cronjob.CONTROLLER,
    daemonset.CONTROLLER,
    deployment.CONTROLLER,
    job.CONTROLLER,
    replicaset.CONTROLLER,
    replicationcontroller.CONTROLLER,
    resource_quota.CONTROLLER,
    statefulset.CONTROLLER,
]


def owner(kind: Kind, name: str, **spec: Any) -> Object:
    return {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "metadata": {"name": name, "namespace": "default"},
        "spec": spec,
    }


def of_apps(kind: Kind, name: str, **spec: Any) -> Object:
    selector = {"matchLabels": {"app": name}}
    return owner(kind, name, selector=selector, template=template(name), **spec)


def quota(**hard: str) -> Object:
    named = {key.replace("__", "/").replace("_", "."): value for key, value in hard.items()}
    return owner(kinds.RESOURCE_QUOTA, "room", hard=named)


async def limited(c: Cluster, wanted: Object) -> None:
    """With the quota in force: what is not counted yet may not be used at all."""
    await c.create(wanted)
    names = set(wanted["spec"]["hard"])
    await c.until(
        lambda: (
            set((c.list(kinds.RESOURCE_QUOTA)[0].get("status") or {}).get("used") or {}) == names
        )
    )


def faults(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [str(vars(r)) for r in caplog.records if r.levelno >= logging.WARNING]


ONCE: Object = template("once")
ONCE["spec"]["restartPolicy"] = "Never"


async def test_each_owner_says_what_it_may_not_make(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="meshkube")
    async with cluster(tmp_path, CONTROLLERS, nodes=[node()]) as c:
        hard = {"pods": "0", "count__replicasets_apps": "1", "count__jobs_batch": "1"}
        await limited(c, quota(**hard))
        made = [
            of_apps(kinds.REPLICA_SET, "bare", replicas=2),
            of_apps(kinds.STATEFUL_SET, "db", serviceName="db"),
            of_apps(kinds.DAEMON_SET, "each"),
            owner(kinds.REPLICATION_CONTROLLER, "old", selector={"app": "o"},
                  template=template("o")),
            owner(kinds.JOB, "once", template=ONCE),
            owner(kinds.CRON_JOB, "often", schedule="* * * * *",
                  jobTemplate={"spec": {"template": ONCE}}),
            support.deployment(),
        ]  # fmt: skip
        for each in made:
            await c.create(each)
        behind = {"status": {"lastScheduleTime": "2026-01-01T00:00:00Z"}}
        often = {**await c.client.get(kinds.CRON_JOB, "often", "default"), **behind}
        await c.client.update(kinds.CRON_JOB, often, subresource="status")

        told: dict[str, Object] = {}

        async def say(reason: str, *names: str) -> None:
            while set(names) - told.keys():
                for event in await c.events_of(reason):
                    told[event["involvedObject"]["name"]] = event

        await say("FailedCreate", "bare", "db", "each", "old", "once", "often")
        await say("ReplicaSetCreateError", "web")
        assert {event["type"] for event in told.values()} == {"Warning"}
        for name, event in told.items():
            assert "is forbidden: exceeded quota: room, requested: " in event["message"], name
        for kind, name in ((kinds.REPLICA_SET, "bare"), (kinds.REPLICATION_CONTROLLER, "old")):
            found = await c.client.get(kind, name, "default")
            failure = pods.condition(found, "ReplicaFailure")
            assert failure is not None
            assert (failure["status"], failure["reason"]) == ("True", "FailedCreate")
        progress = pods.condition(c.list(kinds.DEPLOYMENT)[0], "Progressing")
        assert progress is not None
        assert (progress["status"], progress["reason"]) == ("False", "ReplicaSetCreateError")

        room = {"pods": "20", "count/replicasets.apps": "20", "count/jobs.batch": "20"}
        await c.change(kinds.RESOURCE_QUOTA, "room", {"spec": {"hard": room}})
        owners = {"bare": 2, "db": 1, "each": 1, "old": 1, "once": 1, "web": 3}

        def all_there() -> bool:
            names = [meta.name(pod) for pod in c.list(kinds.POD)]
            enough = all(
                sum(name.startswith(f"{owner}-") for name in names) == count
                for owner, count in owners.items()
            )
            return enough and len(c.list(kinds.JOB)) > 1

        await c.until(all_there, timeout=30)
    assert faults(caplog) == []
    refused = [r for r in caplog.records if r.message == "reconcile was refused"]
    assert {vars(r)["key"] for r in refused} >= {"default/bare", "default/web"}


async def test_a_stateful_set_that_may_not_grow_still_tells_of_the_pods_it_has(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    controllers = [statefulset.CONTROLLER, resource_quota.CONTROLLER]
    async with cluster(tmp_path, controllers, nodes=[node()], scheduler=True) as c:
        await limited(c, quota(pods="1"))
        await c.create(of_apps(kinds.STATEFUL_SET, "db", serviceName="db", replicas=2))

        def ready() -> int:
            status = c.list(kinds.STATEFUL_SET)[0].get("status") or {}
            return int(status.get("availableReplicas") or 0)

        await c.until(lambda: ready() == 1)
        assert await c.events_of("FailedCreate")
        await c.change(kinds.RESOURCE_QUOTA, "room", {"spec": {"hard": {"pods": "2"}}})
        await c.until(lambda: ready() == 2)
    assert faults(caplog) == []


async def test_room_wakes_who_was_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "FIRST_DELAY", 600.0)
    controllers = [
        replicaset.CONTROLLER, job.CONTROLLER, statefulset.CONTROLLER, resource_quota.CONTROLLER,
    ]  # fmt: skip
    async with cluster(tmp_path, controllers, nodes=[node()], scheduler=True) as c:
        await limited(c, quota(pods="0"))
        await c.create(of_apps(kinds.REPLICA_SET, "bare", replicas=1))
        await c.create(owner(kinds.JOB, "once", template=ONCE))
        await c.create(of_apps(kinds.STATEFUL_SET, "db", serviceName="db", replicas=1))
        while len(await c.events_of("FailedCreate")) < 3:
            pass
        await c.change(kinds.RESOURCE_QUOTA, "room", {"spec": {"hard": {"pods": "2"}}})
        await c.until(lambda: len(c.list(kinds.POD)) == 2, "two pods, the limit having risen")
        first = c.list(kinds.POD)[0]
        await c.client.delete(kinds.REPLICA_SET, "bare", "default")
        await c.client.delete(kinds.POD, meta.name(first), "default")
        await c.client.delete(kinds.RESOURCE_QUOTA, "room", "default")
        await c.until(lambda: len(c.list(kinds.POD)) >= 2, "the others, the quota having gone")
