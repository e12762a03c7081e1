"""Each field of an Ingress, as its schema lists them, does what its reference says: shown by real
requests. A field that Kubernetes adds fails here until somebody says what becomes of it."""

from collections.abc import Iterator
from typing import Any

import pytest

from meshkube.api import kinds
from meshkube.api.schemas import Node, schema_for
from meshkube.ingress.findings import findings, has_status, load_balancer
from meshkube.ingress.routes import compile
from tests.support.ingress import (
    Origin,
    client,
    endpoint,
    ingress,
    ingress_class,
    response,
    running_proxy,
    service,
    slice_,
)

Spec = dict[str, Any]


def backend(service: str, **port: Any) -> Spec:
    return {"service": {"name": service, "port": port or {"number": 80}}}


def rule(path: str, host: str = "a.io", type: str = "Prefix", **more: Any) -> Spec:
    one = {"path": path, "pathType": type, "backend": backend("one"), **more}
    return {"host": host, "http": {"paths": [one]}} if host else {"http": {"paths": [one]}}


OTHER = {"resource": {"apiGroup": "x.io", "kind": "Bucket", "name": "files"}}

# Field -> a spec that has it, and requests: host, path and who answers (a Service, or a status).
PROOFS: dict[str, tuple[Spec, list[tuple[str, str, str | int]]]] = {
    "ingressClassName": (
        {"ingressClassName": "another", "rules": [rule("/")]},
        [("a.io", "/", 404)],
    ),
    "defaultBackend.service.name": (
        {"defaultBackend": backend("two"), "rules": [rule("/x")]},
        [("a.io", "/x", "one"), ("a.io", "/y", "two")],
    ),
    "defaultBackend.service.port.number": (
        {"defaultBackend": backend("two")},
        [("b.io", "/", "two")],
    ),
    "defaultBackend.service.port.name": (
        {"defaultBackend": backend("two", name="web")},
        [("b.io", "/", "two")],
    ),
    "rules.host": (
        {"rules": [rule("/"), rule("/", "*.w.io", backend=backend("two"))]},
        [("a.io", "/", "one"), ("x.w.io", "/", "two"), ("w.io", "/", 404), ("x.y.w.io", "/", 404)],
    ),
    "rules.http.paths.path": (
        {"rules": [rule("/a/b")]},
        [("a.io", "/a/b", "one"), ("a.io", "/a/b/c", "one"), ("a.io", "/a/bc", 404)],
    ),
    "rules.http.paths.pathType": (
        {"rules": [rule("/a", type="Exact"), rule("/i", type="ImplementationSpecific")]},
        [("a.io", "/a", "one"), ("a.io", "/a/", 404), ("a.io", "/i/x", "one")],
    ),
    "rules.http.paths.backend.service.name": (
        {"rules": [rule("/", backend=backend("two"))]},
        [("a.io", "/", "two")],
    ),
    "rules.http.paths.backend.service.port.number": (
        {"rules": [rule("/", backend=backend("one", number=81)), rule("/80")]},
        [("a.io", "/80", "one"), ("a.io", "/", 503)],
    ),
    "rules.http.paths.backend.service.port.name": (
        {"rules": [rule("/", backend=backend("one", name="web"))]},
        [("a.io", "/", "one")],
    ),
}  # fmt: skip
RESOURCE = {"apiGroup", "kind", "name"}
# Shown elsewhere, or not: with the reason.
ELSEWHERE = {
    "tls.hosts": "test_tls.py: the server name chooses the most exact certificate",
    "tls.secretName": "test_tls.py, test_controller.py: the Secret's certificate is served",
}


def leaves(node: Node, name: str = "") -> Iterator[str]:
    """The paths of the fields that hold values."""
    while node.type == "array" and node.items is not None:
        node = node.items
    if node.type != "object":
        yield name
        return
    for each, child in node.fields.items():
        yield from leaves(child, f"{name}.{each}".lstrip("."))


def spec_fields() -> set[str]:
    spec = schema_for(kinds.INGRESS).field("spec")
    assert spec is not None
    return set(leaves(spec))


def test_no_field_is_forgotten() -> None:
    resources = {name for name in spec_fields() if ".resource." in name}
    assert {name.rpartition(".")[2] for name in resources} == RESOURCE
    assert spec_fields() - resources == PROOFS.keys() | ELSEWHERE.keys()
    status = schema_for(kinds.INGRESS).field("status")
    assert status is not None
    assert {name.removeprefix("loadBalancer.ingress.") for name in leaves(status)} == {
        "ip", "hostname", "ports.error", "ports.port", "ports.protocol",
    }  # fmt: skip


@pytest.mark.parametrize("field", PROOFS)
async def test_each_field_of_the_spec(field: str) -> None:
    spec, asked = PROOFS[field]
    item = ingress("web")
    item["spec"].update(spec)
    ports = [{"name": "web", "port": 80}]
    async with Origin(response(b"one")) as one, Origin(response(b"two")) as two:
        table = compile(
            [item],
            [ingress_class(), ingress_class("another", ours=False)],
            [service("one", ports), service("two", ports)],
            [
                slice_(name, [endpoint("127.0.0.1")], origin.port, port_name="web")
                for name, origin in (("one", one), ("two", two))
            ],
        )
        async with running_proxy(table) as (_, port), client(port) as c:
            for host, target, expected in asked:
                got = await c.ask(f"GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
                answered: str | int = got.body.decode() if got.status == 200 else got.status
                assert answered == expected, (host, target)


@pytest.mark.parametrize(
    "spec",
    [{"defaultBackend": OTHER}, {"rules": [rule("/", backend=OTHER)]}],
    ids=["default backend", "path"],
)
async def test_a_resource_for_backend_is_a_503_and_an_event(spec: Spec) -> None:
    item = ingress("web")
    item["spec"].update(spec)
    table = compile([item], [ingress_class()], [], [])
    async with running_proxy(table) as (_, port), client(port) as c:
        got = await c.ask(b"GET / HTTP/1.1\r\nHost: a.io\r\n\r\n")
        assert got.status == 503
        assert b"Bucket files, and only Services are served" in got.body
    (found,) = findings(table, "shop/web", item, {})
    assert found.reason == "BackendMissing"


def test_the_status_says_where_it_is_served() -> None:
    wanted = load_balancer(["192.0.2.7", "2001:db8::7", "lb.example"])
    assert wanted == {
        "ingress": [{"ip": "192.0.2.7"}, {"ip": "2001:db8::7"}, {"hostname": "lb.example"}]
    }
    assert has_status({"status": {"loadBalancer": wanted}}, wanted)
    assert not has_status({"status": {"loadBalancer": load_balancer(["192.0.2.8"])}}, wanted)
