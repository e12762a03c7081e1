import copy
from datetime import UTC, datetime, timedelta
from typing import Any

from meshkube.api import kinds
from meshkube.api.apply import record_update
from meshkube.api.apply.managers import ANCIENT, MOST_UPDATERS
from meshkube.api.schemas import schema_for

NOW = datetime(2026, 1, 10, 12, 0, 0, tzinfo=UTC)
POD = schema_for(kinds.POD)


def pod(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "p",
            "namespace": "shop",
            "uid": "u",
            "resourceVersion": "1",
            "creationTimestamp": "2026-01-10T12:00:00Z",
            "labels": {"app": "web"},
        },
        "spec": {"containers": [{"name": "c", "image": "x:1"}], **spec},
    }


def written(
    old: dict[str, Any] | None,
    new: dict[str, Any],
    manager: str,
    *,
    subresource: str = "",
    after: int = 0,
) -> dict[str, Any]:
    """`new` as it is stored."""
    result = copy.deepcopy(new)
    result["metadata"]["managedFields"] = record_update(
        old,
        new,
        manager,
        schema=POD,
        time=NOW + timedelta(seconds=after),
        subresource=subresource,
    )
    return result


def fields(obj: dict[str, Any], manager: str) -> Any:
    found = [one for one in obj["metadata"]["managedFields"] if one["manager"] == manager]
    return found[0]["fieldsV1"] if found else None


CREATED = written(None, pod(), "kubectl-create")


def test_who_creates_an_object_owns_all_but_its_identity() -> None:
    assert CREATED["metadata"]["managedFields"] == [
        {
            "manager": "kubectl-create",
            "operation": "Update",
            "apiVersion": "v1",
            "time": "2026-01-10T12:00:00Z",
            "fieldsType": "FieldsV1",
            "fieldsV1": {
                "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
                "f:spec": {
                    "f:containers": {'k:{"name":"c"}': {".": {}, "f:name": {}, "f:image": {}}}
                },
            },
        }
    ]


def test_who_changes_a_field_takes_it_over() -> None:
    changed = copy.deepcopy(CREATED)
    changed["spec"]["containers"][0]["image"] = "x:2"
    stored = written(CREATED, changed, "kubectl-edit", after=5)
    step = 'k:{"name":"c"}'
    assert fields(stored, "kubectl-edit") == {"f:spec": {"f:containers": {step: {"f:image": {}}}}}
    assert fields(stored, "kubectl-create")["f:spec"]["f:containers"][step] == {
        ".": {},
        "f:name": {},
    }
    times = {one["manager"]: one["time"] for one in stored["metadata"]["managedFields"]}
    assert times == {
        "kubectl-create": "2026-01-10T12:00:00Z",
        "kubectl-edit": "2026-01-10T12:00:05Z",
    }


def test_a_write_that_changes_nothing_changes_no_entry() -> None:
    same = copy.deepcopy(CREATED)
    same["metadata"]["resourceVersion"] = "2"
    same["metadata"]["generation"] = 7
    stored = written(CREATED, same, "other", after=5)
    assert stored["metadata"]["managedFields"] == CREATED["metadata"]["managedFields"]


def test_what_is_removed_belongs_to_nobody() -> None:
    changed = copy.deepcopy(CREATED)
    del changed["metadata"]["labels"]
    changed["spec"]["containers"] = [{"name": "d", "image": "y"}]
    stored = written(CREATED, changed, "kubectl-edit", after=5)
    assert [one["manager"] for one in stored["metadata"]["managedFields"]] == ["kubectl-edit"]
    assert fields(stored, "kubectl-edit") == {
        "f:spec": {"f:containers": {'k:{"name":"d"}': {".": {}, "f:name": {}, "f:image": {}}}}
    }


def test_a_subresource_has_an_entry_of_its_own() -> None:
    changed = {**copy.deepcopy(CREATED), "status": {"phase": "Running"}}
    stored = written(CREATED, changed, "kubectl-create", subresource="status")
    assert [one.get("subresource") for one in stored["metadata"]["managedFields"]] == [
        None,
        "status",
    ]
    assert stored["metadata"]["managedFields"][1]["fieldsV1"] == {"f:status": {"f:phase": {}}}


def test_a_status_that_the_server_makes_is_nobodys() -> None:
    made = {**pod(), "status": {"phase": "Pending"}}
    stored = written(None, made, "kubectl-create")
    assert "f:status" not in fields(stored, "kubectl-create")


def test_entries_that_are_not_sent_back_are_kept() -> None:
    changed = pod(nodeName="n1")
    stored = written(CREATED, changed, "scheduler")
    assert fields(stored, "kubectl-create") == fields(CREATED, "kubectl-create")
    assert fields(stored, "scheduler") == {"f:spec": {"f:nodeName": {}}}


def test_an_empty_entry_clears_the_list() -> None:
    cleared = copy.deepcopy(CREATED)
    cleared["metadata"]["managedFields"] = [{}]
    assert written(CREATED, cleared, "x")["metadata"]["managedFields"] == []


def test_entries_that_make_no_sense_do_no_harm() -> None:
    broken = copy.deepcopy(CREATED)
    broken["metadata"]["managedFields"] = [
        "x",
        {"operation": "Spam", "fieldsV1": {}},
        {"operation": "Update", "fieldsV1": "x"},
        *CREATED["metadata"]["managedFields"],
    ]
    stored = written(CREATED, broken, "x")
    assert stored["metadata"]["managedFields"] == CREATED["metadata"]["managedFields"]


def test_lists_whose_elements_cannot_be_told_apart_are_one_value() -> None:
    twice = pod()
    twice["spec"]["containers"] *= 2
    stored = written(None, twice, "x")
    assert fields(stored, "x")["f:spec"] == {"f:containers": {}}
    nameless = pod()
    nameless["spec"]["containers"] = [{"image": "y"}]
    assert fields(written(stored, nameless, "y"), "y") == {"f:spec": {"f:containers": {}}}


def test_atomic_lists_and_maps_are_one_value() -> None:
    stored = written(None, pod(tolerations=[{"key": "a"}]), "x")
    assert fields(stored, "x")["f:spec"]["f:tolerations"] == {}


def test_a_value_that_becomes_something_else_changes_hands_whole() -> None:
    first = written(None, {**pod(), "strange": {"a": {"b": 1}}}, "x")
    second = written(first, {**pod(), "strange": "text"}, "y")
    assert fields(second, "y") == {"f:strange": {}}
    assert "f:strange" not in fields(second, "x")
    third = written(second, {**pod(), "strange": {"a": 1}}, "z")
    assert fields(third, "z") == {"f:strange": {".": {}, "f:a": {}}}
    assert fields(third, "y") is None


def test_the_oldest_of_many_updaters_are_kept_together() -> None:
    stored = CREATED
    for index in range(15):
        changed = copy.deepcopy(stored)
        changed["metadata"]["labels"][f"l{index}"] = "x"
        stored = written(stored, changed, f"m{index:02}", after=index + 1)
    entries = stored["metadata"]["managedFields"]
    assert len(entries) == MOST_UPDATERS
    assert entries[0]["manager"] == ANCIENT
    assert "f:l0" in entries[0]["fieldsV1"]["f:metadata"]["f:labels"]
    assert "f:spec" in entries[0]["fieldsV1"]
    assert entries[-1]["manager"] == "m14"


def test_neither_object_is_changed() -> None:
    old, new = copy.deepcopy(CREATED), pod(nodeName="n1")
    before = copy.deepcopy((old, new))
    record_update(old, new, "x", schema=POD, time=NOW)
    assert (old, new) == before
