"""Which pods make room, in which order, and what is said of it."""

from __future__ import annotations

from typing import Any

import pytest

from meshkube.api.types import Object
from meshkube.node.eviction import (
    CRITICAL,
    PodUse,
    is_limited,
    over_limits,
    pressure_message,
    ranked,
    refused,
)
from meshkube.node.thresholds import Amount, Met, parse

MI = 1024**2


def pod(name: str, *, priority: int = 0, limits: Any = None, **requests: str) -> Object:
    resources = {"requests": requests, "limits": limits or {}}
    return {
        "metadata": {"name": name},
        "spec": {"priority": priority, "containers": [{"name": "c", "resources": resources}]},
    }


def use(pod: Object, mebibytes: int) -> PodUse:
    return PodUse(pod=pod, used=mebibytes * MI, containers={"c": mebibytes * MI})


def order(*uses: PodUse, resource: str = "memory") -> list[str]:
    return [one.pod["metadata"]["name"] for one in ranked(uses, resource)]


def test_who_uses_more_than_asked_goes_first() -> None:
    within = use(pod("within", memory="100Mi"), 90)
    above = use(pod("above", memory="10Mi"), 20)
    nothing_asked = use(pod("nothing-asked"), 5)
    assert order(within, nothing_asked, above) == ["above", "nothing-asked", "within"]


def test_then_who_matters_least_then_who_is_furthest_above() -> None:
    assert order(
        use(pod("dear", priority=10), 500), use(pod("small"), 10), use(pod("large"), 100)
    ) == ["large", "small", "dear"]  # fmt: skip
    # What it asked for is its own, however much that is.
    assert order(
        use(pod("asked", memory="90Mi"), 100), use(pod("greedy", memory="1Mi"), 50)
    ) == ["greedy", "asked"]  # fmt: skip


def test_a_pod_within_its_request_goes_last_even_if_it_matters_less() -> None:
    assert order(
        use(pod("good", priority=-5, memory="1Gi"), 900), use(pod("dear", priority=5), 1)
    ) == ["dear", "good"]  # fmt: skip


def test_of_process_ids_and_inodes_only_priority_and_use_count() -> None:
    few, many = use(pod("few", memory="1"), 1), use(pod("many"), 2)
    dear = use(pod("dear", priority=1), 9)
    for resource in ("pids", "inodes"):
        assert order(few, dear, many, resource=resource) == ["many", "few", "dear"]


def test_critical_pods_are_spared() -> None:
    assert order(use(pod("system", priority=CRITICAL), 999), use(pod("app"), 1)) == ["app"]


def test_the_message_is_the_kubelets() -> None:
    low = Met(parse("memory.available<100Mi")[0], Amount(50 * MI, 1024 * MI))
    assert pressure_message(low, use(pod("a", memory="10Mi"), 60)) == (
        "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi."
        " Container c was using 60Mi, request is 10Mi, has larger consumption of memory."
    )
    low = Met(parse("nodefs.available<10%")[0], Amount(3 * 1024, 100 * MI))
    assert pressure_message(low, use(pod("a"), 0)) == (
        "The node was low on resource: ephemeral-storage. Threshold quantity: 10Mi, available: 3Ki."
    )
    low = Met(parse("pid.available<100")[0], Amount(7, 1000))
    assert pressure_message(low, use(pod("a"), 9)) == (
        "The node was low on resource: pids. Threshold quantity: 100, available: 7."
    )


MEMORY = frozenset({"MemoryPressure"})
DISK = frozenset({"DiskPressure"})
TOLERATES = [{"key": "node.kubernetes.io/memory-pressure", "operator": "Exists"}]


@pytest.mark.parametrize(
    ("one", "conditions", "refusal"),
    [
        (pod("a"), frozenset(), False),
        (pod("a"), MEMORY, True),
        (pod("a", memory="1Mi"), MEMORY, False),
        (pod("a", memory="1Mi"), DISK, True),
        (pod("a", memory="1Mi"), MEMORY | DISK, True),
        (pod("a", priority=CRITICAL), MEMORY | DISK, False),
        ({**pod("a"), "spec": {**pod("a")["spec"], "tolerations": TOLERATES}}, MEMORY, False),
        ({**pod("a"), "spec": {**pod("a")["spec"], "tolerations": TOLERATES}}, DISK, True),
        (pod("a"), frozenset({"PIDPressure"}), True),
    ],
)
def test_under_pressure_new_pods_are_refused(one: Object, conditions: Any, refusal: bool) -> None:
    found = refused(one, conditions)
    assert (found is not None) is refusal
    if found is not None:
        listed = " ".join(sorted(conditions))
        assert found[:2] == ("Evicted", f"The node had condition: [{listed}].")
        assert not found.disrupts


def limited(**limits: str) -> Object:
    found = pod("a", limits={"ephemeral-storage": limits.get("container", "0")})
    source: Object = {"sizeLimit": limits["volume"]} if "volume" in limits else {}
    found["spec"]["volumes"] = [{"name": "v", "emptyDir": source}]
    return found


@pytest.mark.parametrize(
    ("one", "volume", "container", "reason"),
    [
        (limited(volume="1Mi"), MI, 0, ""),
        (limited(volume="1Mi"), MI + 1, 0, 'Usage of EmptyDir volume "v" exceeds the limit "1Mi".'),
        (limited(container="2Mi"), MI, MI, ""),
        (limited(container="2Mi"), 0, 2 * MI + 1, "Pod ephemeral local storage usage exceeds the"
         " total limit of containers 2Mi."),
        (limited(container="2Mi"), MI, MI + 1, "Pod ephemeral local storage usage exceeds the"
         " total limit of containers 2Mi."),
        (limited(), 999 * MI, 999 * MI, ""),
    ],
)  # fmt: skip
def test_limits_of_the_disk_are_kept(one: Object, volume: int, container: int, reason: str) -> None:
    assert over_limits(one, {"v": volume}, {"c": container}) == reason


def test_only_pods_with_limits_are_watched() -> None:
    assert is_limited(limited(volume="1Mi"))
    assert is_limited(limited(container="1Mi"))
    assert not is_limited(limited())
    # Memory has a size of its own.
    in_memory = limited(volume="1Mi")
    in_memory["spec"]["volumes"][0]["emptyDir"]["medium"] = "Memory"
    assert not is_limited(in_memory)


def test_one_container_may_be_over_while_the_pod_is_not() -> None:
    two = limited(container="1Mi")
    more = {"name": "d", "resources": {"limits": {"ephemeral-storage": "9Mi"}}}
    two["spec"]["containers"].append(more)
    reason = over_limits(two, {}, {"c": MI + 1, "d": 0})
    assert reason == 'Container c exceeded its local ephemeral storage limit "1Mi".'
