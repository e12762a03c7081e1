"""When a container that could not be started is tried again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from meshkube.node.runtime import SANDBOX
from meshkube.node.troubles import Troubles

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def seconds(troubles: Troubles, name: str) -> float:
    return (troubles.by_name[name].retry_at - NOW).total_seconds()


def test_pulls_wait_twice_as_long_each_time_up_to_five_minutes() -> None:
    troubles, waits = Troubles(), []
    for _ in range(7):
        troubles.note("c", "ErrImagePull", "no", NOW)
        waits.append(seconds(troubles, "c"))
        troubles.age(NOW + timedelta(seconds=5), (), {})
    assert waits == [10, 20, 40, 80, 160, 300, 300]


def test_a_failed_hook_shows_for_two_seconds_and_then_its_record_says_when() -> None:
    troubles = Troubles()
    troubles.note("c", "PostStartHookError", "no", NOW)
    assert seconds(troubles, "c") == 2
    troubles.age(NOW + timedelta(seconds=1), (), {})
    assert "c" in troubles.by_name
    troubles.age(NOW + timedelta(seconds=2), (), {})
    assert "c" not in troubles.by_name


def test_a_pull_after_another_kind_of_trouble_starts_anew() -> None:
    troubles = Troubles()
    troubles.note("c", "CreateContainerConfigError", "no", NOW)
    troubles.note("c", "ErrImagePull", "no", NOW)
    assert seconds(troubles, "c") == 10


def test_sandboxes_are_tried_again_soon() -> None:
    troubles, waits = Troubles(), []
    for _ in range(4):
        troubles.note(SANDBOX, "RuntimeFailure", "no", NOW)
        waits.append(seconds(troubles, SANDBOX))
    assert waits == [1, 2, 4, 8]


def test_a_failed_pull_turns_into_one_that_waits() -> None:
    troubles = Troubles()
    troubles.note("c", "ErrImagePull", "no route", NOW)
    assert troubles.age(NOW, (), {"c": "web:1"}) == ([], NOW + timedelta(seconds=2))
    later = NOW + timedelta(seconds=2)
    assert troubles.age(later, {"c"}, {"c": "web:1"}) == ([], None)
    assert troubles.age(later, (), {"c": "web:1"}) == (["c"], None)
    trouble = troubles.by_name["c"]
    assert trouble.reason == "ImagePullBackOff"
    assert trouble.message == 'Back-off pulling image "web:1": ErrImagePull: no route'
    assert troubles.age(later, (), {"c": "web:1"}) == ([], None)


def test_a_changed_object_makes_its_users_try_at_once() -> None:
    troubles = Troubles()
    troubles.note("a", "CreateContainerConfigError", "no", NOW)
    troubles.note("b", "ErrImagePull", "no", NOW)
    troubles.note(SANDBOX, "FailedMount", "no", NOW)
    troubles.hurry(NOW)
    assert [seconds(troubles, name) for name in ("a", "b", SANDBOX)] == [0, 10, 0]


def test_a_container_that_was_made_has_its_own_back_off() -> None:
    troubles = Troubles()
    troubles.note("c", "CreateContainerError", "no", NOW)
    troubles.note("c", "RunContainerError", "no", NOW)
    assert troubles.by_name == {}
