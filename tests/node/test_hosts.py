"""resolv.conf and /etc/hosts of a pod."""

from __future__ import annotations

from typing import Any

import pytest

from meshkube.api.types import Object
from meshkube.node.hosts import (
    Resolver,
    host_network_file,
    hostname,
    hosts_file,
    parse_resolver,
    resolver,
)

HOST = Resolver(("9.9.9.9",), ("lan",), ("timeout:2",))


def pod(**spec: Any) -> Object:
    return {"metadata": {"name": "p", "namespace": "ns"}, "spec": spec}


CLUSTER = Resolver(
    ("10.43.0.10",),
    ("ns.svc.cluster.local", "svc.cluster.local", "cluster.local", "lan"),
    ("ndots:5",),
)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, CLUSTER),
        ({"dnsPolicy": "ClusterFirst"}, CLUSTER),
        ({"dnsPolicy": "ClusterFirst", "hostNetwork": True}, HOST),
        ({"dnsPolicy": "ClusterFirstWithHostNet", "hostNetwork": True}, CLUSTER),
        ({"dnsPolicy": "Default"}, HOST),
        (
            {"dnsPolicy": "None", "dnsConfig": {"nameservers": ["1.1.1.1"], "searches": ["x"]}},
            Resolver(("1.1.1.1",), ("x",)),
        ),
        (
            {
                "dnsPolicy": "Default",
                "dnsConfig": {
                    "nameservers": ["1.1.1.1", "9.9.9.9", "2.2.2.2", "3.3.3.3"],
                    "options": [{"name": "timeout", "value": "5"}, {"name": "edns0"}],
                },
            },
            Resolver(("9.9.9.9", "1.1.1.1", "2.2.2.2"), ("lan",), ("timeout:5", "edns0")),
        ),
    ],
)
def test_the_policy_decides(spec: dict[str, Any], expected: Resolver) -> None:
    assert resolver(pod(**spec), HOST, "10.43.0.10", "cluster.local") == expected


def test_a_resolv_conf_is_read_and_written() -> None:
    text = "; comment\n# other\nnameserver 1.1.1.1\nsearch a b\noptions ndots:2 edns0\nbogus\n\n"
    found = parse_resolver(text)
    assert found == Resolver(("1.1.1.1",), ("a", "b"), ("ndots:2", "edns0"))
    assert parse_resolver(str(found)) == found


def test_hosts_names_the_pod() -> None:
    obj = pod(
        hostname="web",
        subdomain="set",
        hostAliases=[{"ip": "1.2.3.4", "hostnames": ["a", "b"]}],
    )
    text = hosts_file(obj, "10.0.0.2", "n1", "cluster.local")
    assert "10.0.0.2\tweb.set.ns.svc.cluster.local\tweb\n" in text
    assert "1.2.3.4\ta\tb\n" in text


def test_a_pod_in_the_hosts_network_has_the_hosts_names_and_its_own() -> None:
    obj = pod(hostNetwork=True, hostAliases=[{"ip": "1.2.3.4", "hostnames": ["a", "b"]}])
    text = host_network_file(obj, "127.0.0.1 localhost\n192.0.2.7 build\n")
    assert text.splitlines()[0] == "# Kubernetes-managed hosts file (host network)."
    assert "192.0.2.7 build\n" in text
    assert text.endswith("\n1.2.3.4\ta\tb\n")


def test_host_names_fit() -> None:
    long = pod()
    long["metadata"]["name"] = "x" * 62 + "-yyy"
    assert hostname(long, "n1") == "x" * 62
    assert hostname(pod(hostNetwork=True), "n1") == "n1"
