"""kopf, with operators of our own."""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config

from tests.lab.cluster import Cluster
from tests.lab.host import wait_for
from tests.support import manifests
from tests.support.custom import crd, version

pytestmark = pytest.mark.timeout(240)
KOPF = str(Path(sys.executable).parent / "kopf")
OPERATORS = Path(__file__).parent / "operators"
FREE = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
SHELF = version(
    schema={
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "properties": {"books": {"type": "array", "items": {"type": "string"}}},
            },
            "status": FREE,
        },
    },
    subresources={"status": {}},
)
PEERING = version(schema={"type": "object", "properties": {"status": FREE}})
OF_CLUSTER = {**PEERING, "subresources": {"status": {}}}
"""kopf writes its record to the sub-resource where there is one."""


@pytest.fixture
def api(here):
    with config.new_client_from_config(here.kubeconfig) as made:
        yield made


@pytest.fixture
def shelves(api):
    """The definitions that the operators need; how to reach shelves."""
    definitions = client.ApiextensionsV1Api(api)
    for each in (
        crd(SHELF, group="rows.example", plural="shelves", kind="Shelf"),
        crd(PEERING, group="kopf.dev", plural="kopfpeerings", kind="KopfPeering"),
        crd(
            OF_CLUSTER,
            group="kopf.dev",
            plural="clusterkopfpeerings",
            kind="ClusterKopfPeering",
            scope="Cluster",
        ),
    ):
        with contextlib.suppress(client.ApiException):
            definitions.create_custom_resource_definition(each)
    custom = client.CustomObjectsApi(api)
    where = ("rows.example", "v1")
    wait_for(lambda: custom.list_cluster_custom_object(*where, "shelves"), 10, "the kind")
    return custom


