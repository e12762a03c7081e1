import copy
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshkube.api import kinds
from meshkube.api.apply import apply, record_update
from meshkube.api.errors import ApiError
from meshkube.api.schemas import schema_for

NOW = datetime(2026, 1, 10, 12, 0, 0, tzinfo=UTC)
DEPLOYMENT = schema_for(kinds.DEPLOYMENT)
SERVICE = schema_for(kinds.SERVICE)
CONFIG_MAP = schema_for(kinds.CONFIG_MAP)


def deployment(*containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    if containers:
        spec["template"] = {"spec": {"containers": list(containers)}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": spec,
    }


def applied(
    live: dict[str, Any] | None,
    config: dict[str, Any],
    manager: str = "kubectl",
    *,
    force: bool = False,
    after: int = 0,
    subresource: str = "",
    schema: Any = DEPLOYMENT,
) -> dict[str, Any]:
    before = copy.deepcopy((live, config))
    now = NOW + timedelta(seconds=after)
    result = apply(live, config, manager, force, schema, subresource, now)
    assert (live, config) == before
    return result


def updated(
    live: dict[str, Any], manager: str, schema: Any = DEPLOYMENT, **spec: Any
) -> dict[str, Any]:
    new = copy.deepcopy(live)
    new["spec"].update(spec)
    new["metadata"]["managedFields"] = record_update(live, new, manager, schema=schema, time=NOW)
    return new


def containers(obj: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = obj["spec"]["template"]["spec"]["containers"]
    return found


def owners(obj: dict[str, Any]) -> dict[str, Any]:
    return {one["manager"]: one["fieldsV1"] for one in obj["metadata"]["managedFields"]}


def test_the_first_apply_creates_the_object_and_owns_what_it_declares() -> None:
    config = deployment({"name": "c", "image": "x:1"}, replicas=2)
    config["metadata"]["labels"] = {"app": "web"}
    live = applied(None, config)
    assert live["spec"] == config["spec"]
    assert live["metadata"]["managedFields"] == [
        {
            "manager": "kubectl",
            "operation": "Apply",
            "apiVersion": "apps/v1",
            "time": "2026-01-10T12:00:00Z",
            "fieldsType": "FieldsV1",
            "fieldsV1": {
                "f:metadata": {"f:labels": {"f:app": {}}},
                "f:spec": {
                    "f:replicas": {},
                    "f:template": {
                        "f:spec": {
                            "f:containers": {
                                'k:{"name":"c"}': {".": {}, "f:name": {}, "f:image": {}}
                            }
                        }
                    },
                },
            },
        }
    ]


def test_applying_the_same_again_changes_nothing_not_even_a_time() -> None:
    config = deployment({"name": "c", "image": "x:1"}, replicas=2)
    live = applied(None, config)
    live["spec"]["minReadySeconds"] = 0  # as a default would
    assert applied(live, config, after=60) == live


def test_what_is_no_longer_declared_is_removed_and_defaults_stay() -> None:
    live = applied(
        None,
        deployment(
            {"name": "c", "image": "x"}, {"name": "d", "image": "y"}, replicas=2, paused=True
        ),
    )
    live["spec"]["minReadySeconds"] = 5
    containers(live)[0]["imagePullPolicy"] = "Always"
    containers(live)[1]["imagePullPolicy"] = "Always"
    result = applied(live, deployment({"name": "c", "image": "x"}, replicas=2), after=1)
    assert result["spec"]["minReadySeconds"] == 5
    assert "paused" not in result["spec"]
    assert containers(result) == [{"name": "c", "image": "x", "imagePullPolicy": "Always"}]


def test_containers_that_are_emptied_go_with_their_last_field() -> None:
    config = deployment(strategy={"rollingUpdate": {"maxSurge": 1}}, replicas=1)
    config["metadata"]["labels"] = {"a": "1"}
    live = applied(None, config)
    result = applied(live, deployment(replicas=1))
    assert result["spec"] == {"replicas": 1}
    assert "labels" not in result["metadata"]


def test_what_somebody_else_owns_too_stays() -> None:
    live = applied(None, deployment({"name": "c", "image": "x", "tty": True}, replicas=2))
    live = applied(live, deployment({"name": "c", "image": "x"}), "other")
    result = applied(live, deployment(replicas=2))
    assert containers(result) == [{"name": "c", "image": "x"}]
    assert set(owners(result)) == {"kubectl", "other"}


def test_another_value_for_somebody_elses_field_is_a_conflict() -> None:
    live = updated(applied(None, deployment(replicas=2)), "kubectl-scale", replicas=5)
    with pytest.raises(ApiError) as caught:
        applied(live, deployment(replicas=2))
    assert (caught.value.code, caught.value.reason) == (409, "Conflict")
    assert caught.value.message == (
        'Apply failed with 1 conflict: conflict with "kubectl-scale" using apps/v1: .spec.replicas'
    )
    assert caught.value.details["causes"] == [
        {
            "reason": "FieldManagerConflict",
            "message": 'conflict with "kubectl-scale" using apps/v1',
            "field": ".spec.replicas",
        }
    ]


def test_several_conflicts_are_told_by_manager() -> None:
    live = applied(None, deployment({"name": "c", "image": "x"}, replicas=2, paused=True), "b")
    live = updated(live, "a", replicas=5)
    with pytest.raises(ApiError) as caught:
        applied(live, deployment({"name": "c", "image": "y"}, replicas=2, paused=False))
    assert caught.value.message == (
        "Apply failed with 3 conflicts: "
        'conflicts with "a" using apps/v1:\n- .spec.replicas\n'
        'conflicts with "b":\n- .spec.paused\n'
        '- .spec.template.spec.containers[name="c"].image'
    )
    assert len(caught.value.details["causes"]) == 3


def test_the_same_value_is_shared_without_a_conflict() -> None:
    live = updated(applied(None, deployment(replicas=2)), "kubectl-scale", replicas=5)
    result = applied(live, deployment(replicas=5))
    assert owners(result)["kubectl"] == owners(result)["kubectl-scale"]


def test_force_takes_the_field_over() -> None:
    live = updated(applied(None, deployment(replicas=2)), "kubectl-scale", replicas=5)
    result = applied(live, deployment(replicas=2), force=True)
    assert result["spec"]["replicas"] == 2
    assert set(owners(result)) == {"kubectl"}


def test_who_gives_a_field_up_leaves_it_to_the_others() -> None:
    """The documented way to hand replicas to an autoscaler."""
    live = applied(None, deployment(replicas=2, paused=True))
    live = updated(live, "autoscaler", replicas=5)
    result = applied(live, deployment(paused=True))
    assert result["spec"] == {"replicas": 5, "paused": True}


def test_an_update_takes_fields_from_an_applier_and_apply_says_so() -> None:
    live = updated(applied(None, deployment(replicas=2)), "edit", replicas=3)
    assert "kubectl" not in owners(live)
    with pytest.raises(ApiError, match='conflict with "edit"'):
        applied(live, deployment(replicas=2))


def test_elements_of_a_list_keep_the_order_that_is_declared() -> None:
    named = [{"name": name, "image": "x"} for name in "abc"]
    live = applied(None, deployment(*named[:2]), "one")
    both = applied(live, deployment(named[2], named[0]), "two")
    assert [one["name"] for one in containers(both)] == ["c", "a", "b"]
    appended = applied(live, deployment(named[2]), "two")
    assert [one["name"] for one in containers(appended)] == ["a", "b", "c"]
    turned = applied(appended, deployment(named[2], named[0]), "three")
    assert [one["name"] for one in containers(turned)] == ["b", "c", "a"]


def test_new_elements_stay_beside_those_that_are_there_already() -> None:
    def order(obj: dict[str, Any]) -> str:
        return "".join(one["name"] for one in containers(obj))

    def config(names: str) -> dict[str, Any]:
        return deployment(*({"name": name, "image": "x"} for name in names))

    live = applied(applied(None, config("cb"), "one"), config("ab"), "two")
    assert order(live) == "cab"
    assert order(applied(live, config("ac"), "three")) == "abc"


def test_an_element_goes_with_its_owner_whoever_changed_a_field_in_it() -> None:
    """Without its key it would be no element: who owns only a field in it cannot keep it."""
    live = applied(None, deployment({"name": "c", "image": "x"}, {"name": "d", "image": "y"}))
    edited = copy.deepcopy(live)
    containers(edited)[1]["image"] = "z"
    edited["metadata"]["managedFields"] = record_update(
        live, edited, "kubectl-set", schema=DEPLOYMENT, time=NOW
    )
    result = applied(edited, deployment({"name": "c", "image": "x"}))
    assert containers(result) == [{"name": "c", "image": "x"}]
    assert set(owners(result)) == {"kubectl"}


def test_ports_are_told_apart_by_all_their_keys_with_tcp_as_default() -> None:
    def service(*ports: dict[str, Any]) -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "s"},
            "spec": {"ports": list(ports)},
        }

    live = applied(None, service({"port": 53, "name": "t"}), schema=SERVICE)
    live["spec"]["ports"][0] |= {"protocol": "TCP", "targetPort": 53}
    udp = {"port": 53, "protocol": "UDP", "name": "u"}
    result = applied(live, service({"port": 53, "name": "t"}, udp), schema=SERVICE)
    assert result["spec"]["ports"] == [
        {"port": 53, "name": "t", "protocol": "TCP", "targetPort": 53},
        udp,
    ]


