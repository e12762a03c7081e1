"""Rulesets as elements, and the way from one to the next."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from meshkube.api.types import Object
from meshkube.dataplane import rules, script
from meshkube.dataplane.rules import Change, Ruleset, Table, apply, compile, diff, is_class
from meshkube.dataplane.services import (
    Backend,
    Front,
    Frontend,
    Frontends,
    Settings,
    Stale,
)

SETTINGS = Settings(node_name="h1", pod_cidrs=("10.42.0.0/16",), service_cidrs=("10.43.0.0/16",))

_fronts = st.builds(
    Front,
    st.just(4),
    st.sampled_from(["", "10.43.0.1", "10.43.0.2"]),
    st.sampled_from([6, 17]),
    st.integers(1, 3),
    st.booleans(),
)
_backends = st.lists(
    st.builds(Backend, st.sampled_from(["10.42.0.2", "10.42.0.3", "10.42.0.4"]), st.just(80)),
    max_size=3,
    unique=True,
).map(tuple)
_frontends = st.builds(
    lambda found, members, rank: Frontends(
        tuple({frontend.front: frontend for frontend in found}.values()),
        frozenset(members),
        (rank, ""),
    ),
    st.lists(
        st.builds(Frontend, _fronts, _backends, st.sampled_from([0, 5, 60])), min_size=1, max_size=4
    ),
    st.lists(st.sampled_from([("outsiders4", "a"), ("hairpins4", "b")])),
    st.sampled_from(["1", "2"]),
)
_states = st.dictionaries(st.sampled_from(["ns/a", "ns/b", "ns/c"]), _frontends)


def table_of(state: dict[str, Frontends]) -> Table:
    table = Table()
    for key, wanted in state.items():
        table.put(key, wanted)
    return table


@settings(deadline=None)
@given(_states, _states)
def test_a_diff_applied_to_the_old_ruleset_gives_the_new(
    old: dict[str, Frontends], new: dict[str, Frontends]
) -> None:
    before, after = table_of(old).ruleset, table_of(new).ruleset
    assert apply(diff(before, after), before) == after


@settings(deadline=None)
@given(st.lists(_states, min_size=1, max_size=5))
def test_a_table_kept_up_to_date_equals_one_made_anew(states: list[dict[str, Frontends]]) -> None:
    table, kernel = Table(), Ruleset()
    for state in states:
        for key in table.keys() | state.keys():
            table.put(key, state.get(key, Frontends()))
        change = table.take()
        assert_classes(change, kernel, table.ruleset)
        kernel = apply(change, kernel)
        assert kernel == table.ruleset == table_of(state).ruleset


@settings(deadline=None)
@given(_states)
def test_every_service_leads_to_a_class_that_holds_all_its_backends(
    state: dict[str, Frontends],
) -> None:
    ruleset = table_of(state).ruleset
    for kind in ("services4", "nodeports4"):
        for key, verdict in ruleset.get(kind, {}).items():
            how, name, count = verdict.removeprefix("goto ").split("_")
            assert how in ("spread", "sticky")
            held = [
                element
                for element in ruleset[f"{name}_{count}"]
                if element.rpartition(" . ")[0] == key
            ]
            assert sorted(held) == [f"{key} . {index}" for index in range(int(count))]
            assert key not in ruleset.get(f"refused_{kind}", {})


def assert_classes(change: Change, old: Ruleset, new: Ruleset) -> None:
    before, after = set(filter(is_class, old)), set(filter(is_class, new))
    assert set(change.classes_added) == after - before
    assert set(change.classes_deleted) == before - after


def service(name: str, address: str, created: str = "", **spec: object) -> Object:
    return {
        "metadata": {"name": name, "namespace": "shop", "creationTimestamp": created},
        "spec": {"clusterIP": address, "ports": [{"port": 80}], **spec},
    }


def piece(name: str, *addresses: str) -> Object:
    return {
        "metadata": {
            "name": f"{name}-1",
            "namespace": "shop",
            "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": "IPv4",
        "ports": [{"port": 8080}],
        "endpoints": [{"addresses": [address], "nodeName": "h2"} for address in addresses],
    }


def test_the_layout_of_one_service() -> None:
    services = [service("web", "10.43.0.1"), service("idle", "10.43.0.2")]
    assert compile(services, [piece("web", "10.42.0.2", "10.42.0.3")], SETTINGS) == {
        "services4": {"10.43.0.1 . 6 . 80": "goto spread_services4_2"},
        "services4_2": {
            "10.43.0.1 . 6 . 80 . 0": "10.42.0.2 . 8080",
            "10.43.0.1 . 6 . 80 . 1": "10.42.0.3 . 8080",
        },
        "refused_services4": {"10.43.0.2 . 6 . 80": ""},
    }


def test_a_new_endpoint_moves_a_service_to_the_next_class_and_touches_no_other() -> None:
    services = [service("web", "10.43.0.1"), service("db", "10.43.0.2")]
    slices = [piece("db", "10.42.0.9")]
    old = compile(services, [*slices, piece("web", "10.42.0.2")], SETTINGS)
    new = compile(services, [*slices, piece("web", "10.42.0.2", "10.42.0.3")], SETTINGS)
    change = diff(old, new)
    assert change.deleted == {
        "services4": ["10.43.0.1 . 6 . 80"],
        "services4_1": ["10.43.0.1 . 6 . 80 . 0"],
    }
    assert change.classes_added == ["services4_2"]
    assert change.classes_deleted == []
    assert "10.43.0.2" not in script.change(change)


def test_of_two_services_with_one_address_the_older_has_it() -> None:
    services = [
        service("new", "10.43.0.1", "2026-01-02T00:00:00Z"),
        service("old", "10.43.0.1", "2026-01-01T00:00:00Z"),
    ]
    slices = [piece("new", "10.42.0.2"), piece("old", "10.42.0.3")]
    for order in (services, services[::-1]):
        ruleset = compile(order, slices, SETTINGS)
        assert ruleset["services4_1"] == {"10.43.0.1 . 6 . 80 . 0": "10.42.0.3 . 8080"}


def test_an_equal_service_changes_nothing() -> None:
    table = Table()
    wanted = Frontends((Frontend(Front(4, "10.43.0.1", 6, 80), (Backend("10.42.0.2", 80),)),))
    assert table.put("ns/a", wanted)
    assert table.take()
    assert not table.put("ns/a", wanted)
    assert not table.take()


def test_changes_that_undo_each_other_are_no_change() -> None:
    table = Table()
    front = Front(4, "10.43.0.1", 6, 80)
    one, two = (
        Frontends((Frontend(front, (Backend(a, 80),)),)) for a in ("10.42.0.2", "10.42.0.3")
    )
    table.put("ns/a", one)
    table.take()
    table.put("ns/a", two)
    table.put("ns/a", one)
    assert not table.take()


def test_udp_flows_to_backends_that_left_are_named() -> None:
    table = Table()
    front = Front(4, "10.43.0.1", 17, 53)

    def put(*addresses: str) -> set[Stale]:
        backends = tuple(Backend(address, 53) for address in addresses)
        table.put("ns/dns", Frontends((Frontend(front, backends),)))
        return table.take_stale()

    assert put("10.42.0.2", "10.42.0.3") == {Stale(front, "")}
    assert put("10.42.0.3") == {Stale(front, "10.42.0.2")}
    assert put() == {Stale(front, "10.42.0.3")}
    assert put("10.42.0.4") == {Stale(front, "")}


def test_slices_name_their_service_by_label() -> None:
    assert rules.service_of(piece("web")) == "shop/web"
    assert rules.service_of({"metadata": {"name": "x", "namespace": "shop"}}) == ""
