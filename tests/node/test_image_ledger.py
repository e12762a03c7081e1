"""Which images go when the disk fills up."""

from __future__ import annotations

import pytest

from meshkube.node.image_ledger import KEPT_LOCAL, Ledger, load, to_free
from meshkube.node.runtime import LocalImage

AGE = 120.0


def image(id: str, *, pinned: bool = False) -> LocalImage:
    return LocalImage(id, (f"{id}:1",), 1000, pinned)


def victims(ledger: Ledger, now: float, *ids: str, in_use: tuple[str, ...] = ()) -> list[str]:
    images = [image(id, pinned=id.startswith("pinned")) for id in ids]
    return [one.id for one in ledger.victims(images, in_use, now, AGE)]


def test_what_was_used_longest_ago_goes_first() -> None:
    ledger = Ledger()
    for id, at in (("b", 0.0), ("a", 0.0), ("c", 0.0)):
        ledger.note_pull(id, at, private=False)
    ledger.note("a", 50)
    ledger.note("b", 90)
    assert victims(ledger, 1000, "a", "b", "c") == ["c", "a", "b"]


def test_what_is_in_use_young_pinned_or_not_ours_stays() -> None:
    ledger = Ledger()
    for id in ("used", "old", "pinned"):
        ledger.note_pull(id, 0, private=False)
    ledger.note_pull("young", 900, private=False)
    ids = ("used", "old", "pinned", "young", "somebody-elses")
    assert victims(ledger, 1000, *ids, in_use=("used",)) == ["old"]


def test_what_no_registry_brings_back_stays_a_day_and_goes_last() -> None:
    ledger = Ledger()
    ledger.note("loaded", 0)
    ledger.note_pull("pulled", 5, private=False)
    assert victims(ledger, KEPT_LOCAL - 1, "loaded", "pulled") == ["pulled"]
    assert victims(ledger, KEPT_LOCAL, "loaded", "pulled") == ["pulled", "loaded"]


def test_the_ledger_follows_what_is_there_and_outlives_the_process() -> None:
    ledger = Ledger()
    ledger.note_pull("a", 10, private=True)
    ledger.note("gone", 10)
    ledger.use(["b", "young"], 60)
    ledger.follow(["a", "b", "c"], 80)
    again = load(ledger.dump(), now=90)
    assert again == ledger
    assert set(again.lines) == {"a", "b", "young"}
    assert again.is_private("a")
    assert not again.is_private("b")
    # The clock was set back meanwhile.
    assert load(ledger.dump(), now=5).lines["a"].used == 5


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"a": 1}', b'{"a": {"since": "x"}}'])
def test_a_broken_ledger_is_an_empty_one(content: bytes) -> None:
    assert load(content, 0) == Ledger()


@pytest.mark.parametrize(
    ("available", "bytes"), [(16, 0), (15, 5), (5, 15), (100, 0)]
)  # fmt: skip
def test_above_the_high_mark_it_is_freed_down_to_the_low_one(available: int, bytes: int) -> None:
    assert to_free(100, available, high=85, low=80) == bytes
    assert to_free(100, 0, high=100, low=80) == 0
    assert to_free(0, 0, high=85, low=80) == 0