def test_elements_of_a_set_belong_to_who_declared_them() -> None:
    def config(*finalizers: str) -> dict[str, Any]:
        made = deployment(replicas=1)
        made["metadata"]["finalizers"] = list(finalizers)
        return made

    live = applied(None, config("a/1", "a/2"), "one")
    live = applied(live, config("b/1"), "two")
    assert live["metadata"]["finalizers"] == ["a/1", "a/2", "b/1"]
    assert applied(live, config("a/2"), "one")["metadata"]["finalizers"] == ["a/2", "b/1"]


def test_atomic_lists_are_replaced_whole() -> None:
    live = applied(None, deployment({"name": "c", "image": "x", "command": ["a", "b"]}))
    result = applied(live, deployment({"name": "c", "image": "x", "command": ["z"]}))
    assert containers(result)[0]["command"] == ["z"]


def test_null_means_not_declared() -> None:
    config = deployment(replicas=None, paused=True)
    config["metadata"]["creationTimestamp"] = None
    assert applied(None, config)["spec"] == {"paused": True}


def test_status_is_applied_to_its_subresource_only() -> None:
    config = {**deployment(replicas=1), "status": {"replicas": 4}}
    live = applied(None, config)
    assert "status" not in live
    result = applied(live, config, "controller", subresource="status")
    assert result["status"] == {"replicas": 4}
    assert result["metadata"]["managedFields"][0]["subresource"] == "status"
    assert owners(result)["controller"] == {"f:status": {"f:replicas": {}}}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (deployment({"image": "x"}), "omits key field"),
        (deployment({"name": "c"}, {"name": "c"}), "duplicate entries for key"),
    ],
)
def test_elements_that_cannot_be_told_apart_are_a_bad_request(config: Any, message: str) -> None:
    with pytest.raises(ApiError, match=message) as caught:
        applied(None, config)
    assert caught.value.code == 400


