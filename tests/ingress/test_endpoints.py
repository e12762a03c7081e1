"""The choice among pods: who failed is passed over, and tried again by one request alone."""

from __future__ import annotations

from meshkube.ingress.endpoints import Balancer, Endpoint
from meshkube.ingress.settings import Settings

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
