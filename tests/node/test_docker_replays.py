"""Lines that the engine tells again after a rotation are told once."""

from __future__ import annotations

from meshkube.node.docker_replays import REMEMBERED, Replays, parted


def stamp(number: int) -> bytes:
    return b"2026-01-02T03:04:05.%09dZ" % number


def told(*numbers: int) -> list[int]:
    replays = Replays()
    return [number for number in numbers if replays.is_new(stamp(number))]


def test_what_is_told_again_is_taken_out() -> None:
    assert told(1, 2, 3, 4, 2, 3, 4, 5, 6, 5, 6, 7) == [1, 2, 3, 4, 5, 6, 7]


def test_pieces_of_one_line_share_their_time_and_are_all_told() -> None:
    assert told(1, 2, 2, 2, 3) == [1, 2, 2, 2, 3]
    assert told(1, 2, 2, 1, 2, 2, 2, 3) == [1, 2, 2, 2, 3]


def test_a_clock_that_is_set_back_loses_nothing() -> None:
    assert told(100, 200, 300, 50, 60, 150, 250, 350) == [100, 200, 300, 50, 60, 150, 250, 350]


def test_it_remembers_a_bounded_number() -> None:
    replays = Replays()
    for number in range(3 * REMEMBERED):
        assert replays.is_new(stamp(number))
    assert len(replays._told) == len(replays._order) == REMEMBERED


def test_a_message_is_parted_from_its_time() -> None:
    assert parted(stamp(7) + b" a line\n") == (stamp(7), b"a line\n")
    assert parted(stamp(7) + b" \n") == (stamp(7), b"\n")
    assert parted(b"no time\n") == (b"", b"no time\n")