def test_a_configuration_must_not_bring_managed_fields() -> None:
    config = deployment(replicas=1)
    config["metadata"]["managedFields"] = []
    with pytest.raises(ApiError, match="managedFields must be nil"):
        applied(None, config)


def test_what_the_server_set_stays() -> None:
    live = applied(None, deployment(replicas=1))
    live["metadata"] |= {"uid": "u", "resourceVersion": "7", "generation": 3}
    result = applied(live, deployment(replicas=2))
    assert result["metadata"]["uid"] == "u"
    assert result["metadata"]["resourceVersion"] == "7"


def test_the_result_shares_no_data_with_what_it_was_made_of() -> None:
    live = applied(None, deployment({"name": "c", "image": "x"}))
    config = deployment(strategy={"type": "Recreate"})
    before = copy.deepcopy((live, config))
    result = apply(live, config, "other", False, DEPLOYMENT, "", NOW)
    containers(result)[0]["image"] = "changed"
    result["spec"]["strategy"]["type"] = "changed"
    result["metadata"]["labels"] = {}
    assert (live, config) == before


# From `kubectl apply` to `kubectl apply --server-side`.

ANNOTATION = "kubectl.kubernetes.io/last-applied-configuration"


def client_side_applied(config: dict[str, Any]) -> dict[str, Any]:
    live = copy.deepcopy(config)
    live["metadata"]["annotations"] = {ANNOTATION: json.dumps(config)}
    live["metadata"]["managedFields"] = record_update(
        None, live, "kubectl-client-side-apply", schema=DEPLOYMENT, time=NOW
    )
    return live


