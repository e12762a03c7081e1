"""What a ruleset says, read back."""

from __future__ import annotations

from hypothesis import given, settings

from meshkube.dataplane import fronts
from meshkube.dataplane.rules import Ruleset, compile
from meshkube.dataplane.services import Frontend, Frontends, Settings
from tests.dataplane.test_rules import _states, table_of
from tests.dataplane.world import service, slice_of

SETTINGS = Settings(node_name="h1", pod_cidrs=("10.42.0.0/16",), service_cidrs=("10.43.0.0/16",))


@settings(deadline=None)
@given(_states)
def test_each_front_reads_back_as_it_was_compiled(state: dict[str, Frontends]) -> None:
    table = table_of(state)
    found = {
        front: fronts.frontend(table.ruleset, front) for front in fronts.touched(table.ruleset)
    }
    for front, owned in table._owned.items():
        read = found[front]
        assert read is not None
        assert (read.front, read.backends) == (front, owned.backends)
        # A front for clients outside has the time-out of the one for those inside.
        if owned.backends and not front.outside:
            assert read.sticky == owned.sticky


@settings(deadline=None)
@given(_states, _states)
def test_a_change_is_about_every_front_that_differs(
    old: dict[str, Frontends], new: dict[str, Frontends]
) -> None:
    table = table_of(old)
    table.take()
    held: Ruleset = {name: dict(elements) for name, elements in table.ruleset.items()}
    before = {front: fronts.frontend(held, front) for front in fronts.touched(held)}
    for key in table.keys() | new.keys():
        table.put(key, new.get(key, Frontends()))
    change = table.take()
    fronts.patch(held, change)
    assert held == table.ruleset
    after = {front: fronts.frontend(held, front) for front in fronts.touched(held)}
    differ = {f for f in before.keys() | after.keys() if before.get(f) != after.get(f)}
    # Of one front, what is for clients outside and inside is looked at together.
    changed = {front._replace(outside=False) for front in fronts.changed(change)}
    assert {front._replace(outside=False) for front in differ} <= changed


def test_source_ranges_of_a_balancer_are_read_back() -> None:
    wanted = service(
        type="LoadBalancer", loadBalancerSourceRanges=["192.0.2.0/24", "198.51.100.1/32"]
    )
    wanted["status"] = {"loadBalancer": {"ingress": [{"ip": "192.0.2.8"}]}}
    ruleset = compile([wanted], [slice_of("10.42.0.2")], SETTINGS)
    found = {front.address: fronts.sources(ruleset, front) for front in fronts.touched(ruleset)}
    assert set(found["192.0.2.8"]) == {"192.0.2.0/24", "198.51.100.1"}
    assert found["10.43.0.80"] == ()


def test_without_endpoints_a_front_has_no_backend() -> None:
    ruleset = compile([service()], [], SETTINGS)
    for front in fronts.touched(ruleset):
        assert fronts.frontend(ruleset, front) == Frontend(front, ())
