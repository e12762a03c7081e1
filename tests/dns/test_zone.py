"""The zone against a plain model of it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meshkube.dns import names
from meshkube.dns.cache import AnswerCache, Finished
from meshkube.dns.records import Record
from meshkube.dns.zone import Zone

NAMES = [names.encode(name) for name in ("a", "b.a", "c.b.a", "d", "c.d", "x.c.d")]
ALL_NAMES = {*NAMES, *(parent for name in NAMES for parent in names.parents(name))}
record = st.builds(Record, st.sampled_from(NAMES), st.integers(1, 2), st.sampled_from([b"1", b"2"]))
steps = st.lists(st.tuples(st.sampled_from("pqr"), st.lists(record, max_size=4)), max_size=12)


def model_answer(owners: dict[str, list[Record]], name: bytes) -> dict[int, set[bytes]] | None:
    every = [record for records in owners.values() for record in records]
    if not any(name == r.name or name in names.parents(r.name) for r in every):
        return None
    sets: dict[int, set[bytes]] = {}
    for each in every:
        if each.name == name:
            sets.setdefault(each.type, set()).add(each.data)
    return sets


def zone_answer(zone: Zone, name: bytes) -> dict[int, set[bytes]] | None:
    found = zone.find(name)
    return None if found is None else {kind: set(data) for kind, data in found.items()}


@given(steps)
def test_a_zone_holds_what_its_owners_gave_and_names_every_change(steps):
    zone, owners = Zone(), {}
    for owner, given_records in steps:
        before = {name: zone_answer(zone, name) for name in ALL_NAMES}
        changed = zone.replace(owner, given_records)
        owners[owner] = given_records
        for name in ALL_NAMES:
            after = zone_answer(zone, name)
            assert after == model_answer(owners, name)
            assert name in changed or after == before[name]


A1, A2 = Finished([0], (b"a1",)), Finished([0], (b"a2",))


def test_the_cache_forgets_what_rests_on_a_changed_name():
    cache = AnswerCache(most=2)
    cache.add(b"q1", A1, frozenset([b"x", b"y"]))
    cache.add(b"q2", A2, frozenset([b"y"]))
    cache.forget([b"x"])
    assert cache.entries == {b"q2": A2}
    cache.add(b"q3", A1, frozenset([b"z"]))
    cache.add(b"q4", A2, frozenset([b"z"]))
    assert set(cache.entries) == {b"q3", b"q4"}
    cache.forget([b"z", b"y", b"unknown"])
    assert not cache.entries


def test_the_cache_drops_after_a_second_what_it_was_given_for_one():
    cache = AnswerCache(most=2)
    cache.add(b"q1", A1, frozenset([b"x"]))
    cache.add_brief(b"q2", A2)
    cache.add_brief(b"q1", A2)
    cache.forget([b"x"])
    assert set(cache.entries) == {b"q1", b"q2"}
    cache.end_brief()
    assert not cache.entries
