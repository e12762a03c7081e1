"""Which backend a client gets."""

from __future__ import annotations

from meshkube.dataplane.choosing import Choice
from meshkube.dataplane.services import Backend, Front, Frontend

FRONT = Front(4, "127.43.0.80", 6, 80)
A, B, C = (Backend(f"10.42.0.{n}", 80) for n in (2, 3, 4))


def inside(*backends: Backend, sticky: int = 0) -> Frontend:
    return Frontend(FRONT, backends, sticky)


def test_each_backend_has_its_turn_and_the_others_are_tried_after_it() -> None:
    choice = Choice(inside(A, B, C))
    orders = [choice.pick("10.0.0.1", False, 0.0) for _ in range(3)]
    assert {order[0] for order in orders} == {A, B, C}
    assert all(set(order) == {A, B, C} for order in orders)


def test_a_client_keeps_to_its_backend_until_it_was_silent_for_long() -> None:
    choice = Choice(inside(A, sticky=60))
    choice.keep("10.0.0.1", A, 0.0)
    choice.update(inside(A, B, C, sticky=60), None)
    assert {choice.pick("10.0.0.1", False, 60.0)[0] for _ in range(6)} == {A}
    assert {choice.pick("10.0.0.2", False, 60.0)[0] for _ in range(6)} == {A, B, C}
    assert {choice.pick("10.0.0.1", False, 60.1)[0] for _ in range(6)} == {A, B, C}


def test_a_backend_that_left_binds_nobody() -> None:
    choice = Choice(inside(A, sticky=60))
    choice.keep("10.0.0.1", A, 0.0)
    choice.update(inside(B, sticky=60), None)
    assert choice.pick("10.0.0.1", False, 1.0) == [B]


def test_silent_clients_are_forgotten() -> None:
    choice = Choice(inside(A, sticky=60))
    for number in range(100):
        choice.keep(f"10.0.0.{number}", A, float(number))
    assert len(choice._kept) == 61


def test_clients_outside_are_bound_to_this_node_where_the_policy_says_so() -> None:
    choice = Choice(inside(A, B), Frontend(FRONT._replace(outside=True), (A,)))
    assert {choice.pick("192.0.2.9", True, 0.0)[0] for _ in range(4)} == {A}
    assert {choice.pick("10.42.0.9", False, 0.0)[0] for _ in range(4)} == {A, B}
    choice.update(inside(A, B), Frontend(FRONT._replace(outside=True), ()))
    assert choice.pick("192.0.2.9", True, 0.0) == []


def test_source_ranges_let_only_those_through() -> None:
    choice = Choice(inside(A))
    choice.update(inside(A), None, ["192.0.2.0/24", "198.51.100.1"])
    assert choice.pick("192.0.2.9", True, 0.0) == [A]
    assert choice.pick("198.51.100.1", True, 0.0) == [A]
    assert choice.pick("198.51.100.2", True, 0.0) == []
