"""The status a node writes, from what runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from meshkube.api.types import Object
from meshkube.node.pace import Pace
from meshkube.node.refusals import Ending
from meshkube.node.runtime import Record
from meshkube.node.status import Facts, only_progress, pod_status, status_patch
from meshkube.node.view import ProbeView, Seen, Trouble, look
from tests.node.test_plan import BOX, NOW, pod, record

FACTS = Facts(host_ip="192.0.2.1")


def written(obj: Object, *records: Record, **seen: Any) -> Object:
    return pod_status(look(obj, Seen(records=records, now=NOW, **seen)), FACTS)


def conditions(status: Object) -> dict[str, str]:
    return {entry["type"]: entry["status"] for entry in status["conditions"]}


def test_a_new_pod_is_pending() -> None:
    status = written(pod())
    assert status["phase"] == "Pending"
    [entry] = status["containerStatuses"]
    assert entry["state"] == {"waiting": {"reason": "ContainerCreating"}}
    assert entry["restartCount"] == 0
    assert conditions(status) == {
        "PodReadyToStartContainers": "False",
        "Initialized": "True",
        "Ready": "False",
        "ContainersReady": "False",
        "PodScheduled": "True",
    }
    assert "podIP" not in status
    assert status["startTime"] == "2026-01-01T12:00:00Z"


def test_a_running_pod_is_ready_once_its_probes_say_so() -> None:
    status = written(pod(), BOX, record())
    assert status["phase"] == "Running"
    assert (status["podIP"], status["hostIP"]) == ("10.0.0.2", "192.0.2.1")
    assert conditions(status)["Ready"] == "True"
    probes = {"c-0": ProbeView(started=True, ready=False)}
    status = written(pod(), BOX, record(), probes=probes)
    ready = next(c for c in status["conditions"] if c["type"] == "Ready")
    assert ready["reason"] == "ContainersNotReady"
    assert ready["message"] == "containers with unready status: [c]"
    assert status["containerStatuses"][0]["started"] is True


def test_a_pod_that_is_turned_away_says_nothing_of_containers() -> None:
    status = written(pod(), ending=Ending("OutOfcpu", "Pod was rejected: no"))
    assert (status["phase"], status["reason"]) == ("Failed", "OutOfcpu")
    assert status["containerStatuses"] == []
    assert conditions(status) == {"PodScheduled": "True"}


def test_a_container_does_not_run_before_its_hook_has_ended() -> None:
    status = written(pod(), BOX, record(), hooking=frozenset({"c-0"}))
    [entry] = status["containerStatuses"]
    assert entry["state"] == {"waiting": {"reason": "ContainerCreating"}}
    assert (entry["ready"], entry["started"]) == (False, False)
    assert status["phase"] == "Pending"


def test_an_unfinished_init_container_keeps_the_pod_pending() -> None:
    status = written(pod("c", init=({"name": "i"},)), BOX, record("i"))
    assert status["phase"] == "Pending"
    assert status["containerStatuses"][0]["state"] == {"waiting": {"reason": "PodInitializing"}}
    initialized = next(c for c in status["conditions"] if c["type"] == "Initialized")
    assert initialized["message"] == "containers with incomplete status: [i]"


def test_how_containers_end() -> None:
    never = pod(restartPolicy="Never")
    reasons = {}
    for name, ended in {
        "done": record("c", "exited", exit_code=0),
        "bad": record("c", "exited", exit_code=2),
        "oom": record("c", "exited", exit_code=137, oom_killed=True),
        "cannot": record("c", "exited", exit_code=0, error="no such file"),
    }.items():
        status = written(never, BOX, ended)
        end = status["containerStatuses"][0]["state"]["terminated"]
        reasons[name] = (status["phase"], end["reason"], end["exitCode"])
    assert reasons == {
        "done": ("Succeeded", "Completed", 0),
        "bad": ("Failed", "Error", 2),
        "oom": ("Failed", "OOMKilled", 137),
        "cannot": ("Failed", "ContainerCannotRun", 128),
    }


def test_a_restart_counts_from_its_start_on() -> None:
    ended = record("c", "exited", attempt=1, exit_code=1)
    for state, count in (("created", 1), ("running", 2)):
        [entry] = written(pod(), BOX, ended, record("c", state, attempt=2))["containerStatuses"]
        assert (entry["restartCount"], entry["lastState"]["terminated"]["exitCode"]) == (count, 1)


def test_back_off_shows_as_crash_loop_with_the_end_before() -> None:
    ended = record("c", "exited", attempt=4, exit_code=1, backoff=160.0)
    status = written(pod(), BOX, ended)
    [entry] = status["containerStatuses"]
    assert entry["state"]["waiting"] == {
        "reason": "CrashLoopBackOff",
        "message": "back-off 2m40s restarting failed container=c pod=p_ns(u1)",
    }
    assert entry["lastState"]["terminated"]["exitCode"] == 1
    assert entry["restartCount"] == 4
    assert status["phase"] == "Running"


def test_trouble_shows_as_the_reason_to_wait() -> None:
    trouble = {"c": Trouble("ImagePullBackOff", "no such image", NOW, 10)}
    [entry] = written(pod(), BOX, troubles=trouble)["containerStatuses"]
    assert entry["state"]["waiting"] == {"reason": "ImagePullBackOff", "message": "no such image"}


def test_counts_and_times_carry_on_from_the_last_status() -> None:
    old = written(pod(), BOX, record())
    for condition in old["conditions"]:
        condition["lastTransitionTime"] = "2020-01-01T00:00:00Z"
    old["startTime"] = "2020-01-01T00:00:00Z"
    again = written(pod(status=old), BOX, record())
    assert again["startTime"] == "2020-01-01T00:00:00Z"
    assert {c["lastTransitionTime"] for c in again["conditions"]} == {"2020-01-01T00:00:00Z"}
    assert status_patch(old, again) == {}
    down = written(pod(status=old), BOX, probes={}, troubles={})
    assert conditions(down)["Ready"] == "False"
    assert down["containerStatuses"][0]["restartCount"] == 0


def test_a_container_nobody_can_find_has_ended() -> None:
    last = {"name": "c", "containerID": "docker://x", "restartCount": 1, "state": {"running": {}}}
    status = written(pod(restartPolicy="Never", status={"phase": "Running",
                                                        "containerStatuses": [last]}))  # fmt: skip
    [entry] = status["containerStatuses"]
    assert entry["state"]["terminated"]["reason"] == "ContainerStatusUnknown"
    assert entry["state"]["terminated"]["exitCode"] == 137
    assert status["phase"] == "Failed"


def test_a_deleted_pod_ends_as_its_containers_did() -> None:
    obj = pod("c", deleted=True, status={"phase": "Running", "podIP": "10.0.0.2"})
    assert written(obj, BOX, record())["phase"] == "Running"
    ended = written(obj, replace(BOX, state="exited", address=""),
                    record("c", "exited", exit_code=143))  # fmt: skip
    assert ended["phase"] == "Failed"
    assert ended["podIP"] == "10.0.0.2"
    assert written(obj, BOX, record("c", "exited", exit_code=0))["phase"] == "Succeeded"


def test_a_deleted_pod_that_never_ran_has_failed_in_the_end() -> None:
    obj = pod("c", deleted=True, restartPolicy="Never", status={"phase": "Pending"})
    assert written(obj, BOX)["phase"] == "Pending"
    assert written(obj, busy=frozenset({"c"}))["phase"] == "Pending"
    assert written(obj, replace(BOX, state="exited", address=""))["phase"] == "Failed"
    assert written(obj)["phase"] == "Failed"


def test_a_patch_names_only_what_changed_and_clears_old_reasons() -> None:
    waiting = written(pod(), BOX)
    ready = written(pod(status=waiting), BOX, record())
    patch = status_patch(waiting, ready)
    assert set(patch) == {"phase", "containerStatuses", "conditions"}
    changed = {c["type"]: c for c in patch["conditions"]}
    assert set(changed) == {"Ready", "ContainersReady"}
    assert changed["Ready"]["reason"] is None


def test_an_overdue_pod_has_failed_and_says_why() -> None:
    old = {"phase": "Running", "startTime": "2026-01-01T11:00:00Z"}
    obj = pod(status=old, activeDeadlineSeconds=60)
    assert written(obj, BOX, record())["phase"] == "Running"
    status = written(obj, BOX, record("c", "exited", exit_code=143))
    assert (status["phase"], status["reason"]) == ("Failed", "DeadlineExceeded")


def test_messages_of_the_termination_log() -> None:
    facts = Facts(host_ip="192.0.2.1", messages={"c-0": "bye"})
    ended = record("c", "exited", exit_code=0)
    view = look(pod(restartPolicy="Never"), Seen(records=(BOX, ended), now=NOW))
    [entry] = pod_status(view, facts)["containerStatuses"]
    assert entry["state"]["terminated"]["message"] == "bye"


def test_an_ephemeral_container_is_told_and_waited_for_by_nobody() -> None:
    debugged = pod(ephemeralContainers=[{"name": "debug", "image": "i"}])
    status = written(debugged, BOX, record())
    [entry] = status["ephemeralContainerStatuses"]
    assert entry["state"] == {"waiting": {"reason": "ContainerCreating"}}
    assert conditions(status)["Ready"] == "True"
    status = written(debugged, BOX, record(), record("debug", "exited", exit_code=3))
    [entry] = status["ephemeralContainerStatuses"]
    assert entry["state"]["terminated"]["exitCode"] == 3
    assert (status["phase"], conditions(status)["Ready"]) == ("Running", "True")


def test_that_a_pod_is_on_its_way_is_no_news() -> None:
    start, on_its_way = written(pod()), written(pod(), BOX)
    assert only_progress({"phase": "Pending"}, start)
    assert only_progress(start, on_its_way)
    assert not only_progress(on_its_way, written(pod(), BOX, record()))
    assert not only_progress({}, written(pod("c", init=({"name": "i"},)), BOX, record("i")))
    stuck = {"c": Trouble("ErrImagePull", "no such image", NOW, 10)}
    assert not only_progress(start, written(pod(), BOX, troubles=stuck))
    assert not only_progress(written(pod(), BOX, troubles=stuck), start)


def test_progress_waits_longer_where_writes_take_long() -> None:
    pace = Pace()
    assert pace.patience == 0.3
    for _ in range(30):
        pace.took(0.5)
    assert 2 < pace.patience < 2.6
    for _ in range(30):
        pace.took(60)
    assert pace.patience == 5


def test_a_host_of_both_families_is_shown_by_both_addresses() -> None:
    facts = Facts(host_ip="192.0.2.1", second_ips=("2001:db8::1",))
    both = [{"ip": "192.0.2.1"}, {"ip": "2001:db8::1"}]
    for spec, pod_ips in (({}, [{"ip": "10.0.0.2"}]), ({"hostNetwork": True}, both)):
        seen = Seen(records=(BOX,), now=NOW)
        status = pod_status(look(pod(**spec), seen), facts)
        assert (status["hostIPs"], status["podIPs"]) == (both, pod_ips)