def test_kubectl_takes_over_what_it_applied_from_the_client() -> None:
    live = client_side_applied(deployment(replicas=2, paused=True))
    result = applied(live, deployment(replicas=3, paused=True))
    assert result["spec"]["replicas"] == 3
    assert json.loads(result["metadata"]["annotations"][ANNOTATION])["spec"]["replicas"] == 3
    with pytest.raises(ApiError, match="kubectl-client-side-apply"):
        applied(live, deployment(replicas=3), "somebody-else")


def test_kubectl_does_not_take_over_what_was_changed_since() -> None:
    live = updated(client_side_applied(deployment(replicas=2)), "kubectl-scale", replicas=5)
    with pytest.raises(ApiError, match='conflict with "kubectl-scale"'):
        applied(live, deployment(replicas=3))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"spec": 1}'])
def test_an_annotation_that_makes_no_sense_does_no_harm(text: str) -> None:
    live = client_side_applied(deployment(replicas=2))
    live["metadata"]["annotations"][ANNOTATION] = text
    with pytest.raises(ApiError, match="Apply failed with 1 conflict"):
        applied(live, deployment(replicas=3))


# Several managers over one map, against the rules said in a few lines.

DATA = st.dictionaries(st.sampled_from("abc"), st.sampled_from("12"), max_size=3)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["m1", "m2", "m3"]), DATA, st.sampled_from(["apply", "force", "update"])
    ),
    max_size=8,
)


def model(
    data: dict[str, str],
    owned: dict[str, set[str]],
    manager: str,
    config: dict[str, str],
    how: str,
) -> tuple[dict[str, str], dict[str, set[str]]] | None:
    """The data and each key's owners after a step; None for a conflict."""
    name = manager if how != "update" else f"{manager} (update)"
    owned = {key: set(who) for key, who in owned.items()}
    if how == "update":
        for key in {*data, *config}:
            if key not in config:
                owned.pop(key)
            elif data.get(key) != config[key]:
                owned[key] = {name}
        return dict(config), owned
    result = {**data, **config}
    for key in data:
        if owned[key] == {name} and key not in config:
            del result[key]
    clashes = [
        key for key in config if key in data and data[key] != config[key] and owned[key] - {name}
    ]
    if clashes and how != "force":
        return None
    for key in {*data, *config}:
        who = set() if data.get(key) != result.get(key) else owned.get(key, set())
        owned[key] = (who - {name}) | ({name} if key in config else set())
        if key not in result:
            del owned[key]
    return result, owned


def by_key(obj: dict[str, Any]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for entry in obj["metadata"]["managedFields"]:
        name = entry["manager"] + (" (update)" if entry["operation"] == "Update" else "")
        for step in entry["fieldsV1"].get("f:data", {}):
            if step != ".":
                found.setdefault(step[2:], set()).add(name)
    return found


@settings(max_examples=150)
@given(STEPS)
def test_many_managers_end_where_the_rules_say(
    steps: list[tuple[str, dict[str, str], str]],
) -> None:
    base = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}
    live: dict[str, Any] = {**base, "metadata": {"name": "c", "managedFields": []}}
    data: dict[str, str] = {}
    owned: dict[str, set[str]] = {}
    for manager, config, how in steps:
        wanted = {**base, **({"data": config} if config else {})}
        expected = model(data, owned, manager, config, how)
        if expected is None:
            with pytest.raises(ApiError, match="Apply failed"):
                apply(live, wanted, manager, False, CONFIG_MAP, "", NOW)
            continue
        data, owned = expected
        if how == "update":
            entries = record_update(live, wanted, manager, schema=CONFIG_MAP, time=NOW)
            live = {**wanted, "metadata": {"name": "c", "managedFields": entries}}
        else:
            live = apply(live, wanted, manager, how == "force", CONFIG_MAP, "", NOW)
        assert live.get("data", {}) == data
        assert by_key(live) == owned
