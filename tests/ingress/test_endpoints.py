"""The choice among pods: who failed is passed over, and tried again by one request alone."""

from __future__ import annotations

from meshkube.ingress.backends import Backend
from meshkube.ingress.endpoints import Balancer, CarefulBalancer, Endpoint, balancer_of
from meshkube.ingress.settings import Settings
from meshkube.ingress.via import Via

SETTINGS = Settings()


def pair() -> tuple[Balancer, Endpoint, Endpoint]:
    one, other = Endpoint(("10.0.0.1", 80)), Endpoint(("10.0.0.2", 80))
    return Balancer((one.address, other.address), [one, other]), one, other


def picked(balancer: Balancer, now: float, count: int = 10) -> list[Endpoint | None]:
    return [balancer.pick(now) for _ in range(count)]


def test_a_pod_that_failed_is_passed_over_for_a_while():
    balancer, bad, good = pair()
    bad.failed(100, SETTINGS)
    assert set(picked(balancer, 100 + SETTINGS.eject / 2)) == {good}
    assert bad in picked(balancer, 101 + SETTINGS.eject)


def test_one_request_tries_it_again_while_others_go_elsewhere():
    balancer, bad, good = pair()
    bad.failed(100, SETTINGS)
    later = 101 + SETTINGS.eject
    attempt = object()
    bad.attempts.add(attempt)
    assert set(picked(balancer, later)) == {good}
    bad.attempts.discard(attempt)
    bad.connected()
    assert set(picked(balancer, later)) == {bad, good}


def test_many_failures_at_once_are_one_misfortune():
    _, bad, _ = pair()
    for _ in range(20):
        bad.failed(100, SETTINGS)
    assert bad.ejected_until == 100 + SETTINGS.eject
    bad.failed(bad.ejected_until, SETTINGS)
    assert bad.ejected_until == 100 + 3 * SETTINGS.eject


def test_with_nobody_else_a_failed_pod_is_tried_all_the_same():
    alone = Endpoint(("10.0.0.1", 80))
    balancer = Balancer((alone.address,), [alone])
    alone.failed(100, SETTINGS)
    alone.attempts.add(object())
    assert balancer.pick(100) is alone


def spared(settings: Settings, draw: float, *names: str) -> CarefulBalancer:
    endpoints = [Endpoint((name, 80)) for name in names]
    addresses = tuple(endpoint.address for endpoint in endpoints)
    return CarefulBalancer(addresses, endpoints, settings, lambda: draw)


def test_a_new_pod_gets_its_share_bit_by_bit():
    for draw, at, expected in (
        (0.5, 104.0, {"a"}),
        (0.5, 106.0, {"a", "b"}),
        (0.5, 120.0, {"a", "b"}),
    ):
        balancer = spared(Settings(slow_start=10), draw, "a", "b")
        balancer.endpoints[1].since = 100.0
        picked = {balancer.pick(at).address[0] for _ in range(4)}
        assert picked == expected
    alone = spared(Settings(slow_start=10), 0.9, "b")
    alone.endpoints[0].since = 100.0
    assert alone.pick(100.0) is alone.endpoints[0]


def test_a_pod_with_enough_to_do_is_passed_over_and_in_the_end_nobody_is_asked():
    balancer = spared(Settings(pod_requests=2), 0.0, "a", "b")
    one, two = balancer.endpoints
    one.active = 2
    assert {balancer.pick(0.0) for _ in range(4)} == {two}
    two.active = 2
    assert balancer.pick(0.0) is None


def test_pods_that_come_to_others_are_new_and_the_first_are_not():
    settings = Settings(slow_start=10)
    kept: dict[tuple[str, int], Endpoint] = {}

    def at(address: tuple[str, int], via: Via) -> Endpoint:
        return kept.setdefault(address, Endpoint(address))

    backend = Backend("shop", "web", 80, addresses=(("a", 80),))
    balancer_of(backend, at, settings, 50.0)
    assert kept["a", 80].since == 0.0
    backend.addresses = (("a", 80), ("b", 80))
    balancer_of(backend, at, settings, 60.0)
    assert (kept["a", 80].since, kept["b", 80].since) == (0.0, 60.0)
