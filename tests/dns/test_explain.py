"""How an answer comes about, said by the code that gives it."""

from __future__ import annotations

import pytest

from meshkube.dns.explain import World, candidates, pod_search, question
from meshkube.dns.settings import Settings
from tests.dns.conftest import endpoint, service, slice_of

SEARCH = pod_search("shop", "cluster.local")


@pytest.fixture
def world() -> World:
    return World(
        [
            service("web", clusterIP="10.43.0.7"),
            service("db", clusterIP="None"),
            service("empty", clusterIP="None"),
            service("ext", type="ExternalName", externalName="example.org"),
        ],
        [slice_of("db", endpoint("10.42.0.5", hostname="db-0"))],
        domain="cluster.local",
        networks=["10.43.0.0/16", "10.42.0.0/16"],
        address="10.43.0.10",
        settings=Settings(
            hosts=(("192.0.2.5", ("nas.lan",)),),
            stub_domains={"corp.example": (("10.0.0.1", 53), ("10.0.0.2", 5353))},
        ),
        namespaces={"shop"},
    )


@pytest.mark.parametrize(
    ("name", "type", "outcome", "why"),
    [
        ("web.shop.svc.cluster.local", "A", "NOERROR", "Service shop/web (ClusterIP)"),
        ("web.shop.svc.cluster.local", "AAAA", "NODATA", "Service shop/web (ClusterIP) has no"),
        ("db-0.db.shop.svc.cluster.local", "A", "NOERROR", "Service shop/db (headless)"),
        ("db-1.db.shop.svc.cluster.local", "A", "NXDOMAIN", "Service shop/db has no such"),
        ("empty.shop.svc.cluster.local", "A", "NXDOMAIN", "no ready endpoint"),
        ("nothing.shop.svc.cluster.local", "A", "NXDOMAIN", "there is no Service shop/nothing"),
        ("shop.svc.cluster.local", "A", "NODATA", "only because of names below"),
        ("10-42-0-5.shop.pod.cluster.local", "A", "NOERROR", "its address (pods: insecure)"),
        ("10-42-0-5.none.pod.cluster.local", "A", "NXDOMAIN", "the cluster has no such name"),
        ("nas.lan", "A", "NOERROR", "ConfigMap kube-system/meshkube-dns, hosts"),
        (
            "git.corp.example",
            "A",
            "forwarded",
            "10.0.0.2:5353 is asked (stub domain corp.ex",
        ),
        ("other.cluster.local", "A", "NXDOMAIN", "the cluster has no such name"),
        ("ext.shop.svc.cluster.local", "A", "forwarded", "is an alias of example.org"),
        ("example.org", "A", "forwarded", "an upstream server"),
        ("7.0.43.10.in-addr.arpa", "PTR", "NOERROR", "Service shop/web"),
    ],
)
def test_every_outcome_has_its_reason(
    world: World, name: str, type: str, outcome: str, why: str
) -> None:
    step = world.ask(name, type)
    assert step.outcome == outcome
    assert why in step.why


def test_the_walk_of_a_pod_ends_at_the_first_answer(world: World) -> None:
    steps = world.walk("db.shop", "A", SEARCH)
    assert [(step.name, step.outcome) for step in steps] == [
        ("db.shop.shop.svc.cluster.local", "NXDOMAIN"),
        ("db.shop.svc.cluster.local", "NOERROR"),
    ]
    assert steps[-1].answers == ("db.shop.svc.cluster.local. 5 IN A 10.42.0.5",)


def test_names_with_many_dots_or_a_final_one_are_tried_as_they_are() -> None:
    assert candidates("a.b.c.d.e.f", SEARCH, 5)[0] == "a.b.c.d.e.f"
    assert candidates("web", SEARCH, 5)[-1] == "web"
    assert candidates("web.", SEARCH, 5) == ["web"]


@pytest.mark.parametrize(("name", "type"), [("web", "NOTYPE"), ("a" * 64, "A")])
def test_a_bad_question_is_refused_with_a_reason(world: World, name: str, type: str) -> None:
    with pytest.raises(ValueError, match=r"NOTYPE|label"):
        world.ask(name, type)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (("web",), ("web", "A")),
        (("web", "srv"), ("web", "srv")),
        (("10.43.0.7",), ("7.0.43.10.in-addr.arpa.", "PTR")),
        (("10.43.0.7", "A"), ("10.43.0.7", "A")),
        ((".",), (".", "A")),
    ],
)
def test_a_question_is_a_name_or_an_address(given: tuple[str, ...], meant: tuple[str, str]) -> None:
    assert question(*given) == meant


@pytest.mark.parametrize("text", ["", "http://web/", "web:80", "a b", "user@web"])
def test_what_is_no_name_is_told_apart(text: str) -> None:
    with pytest.raises(ValueError, match="is no name such as"):
        question(text)