@contextlib.contextmanager
def running(
    cluster: Cluster, namespace: str, operator: str, *flags: str, **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """The operator at work in the namespace; in all of them where that is empty."""
    where = f"--namespace={namespace}" if namespace else "--all-namespaces"
    process = cluster.host.start(
        KOPF, "run", str(OPERATORS / f"{operator}.py"), where, *flags,
        log=f"{operator}.log", env={"KUBECONFIG": cluster.kubeconfig, **environment},
    )  # fmt: skip
    try:
        yield process
    finally:
        cluster.host.stop(process)


def shelf(name: str, *books: str) -> dict:
    return {
        "apiVersion": "rows.example/v1",
        "kind": "Shelf",
        "metadata": {"name": name},
        "spec": {"books": list(books)},
    }


def test_handlers_children_status_timers_and_finalizers(here, api, shelves, namespace):
    core = client.CoreV1Api(api)
    where = ("rows.example", "v1", namespace, "shelves")

    def status() -> dict:
        return shelves.get_namespaced_custom_object(*where, "novels").get("status", {})

    with running(here, namespace, "shelf", "--standalone"):
        shelves.create_namespaced_custom_object(*where, shelf("novels", "a", "b"))
        wait_for(lambda: status().get("create") == {"count": 2}, 60, "the handler's result")
        child = core.read_namespaced_config_map("novels", namespace)
        assert child.metadata.owner_references[0].kind == "Shelf"
        wait_for(lambda: status().get("dusted", 0) >= 2, 60, "the timer")
        patch = {"spec": {"books": ["a", "b", "c"]}}
        shelves.patch_namespaced_custom_object(*where, "novels", patch)
        wait_for(lambda: status().get("books") == 3, 60, "the field handler")
        wait_for(
            lambda: core.read_namespaced_config_map("novels", namespace).data["books"] == "a,b,c",
            20,
            "the update handler",
        )
        events = core.list_namespaced_event(namespace, field_selector="reason=Filled").items
        assert events[0].involved_object.name == "novels"
        shelves.delete_namespaced_custom_object(*where, "novels")
        wait_for(
            lambda: not shelves.list_namespaced_custom_object(*where)["items"], 60, "the finalizer"
        )
        assert core.read_namespaced_config_map("novels-gone", namespace)


def test_daemons_indexes_events_and_peering_records(here, api, shelves, namespace):
    core = client.CoreV1Api(api)
    peering = {"apiVersion": "kopf.dev/v1", "kind": "KopfPeering", "metadata": {"name": "row"}}
    peers = ("kopf.dev", "v1", namespace, "kopfpeerings")
    shelves.create_namespaced_custom_object(*peers, peering)
    wanted = {"rows.example/kept": "yes"}

    def beside(name: str) -> str | None:
        notes = core.read_namespaced_config_map(name, namespace).metadata.annotations or {}
        return notes.get("rows.example/beside")

    with running(here, namespace, "keeper", "--peering=row", "--priority=10"):
        for name in ("one", "two"):
            body = manifests.config_map(name)
            body["metadata"]["labels"] = wanted
            core.create_namespaced_config_map(namespace, body)
        wait_for(lambda: beside("two") == "one,two", 60, "the daemon and the index")
        pod = manifests.pod("seen")
        pod["metadata"]["labels"] = wanted
        core.create_namespaced_pod(namespace, pod)
        wait_for(
            lambda: core.list_namespaced_event(namespace, field_selector="reason=Seen").items,
            20,
            "the raw event",
        )
        known = shelves.get_namespaced_custom_object(*peers, "row")["status"]
        assert [peer["priority"] for peer in known.values()] == [10]
    known = shelves.get_namespaced_custom_object(*peers, "row").get("status")
    assert not known, "a peer that ends takes its record along"
    gone = client.V1DeleteOptions(grace_period_seconds=0)
    core.delete_namespaced_pod("seen", namespace, body=gone)


class Peers:
    """Operators that share a peering, and ConfigMaps that tell which of them is at work."""

    def __init__(self, here: Cluster, custom: Any, core: Any, namespace: str, scope: str) -> None:
        self.here, self.custom, self.core, self.namespace = here, custom, core, namespace
        self.of_cluster = scope == "ClusterKopfPeering"
        self.name = f"wardens-{namespace}"
        body = {"apiVersion": "kopf.dev/v1", "kind": scope, "metadata": {"name": self.name}}
        if self.of_cluster:
            custom.create_cluster_custom_object("kopf.dev", "v1", "clusterkopfpeerings", body)
        else:
            custom.create_namespaced_custom_object(
                "kopf.dev", "v1", namespace, "kopfpeerings", body
            )

    def warden(self, name: str, priority: int) -> Any:
        flags = (f"--peering={self.name}", f"--priority={priority}")
        namespace = "" if self.of_cluster else self.namespace
        return running(self.here, namespace, "warden", *flags, WARDEN=name)

    def priorities(self) -> list[int]:
        """Of those with a record in the peering, dead or alive."""
        where = ("kopf.dev", "v1")
        if self.of_cluster:
            found = self.custom.get_cluster_custom_object(*where, "clusterkopfpeerings", self.name)
        else:
            found = self.custom.get_namespaced_custom_object(
                *where, self.namespace, "kopfpeerings", self.name
            )
        return sorted(peer["priority"] for peer in (found.get("status") or {}).values())

    def takes(self, name: str) -> str:
        """Who takes a new ConfigMap of that name."""
        body = manifests.config_map(name)
        body["metadata"]["labels"] = {"rows.example/warded": "yes"}
        self.core.create_namespaced_config_map(self.namespace, body)

        def warden() -> str | None:
            made = self.core.read_namespaced_config_map(name, self.namespace)
            return (made.metadata.annotations or {}).get("rows.example/warden")

        wait_for(lambda: warden() is not None, 60, f"the warden of {name}")
        return warden() or ""

    def said(self) -> str:
        return (self.here.host.directory / "warden.log").read_text()


@pytest.mark.parametrize("scope", ["KopfPeering", "ClusterKopfPeering"])
def test_peers_of_lower_priority_rest_and_take_over(here, api, shelves, namespace, scope):
    peers = Peers(here, shelves, client.CoreV1Api(api), namespace, scope)
    with peers.warden("deputy", 1):
        assert peers.takes("first") == "deputy"
        before = peers.said().count("Pausing operations in favour")
        with peers.warden("chief", 10) as chief:
            wait_for(lambda: peers.priorities() == [1, 10], 60, "both in the peering")
            wait_for(
                lambda: peers.said().count("Pausing operations in favour") > before,
                60,
                "the deputy's rest",
            )
            tries = itertools.count()
            wait_for(lambda: peers.takes(f"try-{next(tries)}") == "chief", 60, "the chief's turn")
            assert [peers.takes(f"then-{number}") for number in range(3)] == ["chief"] * 3
            if peers.of_cluster:
                chief.kill()  # Its record stays behind, and is believed until its time is over.
        assert peers.takes("last") == "deputy"
        wait_for(lambda: peers.priorities() == [1], 60, "the chief's record to go")
    assert peers.priorities() == []
