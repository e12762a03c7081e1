"""kopf, with two operators of our own."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

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
    ):
        with contextlib.suppress(client.ApiException):
            definitions.create_custom_resource_definition(each)
    custom = client.CustomObjectsApi(api)
    where = ("rows.example", "v1")
    wait_for(lambda: custom.list_cluster_custom_object(*where, "shelves"), 10, "the kind")
    return custom


@contextlib.contextmanager
def running(cluster: Cluster, namespace: str, operator: str, *flags: str) -> Iterator[None]:
    """The operator at work."""
    process = cluster.host.start(
        KOPF, "run", str(OPERATORS / f"{operator}.py"), f"--namespace={namespace}", *flags,
        log=f"{operator}.log", env={"KUBECONFIG": cluster.kubeconfig},
    )  # fmt: skip
    try:
        yield
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
