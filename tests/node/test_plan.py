"""The plan as tables: a pod, what runs of it, what to do next."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshkube.api.types import Object
from meshkube.node.plan import (
    CreateSandbox,
    Finish,
    KillContainer,
    Plan,
    Remove,
    StartContainer,
    StopSandbox,
    plan,
    restart_backoff,
)
from meshkube.node.runtime import SANDBOX, PodRef, Record
from meshkube.node.view import ProbeView, Seen, Trouble, look, spec_hash

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
REF = PodRef("ns", "p", "u1")


def pod(*names: str, init: tuple[Object, ...] = (), **spec: Any) -> Object:
    metadata: Object = {"name": "p", "namespace": "ns", "uid": "u1"}
    if spec.pop("deleted", False):
        metadata |= {"deletionTimestamp": "2026-01-01T12:00:00Z", "deletionGracePeriodSeconds": 5}
    status = spec.pop("status", {})
    containers = [{"name": name, "image": "i"} for name in names or ("c",)]
    spec = {"containers": containers, "initContainers": list(init), **spec}
    return {"metadata": metadata, "spec": spec, "status": status}


def record(name: str = "c", state: str = "running", attempt: int = 0, **more: Any) -> Record:
    ago = more.pop("ran", 60.0)
    ended = NOW - timedelta(seconds=more.pop("ended", 1.0))
    started = (ended if state == "exited" else NOW) - timedelta(seconds=ago)
    values: dict[str, Any] = {
        "id": f"{name}-{attempt}",
        "pod": REF,
        "name": name,
        "attempt": attempt,
        "state": state,
        "created": started,
        "started": None if state == "created" else started,
        "finished": ended if state == "exited" else None,
        "sandbox_id": "" if name == SANDBOX else f"{SANDBOX}-0",
    }
    return Record(**(values | more))


BOX = record(SANDBOX, address="10.0.0.2")


def planned(obj: Object, *records: Record, **seen: Any) -> Plan:
    return plan(look(obj, Seen(records=records, now=NOW, **seen)))


def starts(found: Plan) -> list[str]:
    return [action.name for action in found.actions if isinstance(action, StartContainer)]


def test_a_new_pod_gets_its_sandbox_first() -> None:
    assert planned(pod()).actions == (CreateSandbox(0),)


def test_no_sandbox_without_a_network_but_for_host_network_pods() -> None:
    assert planned(pod(), network=False) == Plan()
    assert planned(pod(hostNetwork=True), network=False).actions == (CreateSandbox(0),)


def test_all_app_containers_start_together() -> None:
    assert starts(planned(pod("a", "b"), BOX)) == ["a", "b"]


def test_what_is_under_way_is_left_alone() -> None:
    assert starts(planned(pod("a", "b"), BOX, busy=frozenset({"a"}))) == ["b"]
    assert planned(pod(), busy=frozenset({SANDBOX})) == Plan()


def test_nothing_to_do_for_a_pod_that_runs() -> None:
    assert planned(pod(), BOX, record()) == Plan()


def test_init_containers_run_one_after_the_other() -> None:
    init: tuple[Object, ...] = ({"name": "i1"}, {"name": "i2"})
    obj = pod("c", init=init)
    done = record("i1", "exited", exit_code=0)
    assert starts(planned(obj, BOX)) == ["i1"]
    assert planned(obj, BOX, record("i1")) == Plan()
    assert starts(planned(obj, BOX, done)) == ["i2"]
    both = (done, record("i2", "exited", exit_code=0))
    assert starts(planned(obj, BOX, *both)) == ["c"]


def test_a_sidecar_starts_in_its_place_and_holds_up_the_rest_until_it_has_started() -> None:
    init: tuple[Object, ...] = ({"name": "s", "restartPolicy": "Always"}, {"name": "i"})
    obj = pod("c", init=init)
    assert starts(planned(obj, BOX)) == ["s"]
    side = record("s")
    waits = {side.id: ProbeView(started=False)}
    assert planned(obj, BOX, side, probes=waits) == Plan()
    assert starts(planned(obj, BOX, side)) == ["i"]
    ended = record("s", "exited", exit_code=0)
    ready = record("i", "exited", exit_code=0)
    assert starts(planned(obj, BOX, ended, ready, record("c"))) == ["s"]


@pytest.mark.parametrize(
    ("policy", "code", "restarts"),
    [
        ("Always", 0, True),
        ("Always", 1, True),
        ("OnFailure", 0, False),
        ("OnFailure", 1, True),
        ("Never", 0, False),
        ("Never", 1, False),
    ],
)
def test_the_restart_policy_decides(policy: str, code: int, restarts: bool) -> None:
    ended = record("a", "exited", exit_code=code)
    found = planned(pod("a", "b", restartPolicy=policy), BOX, ended, record("b"))
    assert starts(found) == (["a"] if restarts else [])


def test_a_pod_that_has_come_to_its_end_lets_go_of_its_sandbox() -> None:
    ended = record("c", "exited", exit_code=1)
    assert planned(pod(restartPolicy="Never"), BOX, ended).actions == (StopSandbox(BOX),)
    off = replace(BOX, state="exited")
    assert planned(pod(restartPolicy="Never"), off, ended) == Plan()


def test_a_pod_with_a_final_phase_never_runs_again() -> None:
    assert planned(pod(status={"phase": "Failed"})) == Plan()
    assert planned(pod(status={"phase": "Succeeded"})) == Plan()


def test_a_pod_that_ran_and_vanished_does_not_run_twice() -> None:
    last = {"name": "c", "containerID": "docker://x", "restartCount": 2}
    status = {"phase": "Running", "containerStatuses": [last]}
    assert planned(pod(status=status, restartPolicy="Never")) == Plan()
    assert planned(pod(status=status)).actions == (CreateSandbox(0),)
    [again] = planned(pod(status=status), BOX).actions
    assert isinstance(again, StartContainer)
    assert again.attempt == 3


def test_a_deadline_ends_the_pod() -> None:
    status = {"phase": "Running", "startTime": "2026-01-01T11:59:00Z"}
    due = NOW + timedelta(seconds=30)
    assert planned(pod(status=status, activeDeadlineSeconds=90), BOX, record()).wake_at == due
    [kill] = planned(pod(status=status, activeDeadlineSeconds=60), BOX, record()).actions
    assert isinstance(kill, KillContainer)


def test_a_dead_sandbox_takes_its_containers_with_it() -> None:
    dead, running = replace(BOX, state="exited"), record()
    [kill] = planned(pod(), dead, running).actions
    assert isinstance(kill, KillContainer)
    assert kill.at_once
    ended = record("c", "exited", exit_code=137)
    assert planned(pod(), dead, ended).actions == (CreateSandbox(1),)


def test_after_a_new_sandbox_init_containers_run_again() -> None:
    fresh = replace(BOX, id="POD-1", attempt=1)
    init = record("i", "exited", exit_code=0)
    app = record("c", "exited", exit_code=137)
    found = planned(pod("c", init=({"name": "i"},)), fresh, init, app)
    assert starts(found) == ["i"]


def test_back_off_is_none_then_doubles_and_is_forgotten_after_ten_minutes() -> None:
    waits, ended = [], record("c", "exited", exit_code=1)
    for _ in range(8):
        wait, following = restart_backoff(ended)
        waits.append(wait)
        ended = replace(ended, backoff=following)
    assert waits == [0, 10, 20, 40, 80, 160, 300, 300]
    assert restart_backoff(record("c", "exited", ran=601.0, backoff=300.0)) == (0, 10)


def test_a_container_in_back_off_waits_for_its_time() -> None:
    ended = record("c", "exited", exit_code=1, ended=3.0, backoff=10.0)
    found = planned(pod(), BOX, ended)
    assert found == Plan(wake_at=NOW + timedelta(seconds=7))
    ended = replace(ended, finished=NOW - timedelta(seconds=10))
    assert planned(pod(), BOX, ended).actions == (StartContainer("c", 1, 20.0),)


def test_another_image_starts_at_once_and_with_a_clean_record() -> None:
    ended = record("c", "exited", exit_code=1, ended=3.0, backoff=160.0)
    other = replace(ended, spec_hash="other")
    assert planned(pod(), BOX, other).actions == (StartContainer("c", 1, 0.0),)
    same = replace(ended, spec_hash=spec_hash({"name": "c", "image": "i"}))
    assert planned(pod(), BOX, same).wake_at == NOW + timedelta(seconds=157)


def test_trouble_is_waited_for() -> None:
    later = NOW + timedelta(seconds=4)
    trouble = {"c": Trouble("ErrImagePull", "no", later, 10)}
    assert planned(pod(), BOX, troubles=trouble) == Plan(wake_at=later)


def test_a_failed_probe_or_a_new_image_ends_the_container() -> None:
    running = record()
    [kill] = planned(
        pod(), BOX, running, probes={"c-0": ProbeView(failed="liveness probe")}
    ).actions
    assert isinstance(kill, KillContainer)
    assert kill.reason == "Container c failed liveness probe, will be restarted"
    same = replace(running, spec_hash=spec_hash({"name": "c", "image": "i"}))
    assert planned(pod(), BOX, same) == Plan()
    other = replace(running, spec_hash="other")
    [kill] = planned(pod(), BOX, other).actions
    assert isinstance(kill, KillContainer)
    assert kill.reason == "Container c definition changed, will be restarted"


def test_a_deleted_pod_ends_its_containers_then_itself() -> None:
    obj, running = pod("c", deleted=True), record()
    [kill] = planned(obj, BOX, running).actions
    assert isinstance(kill, KillContainer)
    assert kill.reason == "Stopping container c"
    assert planned(obj, BOX, running, busy=frozenset({"c"})) == Plan()
    assert planned(obj, BOX, record("c", "exited")).actions == (Finish(),)
    assert planned(obj).actions == (Finish(),)


def test_sidecars_end_last_in_reverse_order() -> None:
    init: tuple[Object, ...] = (
        {"name": "s1", "restartPolicy": "Always"},
        {"name": "s2", "restartPolicy": "Always"},
    )
    obj = pod("c", init=init, deleted=True)
    order = []
    records = [BOX, record("s1"), record("s2"), record("c")]
    while True:
        kills = [a for a in planned(obj, *records).actions if isinstance(a, KillContainer)]
        if not kills:
            break
        order.append([kill.record.name for kill in kills])
        gone = {kill.record.id for kill in kills}
        records = [replace(r, state="exited") if r.id in gone else r for r in records]
    assert order == [["c"], ["s2"], ["s1"]]


def test_old_attempts_and_half_made_containers_are_cleared_away() -> None:
    records = [record("c", "exited", attempt=n, exit_code=1) for n in range(3)]
    found = planned(pod(), BOX, *records, record("c", attempt=3))
    assert [a.record.attempt for a in found.actions if isinstance(a, Remove)] == [1, 0]
    made = record("c", "created")
    assert planned(pod(), BOX, made).actions == (Remove(made),)


records_drawn = st.lists(
    st.builds(
        record,
        name=st.sampled_from([SANDBOX, "i", "a", "b"]),
        state=st.sampled_from(["created", "running", "exited"]),
        attempt=st.integers(0, 3),
        exit_code=st.sampled_from([0, 1, 137]),
        backoff=st.sampled_from([0.0, 10.0, 300.0]),
        ended=st.floats(0, 400),
    ),
    max_size=6,
    unique_by=lambda r: r.id,
)


@given(
    records=records_drawn,
    policy=st.sampled_from(["Always", "OnFailure", "Never"]),
    deleted=st.booleans(),
    busy=st.frozensets(st.sampled_from([SANDBOX, "i", "a", "b"])),
)
def test_no_plan_ever_touches_what_is_busy_or_starts_what_runs(
    records: list[Record], policy: str, deleted: bool, busy: frozenset[str]
) -> None:
    obj = pod("a", "b", init=({"name": "i"},), restartPolicy=policy, deleted=deleted)
    found = planned(obj, *records, busy=busy)
    running = {r.name for r in records if r.state == "running"}
    newest = {
        name: max((r for r in records if r.name == name), key=lambda r: (r.attempt, r.created))
        for name in {r.name for r in records}
    }
    for action in found.actions:
        match action:
            case StartContainer(name=name):
                assert name not in busy
                assert not (name in newest and newest[name].state == "running")
                assert not deleted
                assert SANDBOX in running
            case KillContainer(record=target) | Remove(record=target):
                assert target.name not in busy
            case CreateSandbox():
                assert SANDBOX not in busy
                assert not deleted
            case Finish():
                assert deleted
                assert not (running - {SANDBOX})
    starting = [a.name for a in found.actions if isinstance(a, StartContainer)]
    assert len(starting) == len(set(starting))


DEBUGGER = {"name": "debug", "image": "i", "targetContainerName": "c"}


def ephemeral(*records: Record, **spec: Any) -> Plan:
    return plan(look(pod(ephemeralContainers=[DEBUGGER], **spec), Seen(records=records, now=NOW)))


def test_an_ephemeral_container_is_started_beside_whatever_runs() -> None:
    assert ephemeral(BOX, record()).actions == (StartContainer("debug", 0, 0.0),)
    failing = [{"name": "first", "image": "i"}]
    broken = record("first", "exited", exit_code=1, backoff=300.0)
    assert ephemeral(BOX, broken, init=tuple(failing)).actions == (StartContainer("debug", 0, 0.0),)


@pytest.mark.parametrize("code", [0, 1])
def test_an_ephemeral_container_runs_once(code: int) -> None:
    ended = record("debug", "exited", exit_code=code)
    assert ephemeral(BOX, record(), ended).actions == ()
    status = {"ephemeralContainerStatuses": [{"name": "debug", "containerID": "docker://x"}]}
    assert ephemeral(BOX, record(), status=status).actions == ()


def test_an_ephemeral_container_does_not_keep_a_pod_alive() -> None:
    found = ephemeral(BOX, record(state="exited"), record("debug"), restartPolicy="Never")
    assert [type(action) for action in found.actions] == [KillContainer]
