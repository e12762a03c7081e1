"""Who announces what, and when the silence of others means something."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from meshkube.api.balancing import FROM_POOL
from meshkube.api.types import Object
from meshkube.dataplane import arp
from meshkube.dataplane.announcements import DURATION, Pulse, nodes_of, owner, owners

MAC = bytes.fromhex("020000000001")


def node(name: str, ready: bool = True, **labels: str) -> Object:
    conditions = [{"type": "Ready", "status": str(ready)}]
    return {"metadata": {"name": name, "labels": labels}, "status": {"conditions": conditions}}


def service(*addresses: str, name: str = "web", pooled: bool = True, **spec: Any) -> Object:
    return {
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"type": "LoadBalancer", **spec},
        "status": {
            "loadBalancer": {"ingress": [{"ip": address} for address in addresses]},
            "conditions": [{"type": FROM_POOL, "status": "True"}] if pooled else [],
        },
    }


def addresses(count: int) -> list[str]:
    return [f"192.0.2.{number}" for number in range(count)]


@settings(deadline=None)
@given(st.sets(st.sampled_from("abcdefgh"), min_size=2))
def test_a_node_that_goes_moves_only_its_own_addresses(nodes: set[str]) -> None:
    gone = min(nodes)
    for address in addresses(50):
        before, after = owner(address, nodes), owner(address, nodes - {gone})
        assert after == before or before == gone


def test_addresses_are_shared_out_over_the_nodes() -> None:
    found = [owner(address, ["a", "b", "c"]) for address in addresses(250)]
    assert min(found.count(name) for name in "abc") > 50


def test_only_nodes_that_are_ready_alive_and_not_left_out() -> None:
    label = {"node.kubernetes.io/exclude-from-external-load-balancers": ""}
    nodes = [node("a"), node("b", ready=False), node("c", **label), node("d")]
    held = owners([service(*addresses(30))], nodes, {"a", "b", "c"}, lambda s: ())
    assert set(held.values()) == {"a"}
    assert owners([service("192.0.2.1")], nodes, set(), lambda s: ()) == {"192.0.2.1": ""}


def test_addresses_of_a_local_service_are_where_its_endpoints_are() -> None:
    local = service("192.0.2.1", externalTrafficPolicy="Local")
    nodes = [node("a"), node("b")]
    assert owners([local], nodes, {"a", "b"}, lambda s: {"b"}) == {"192.0.2.1": "b"}
    assert owners([local], nodes, {"a", "b"}, lambda s: ()) == {"192.0.2.1": ""}


def test_addresses_that_are_not_of_the_pool_are_nobodys() -> None:
    assert owners([service("192.0.2.1", pooled=False)], [node("a")], {"a"}, lambda s: ()) == {}


def test_nodes_with_endpoints() -> None:
    endpoints = [
        {"nodeName": "a", "conditions": {"ready": True}},
        {"nodeName": "b", "conditions": {"ready": False}},
        {"nodeName": "c"},
        {"addresses": ["192.0.2.1"]},
    ]
    assert nodes_of([{"endpoints": endpoints}]) == {"a", "c"}


def test_others_are_missed_after_their_leases_duration() -> None:
    pulse = Pulse("me")
    alive = []
    for second in range(10):
        renewals = {"me": str(second), "other": str(min(second, 4))}
        pulse.saw(renewals, float(second))
        alive.append("other" in pulse.alive(float(second)))
    # Seen from 0 on, it counts from 2 on; renewed last at 4, it is missed at 7.
    assert alive == [False, False, True, True, True, True, True, False, False, False]
    assert pulse.may_judge(9.0)
    pulse.saw({"me": "10"}, 10.0)
    assert pulse.alive(10.0) == {"me"}


def test_nodes_that_start_together_agree_from_the_start() -> None:
    pulse = Pulse("me")
    for tick in range(40):
        now = tick / 10
        pulse.saw({"me": str(tick)} | ({"other": str(tick)} if now >= 0.9 else {}), now)
        if pulse.may_judge(now):
            assert pulse.alive(now) == {"me", "other"}
    assert pulse.may_judge(3.9)


def test_nobody_is_judged_while_ones_own_renewals_are_not_seen() -> None:
    pulse = Pulse("me")
    assert not pulse.may_judge(0.0)
    for second in range(5):
        pulse.saw({"me": str(second), "other": "0"}, float(second))
        assert pulse.may_judge(float(second)) == (second >= DURATION)
    # The API is away: nothing new is seen.
    pulse.saw({"me": "4", "other": "0"}, 9.0)
    assert not pulse.may_judge(9.0)
    # It is back: others get the time to be seen as well.
    for second in range(10, 14):
        pulse.saw({"me": str(second), "other": str(max(second, 11))}, float(second))
        assert pulse.may_judge(float(second)) == (second >= 13)
    assert pulse.alive(13.0) == {"me", "other"}


def test_frames_say_who_has_an_address() -> None:
    frame = arp.gratuitous(MAC, "192.0.2.7")
    assert frame[:14] == b"\xff" * 6 + MAC + b"\x08\x06"
    assert len(frame) == 42
    assert arp.claim(frame) == (MAC, "192.0.2.7")
    assert arp.claim(arp.probe(MAC, "192.0.2.7")) is None
    assert arp.claim(frame[:30]) is None
    advertised = arp.advertisement(MAC, "2001:db8::7")
    assert advertised[0] == 136
    assert advertised[-8:] == b"\x02\x01" + MAC
    assert len(advertised) == 32
