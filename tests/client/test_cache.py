import logging
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshkube.api import meta
from meshkube.api.types import Object
from meshkube.client.cache import Cache, with_indexes


def pod(name: str, version: int = 1, node: str = "", namespace: str = "default") -> Object:
    return {
        "metadata": {"name": name, "namespace": namespace, "resourceVersion": str(version)},
        "spec": {"nodeName": node},
    }


def by_node(obj: Object) -> Iterable[str]:
    node = obj["spec"]["nodeName"]
    return [node] if node else []


class Heard:
    """A handler that keeps what it was told."""

    def __init__(self) -> None:
        self.changes: list[tuple[Object | None, Object | None]] = []

    def __call__(self, old: Object | None, new: Object | None) -> None:
        self.changes.append((old, new))


def names(objects: Iterable[Object]) -> list[str]:
    return sorted(meta.name(obj) for obj in objects)


def test_the_cache_holds_the_very_objects() -> None:
    cache = Cache()
    web = pod("web")
    cache.put(web)
    assert cache.get("default/web") is web
    assert cache.list()[0] is web
    assert len(cache) == 1


def test_handlers_hear_old_and_new() -> None:
    cache, heard = Cache(), Heard()
    cache.subscribe(heard)
    first, second = pod("web", 1), pod("web", 2)
    cache.put(first)
    cache.put(second)
    cache.remove("default/web")
    cache.remove("default/web")
    assert heard.changes == [(None, first), (first, second), (second, None)]


def test_the_same_version_is_no_change() -> None:
    cache, heard = Cache(), Heard()
    first = pod("web", 1)
    cache.put(first)
    cache.subscribe(heard)
    cache.put(pod("web", 1))
    assert heard.changes == [(None, first)]
    assert cache.get("default/web") is first


def test_a_late_subscriber_hears_of_what_is_there() -> None:
    cache, heard = Cache(), Heard()
    web = pod("web")
    cache.put(web)
    cache.subscribe(heard)
    assert heard.changes == [(None, web)]


def test_a_handler_sees_the_cache_after_the_change() -> None:
    cache = with_indexes({"node": by_node})
    seen: list[Any] = []
    cache.subscribe(
        lambda old, new: seen.append((names(cache.list()), names(cache.by_index("node", "n1"))))
    )
    cache.put(pod("a", 1, "n1"))
    cache.put(pod("b", 2, "n1"))
    cache.remove("default/a")
    assert seen == [(["a"], ["a"]), (["a", "b"], ["a", "b"]), (["b"], ["b"])]


def test_a_failing_handler_stops_no_other(caplog: pytest.LogCaptureFixture) -> None:
    cache, heard = Cache(), Heard()

    def fail(old: Object | None, new: Object | None) -> None:
        raise ValueError("no")

    cache.subscribe(fail)
    cache.subscribe(heard)
    with caplog.at_level(logging.ERROR):
        cache.put(pod("web"))
    assert len(heard.changes) == 1
    assert "a handler failed" in caplog.text


def test_an_index_that_fails_leaves_the_object_out_of_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    cache = with_indexes({"node": by_node})
    cache.put({"metadata": {"name": "odd", "resourceVersion": "1"}})
    cache.put(pod("web", 2, "n1"))
    cache.remove("odd")
    assert names(cache.by_index("node", "n1")) == ["web"]
    assert "an index failed" in caplog.text


def test_an_index_follows_changes_of_value() -> None:
    cache = with_indexes({"node": by_node})
    cache.put(pod("web", 1))
    cache.put(pod("web", 2, "n1"))
    assert names(cache.by_index("node", "n1")) == ["web"]
    moved = pod("web", 3, "n2")
    cache.put(moved)
    assert cache.by_index("node", "n1") == []
    assert cache.by_index("node", "n2")[0] is moved
    cache.remove("default/web")
    assert cache.by_index("node", "n2") == []


def test_an_index_added_late_covers_what_is_there() -> None:
    cache = Cache()
    cache.put(pod("web", 1, "n1"))
    cache.add_index("node", by_node)
    cache.add_index("node", by_node)
    assert names(cache.by_index("node", "n1")) == ["web"]
    with pytest.raises(ValueError, match="node"):
        cache.add_index("node", lambda obj: ())
    with pytest.raises(KeyError):
        cache.by_index("unknown", "")


def test_lists_by_namespace() -> None:
    cache = Cache()
    cache.put(pod("a", 1, namespace="one"))
    cache.put(pod("b", 2, namespace="two"))
    assert names(cache.list("one")) == ["a"]
    assert names(cache.list()) == ["a", "b"]
    assert cache.list("three") == []


def test_replace_tells_only_what_differs() -> None:
    cache, heard = Cache(), Heard()
    gone, same, old = pod("gone", 1), pod("same", 2), pod("changed", 3)
    for obj in (gone, same, old):
        cache.put(obj)
    cache.subscribe(heard)
    heard.changes.clear()
    changed, new = pod("changed", 9), pod("new", 8)
    cache.replace([pod("same", 2), changed, new])
    assert heard.changes == [(gone, None), (old, changed), (None, new)]
    assert cache.get("default/same") is same


def test_a_long_list_is_taken_over_in_steps() -> None:
    cache = Cache()
    sizes = [len(cache) for _ in cache.replacing([pod("a", 1), pod("b", 2), pod("c", 3)])]
    assert sizes[-3:] == [1, 2, 3]


STATES = st.dictionaries(
    st.sampled_from("abcd"), st.tuples(st.integers(1, 3), st.sampled_from(["", "n1", "n2"]))
)


@given(st.lists(STATES, max_size=5))
def test_any_sequence_of_lists_leaves_cache_indexes_and_handlers_agreeing(
    states: list[dict[str, tuple[int, str]]],
) -> None:
    cache = with_indexes({"node": by_node})
    mirror: dict[str, Object] = {}

    def follow(old: Object | None, new: Object | None) -> None:
        if old is not None:
            assert mirror.pop(meta.key(old)) is old
        if new is not None:
            mirror[meta.key(new)] = new

    cache.subscribe(follow)
    for round, state in enumerate(states):
        cache.replace(
            pod(name, 10 * version + round % 2, node) for name, (version, node) in state.items()
        )
        held = {meta.key(obj): obj for obj in cache.list()}
        assert held == mirror
        assert set(held) == {f"default/{name}" for name in state}
        for node in ("n1", "n2"):
            assert names(cache.by_index("node", node)) == names(
                obj for obj in held.values() if obj["spec"]["nodeName"] == node
            )
