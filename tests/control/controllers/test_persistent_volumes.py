"""Claims and volumes on the real API: found, bound, provisioned, grown, protected and reclaimed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from meshkube.api import kinds, meta
from meshkube.api.errors import ApiError
from meshkube.api.types import Object
from meshkube.control import volumes
from meshkube.control.auth.component_roles import CONTROLLER_ACCOUNTS
from tests.support.cluster import STORAGE, Cluster, cluster, node, pod

NODES = [node("n1"), node("n2")]
PV, PVC = kinds.PERSISTENT_VOLUME, kinds.PERSISTENT_VOLUME_CLAIM


def claim(name: str = "data", size: str = "1Gi", class_: str | None = "", **spec: Any) -> Object:
    """`class_=None` leaves the class out: the default one."""
    if class_ is not None:
        spec["storageClassName"] = class_
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": size}},
            **spec,
        },
    }


def volume(name: str = "pv1", size: str = "1Gi", labels: Any = None, **spec: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name, "labels": labels or {}},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "capacity": {"storage": size},
            "hostPath": {"path": f"/srv/{name}"},
            **spec,
        },
    }


def class_(name: str, provisioner: str = volumes.LOCAL_PATH, **more: Any) -> Object:
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": name},
        "provisioner": provisioner,
        **more,
    }


def user(name: str, *claims: str, **spec: Any) -> Object:
    wanted = [{"name": c, "persistentVolumeClaim": {"claimName": c}} for c in claims]
    return pod(name, volumes=wanted, **spec)


def get(c: Cluster, name: str, kind: Any = PVC) -> Object:
    found = c.caches.of(kind).get(f"default/{name}" if kind.namespaced else name)
    return found or {}


def phase(c: Cluster, name: str, kind: Any = PVC) -> str:
    found = get(c, name, kind)
    return volumes.phase(found) if found else ""


def bound_to(c: Cluster, name: str) -> str:
    return str(get(c, name).get("spec", {}).get("volumeName") or "")


def running(c: Cluster, name: str) -> bool:
    return (get(c, name, kinds.POD).get("status") or {}).get("phase") == "Running"


def why_pending(c: Cluster, name: str) -> str:
    for condition in (get(c, name, kinds.POD).get("status") or {}).get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return str(condition["message"])
    return ""


async def said(c: Cluster, name: str, reason: str, times: int = 1) -> str:
    """The message of the Event about an object, once there is one."""

    async def look() -> list[Object]:
        found = await c.events_of(reason)
        return [event for event in found if event["involvedObject"]["name"] == name]

    for _ in range(100):
        events = await look()
        if len(events) >= times:
            return str(events[-1]["message"])
    raise AssertionError(f"no Event {reason} about {name}")


async def test_a_claim_gets_the_smallest_volume_that_suits_it(tmp_path: Path) -> None:
    async with cluster(tmp_path, STORAGE) as c:
        await c.create(volume("large", "10Gi"))
        await c.create(volume("right", "2Gi"))
        await c.create(volume("small", "500Mi"))
        await c.create(volume("other", "1Gi", storageClassName="fast"))
        await c.create(volume("many", "1Gi", accessModes=["ReadWriteMany"]))
        await c.create(volume("blocks", "1Gi", volumeMode="Block"))
        await c.until(lambda: phase(c, "right", PV) == "Available")
        await c.create(claim(size="1Gi"))
        await c.until(lambda: phase(c, "data") == "Bound")
        assert bound_to(c, "data") == "right"
        assert get(c, "data")["status"]["capacity"] == {"storage": "2Gi"}
        assert get(c, "data")["status"]["accessModes"] == ["ReadWriteOnce"]
        marks = meta.annotations(get(c, "data"))
        assert marks["pv.kubernetes.io/bind-completed"] == "yes"
        assert marks["pv.kubernetes.io/bound-by-controller"] == "yes"
        await c.until(lambda: phase(c, "right", PV) == "Bound")
        assert get(c, "right", PV)["spec"]["claimRef"]["uid"] == meta.uid(get(c, "data"))
        assert phase(c, "large", PV) == "Available"


async def test_a_selector_chooses_among_volumes(tmp_path: Path) -> None:
    async with cluster(tmp_path, STORAGE) as c:
        await c.create(volume("plain"))
        await c.create(volume("fast", "5Gi", {"tier": "fast"}))
        await c.create(claim(selector={"matchLabels": {"tier": "fast"}}))
        await c.until(lambda: bound_to(c, "data") == "fast")


async def test_each_volume_goes_to_one_claim(tmp_path: Path) -> None:
    async with cluster(tmp_path, STORAGE) as c:
        for number in range(12):
            await c.create(claim(f"c{number}"))
        for number in range(12):
            await c.create(volume(f"v{number}"))
        await c.until(lambda: all(phase(c, f"c{n}") == "Bound" for n in range(12)))
        assert len({bound_to(c, f"c{n}") for n in range(12)}) == 12
        for number in range(12):
            name = bound_to(c, f"c{number}")
            assert get(c, name, PV)["spec"]["claimRef"]["name"] == f"c{number}"


async def test_a_claim_without_a_class_waits_for_a_volume_and_says_so(tmp_path: Path) -> None:
    async with cluster(tmp_path, STORAGE) as c:
        await c.create(claim())
        message = await said(c, "data", "FailedBinding")
        assert message == (
            "no persistent volumes available for this claim and no storage class is set"
        )
        await c.create(volume())
        await c.until(lambda: phase(c, "data") == "Bound")


async def test_a_volume_may_be_reserved_from_either_side(tmp_path: Path) -> None:
    async with cluster(tmp_path, STORAGE) as c:
        reserved = {"namespace": "default", "name": "data"}
        await c.create(volume("mine", "5Gi", claimRef=reserved))
        await c.create(volume("tighter", "1Gi"))
        await c.create(volume("named", "9Gi"))
        await c.until(lambda: phase(c, "mine", PV) == "Available")
        await c.create(claim("thief", size="5Gi"))
        await c.until(lambda: bound_to(c, "thief") == "named")
        await c.create(claim())
        await c.until(lambda: bound_to(c, "data") == "mine")
        await c.create(claim("asks", volumeName="tighter"))
        await c.until(lambda: phase(c, "asks") == "Bound")
        await c.create(claim("late", volumeName="tighter"))
        message = await said(c, "late", "FailedBinding")
        assert message == 'volume "tighter" already bound to a different claim.'
        assert phase(c, "late") == "Pending"


@pytest.mark.parametrize("named", [{}, {"volumeName": "mine"}])
async def test_a_volume_that_names_its_claim_serves_it_whatever_its_class(
    tmp_path: Path, named: dict[str, Any]
) -> None:
    """As where a claim is given the default class and its volume has none."""
    async with cluster(tmp_path, STORAGE) as c:
        await c.create(class_("fast", volumeBindingMode="WaitForFirstConsumer"))
        await c.create(volume("mine", claimRef={"namespace": "default", "name": "data"}))
        await c.create(claim(class_="fast", **named))
        await c.until(lambda: bound_to(c, "data") == "mine" and phase(c, "data") == "Bound")


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"size": "7Gi"}, "requested PV is too small"),
        ({"class_": "fast"}, "storageClassName does not match"),
        ({"accessModes": ["ReadWriteMany"]}, "incompatible accessMode"),
        ({"volumeMode": "Block"}, "incompatible volumeMode"),
    ],
)
async def test_a_volume_named_that_does_not_suit_is_not_bound(
    tmp_path: Path, asked: dict[str, Any], why: str
) -> None:
    async with cluster(tmp_path, STORAGE) as c:
        await c.create(volume("pv1"))
        await c.create(claim(volumeName="pv1", **asked))
        message = await said(c, "data", "VolumeMismatch")
        assert message == f'Cannot bind to requested volume "pv1": {why}'


async def test_a_volume_is_kept_after_its_claim_and_can_be_given_again(tmp_path: Path) -> None:
    async with cluster(tmp_path, STORAGE) as c:
        await c.create(volume())
        await c.create(claim())
        await c.until(lambda: phase(c, "data") == "Bound")
        await c.client.delete(PVC, "data", "default")
        await c.until(lambda: phase(c, "pv1", PV) == "Released")
        # Whatever is on it is somebody's: no other claim gets it...
        await c.create(claim("next"))
        await said(c, "next", "FailedBinding")
        # ... before a person says so.
        await c.client.patch(PV, "pv1", {"spec": {"claimRef": None}})
        await c.until(lambda: bound_to(c, "next") == "pv1")


async def test_a_volume_that_nothing_can_delete_fails(tmp_path: Path) -> None:
    async with cluster(tmp_path, STORAGE) as c:
        await c.create(volume("gone", persistentVolumeReclaimPolicy="Delete"))
        await c.create(claim())
        await c.until(lambda: phase(c, "data") == "Bound")
        await c.client.delete(PVC, "data", "default")
        await c.until(lambda: phase(c, "gone", PV) == "Failed")
        assert "no deletable volume plugin matched" in await said(c, "gone", "VolumeFailedDelete")
        assert "no deletable volume plugin" in get(c, "gone", PV)["status"]["message"]


async def test_a_claim_that_loses_its_volume_says_so(tmp_path: Path) -> None:
    async with cluster(tmp_path, STORAGE, nodes=NODES, scheduler=True) as c:
        await c.create(volume())
        await c.create(claim())
        await c.until(lambda: phase(c, "data") == "Bound")
        await c.client.delete(PV, "pv1")
        await c.client.patch(PV, "pv1", {"metadata": {"finalizers": None}})
        await c.until(lambda: phase(c, "data") == "Lost")
        assert "Bound claim has lost its PersistentVolume" in await said(c, "data", "ClaimLost")
        await c.create(user("p", "data"))
        reason = 'persistentvolumeclaim "data" bound to non-existent persistentvolume "pv1"'
        await c.until(lambda: reason in why_pending(c, "p"))


async def test_a_bound_volume_is_held_until_its_claim_is_gone(tmp_path: Path) -> None:
    async with cluster(tmp_path, STORAGE) as c:
        await c.create(volume())
        await c.create(claim())
        await c.until(lambda: phase(c, "pv1", PV) == "Bound")
        await c.client.delete(PV, "pv1")
        await c.until(lambda: meta.deleting(get(c, "pv1", PV)))
        assert phase(c, "pv1", PV) == "Bound"
        await c.client.delete(PVC, "data", "default")
        await c.until(lambda: not c.list(PV))


async def test_a_claim_in_use_is_held_until_its_pods_are_gone(tmp_path: Path) -> None:
    async with cluster(tmp_path, STORAGE, nodes=NODES, scheduler=True) as c:
        await c.create(claim(class_=None))
        await c.create(user("p", "data"))
        await c.until(lambda: running(c, "p"))
        await c.client.delete(PVC, "data", "default")
        await c.until(lambda: meta.deleting(get(c, "data")))
        await c.create(user("late", "data"))
        await c.until(lambda: "is being deleted" in why_pending(c, "late"))
        assert get(c, "data")
        await c.client.delete(kinds.POD, "p", "default")
        await c.until(lambda: not get(c, "data"))


async def test_a_claim_of_the_default_class_waits_for_a_pod_and_gets_a_volume_on_its_node(
    tmp_path: Path,
) -> None:
    async with cluster(tmp_path, STORAGE, nodes=NODES, scheduler=True) as c:
        await c.create(claim(class_=None))
        message = await said(c, "data", "WaitForFirstConsumer")
        assert message == "waiting for first consumer to be created before binding"
        await c.create(user("p", "data", nodeSelector={"kubernetes.io/hostname": "n2"}))
        await c.until(lambda: running(c, "p"))
        assert get(c, "p", kinds.POD)["spec"]["nodeName"] == "n2"
        made = get(c, bound_to(c, "data"), PV)
        assert meta.name(made) == f"pvc-{meta.uid(get(c, 'data'))}"
        assert made["spec"]["local"]["path"].startswith("/srv/volumes/pvc-")
        assert made["spec"]["persistentVolumeReclaimPolicy"] == "Delete"
        term = made["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"][0]
        assert term["matchExpressions"][0]["values"] == ["n2"]
        # The next pod follows the volume.
        await c.create(user("q", "data"))
        await c.until(lambda: running(c, "q"))
        assert get(c, "q", kinds.POD)["spec"]["nodeName"] == "n2"
        await c.create(user("r", "data", nodeSelector={"kubernetes.io/hostname": "n1"}))
        await c.until(lambda: "1 node(s) had volume node affinity conflict" in why_pending(c, "r"))
        assert "1 node(s) didn't match Pod's node affinity/selector" in why_pending(c, "r")


async def test_an_immediate_claim_needs_no_pod(tmp_path: Path) -> None:
    async with cluster(tmp_path, STORAGE, nodes=NODES, scheduler=True) as c:
        await c.create(class_("now", reclaimPolicy="Retain"))
        for number in range(4):
            await c.create(claim(f"c{number}", class_="now"))
        await c.until(lambda: all(phase(c, f"c{n}") == "Bound" for n in range(4)))
        made = [get(c, bound_to(c, f"c{n}"), PV) for n in range(4)]
        assert {v["spec"]["persistentVolumeReclaimPolicy"] for v in made} == {"Retain"}
        await c.create(user("p", "c0"))
        await c.until(lambda: running(c, "p"))


@pytest.mark.parametrize("binding", ["Immediate", "WaitForFirstConsumer"])
async def test_a_class_may_be_for_some_nodes_only(tmp_path: Path, binding: str) -> None:
    places = [{"matchLabelExpressions": [{"key": "kubernetes.io/hostname", "values": ["n2"]}]}]
    async with cluster(tmp_path, STORAGE, nodes=NODES, scheduler=True) as c:
        await c.create(class_("some", volumeBindingMode=binding, allowedTopologies=places))
        for name in ("a", "b"):
            await c.create(claim(name, class_="some"))
            await c.create(user(f"p-{name}", name))
        for name in ("p-a", "p-b"):
            await c.until(lambda name=name: running(c, name))
            assert get(c, name, kinds.POD)["spec"]["nodeName"] == "n2"


async def test_a_pod_waits_for_its_claims_and_says_why(tmp_path: Path) -> None:
    async with cluster(tmp_path, STORAGE, nodes=NODES, scheduler=True) as c:
        await c.create(user("p", "nowhere"))
        await c.until(lambda: why_pending(c, "p"))
        assert why_pending(c, "p") == (
            '0/2 nodes are available: persistentvolumeclaim "nowhere" not found. preemption: '
            "0/2 nodes are available: 2 Preemption is not helpful for scheduling."
        )
        await c.create(claim("nowhere"))
        await c.until(
            lambda: "pod has unbound immediate PersistentVolumeClaims" in why_pending(c, "p")
        )
        await c.create(volume())
        await c.until(lambda: running(c, "p"))


async def test_local_volumes_that_a_person_made_are_found_by_node(tmp_path: Path) -> None:
    def local(name: str, host: str) -> Object:
        terms = [{"matchExpressions": [
            {"key": "kubernetes.io/hostname", "operator": "In", "values": [host]}
        ]}]  # fmt: skip
        made = volume(name, storageClassName="disks", local={"path": f"/mnt/{name}"})
        del made["spec"]["hostPath"]
        made["spec"]["nodeAffinity"] = {"required": {"nodeSelectorTerms": terms}}
        return made

    async with cluster(tmp_path, STORAGE, nodes=NODES, scheduler=True) as c:
        await c.create(
            class_("disks", volumes.NO_PROVISIONER, volumeBindingMode="WaitForFirstConsumer")
        )
        await c.create(local("d1", "n1"))
        await c.create(claim("a", class_="disks"))
        await c.create(claim("b", class_="disks"))
        await c.create(user("p", "a", "b"))
        reason = "2 node(s) didn't find available persistent volumes to bind"
        await c.until(lambda: reason in why_pending(c, "p"))
        await c.create(local("d2", "n2"))
        await c.create(local("d3", "n2"))
        await c.until(lambda: running(c, "p"))
        assert get(c, "p", kinds.POD)["spec"]["nodeName"] == "n2"
        assert {bound_to(c, "a"), bound_to(c, "b")} == {"d2", "d3"}


async def test_a_claim_for_one_pod_only_is_not_shared(tmp_path: Path) -> None:
    async with cluster(tmp_path, STORAGE, nodes=NODES, scheduler=True) as c:
        await c.create(claim(class_=None, accessModes=["ReadWriteOncePod"]))
        await c.create(user("p", "data"))
        await c.until(lambda: running(c, "p"))
        await c.create(user("q", "data"))
        await c.until(lambda: "ReadWriteOncePod access mode" in why_pending(c, "q"))
        await c.client.delete(kinds.POD, "p", "default")
        await c.until(lambda: running(c, "q"))


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"volumeMode": "Block"}, "makes no volumes of mode Block"),
        ({"selector": {"matchLabels": {"a": "b"}}}, "claim.Spec.Selector is not supported"),
        ({"dataSource": {"kind": "PersistentVolumeClaim", "name": "x"}}, "data source"),
    ],
)
async def test_what_the_provisioner_cannot_make_is_said(
    tmp_path: Path, spec: dict[str, Any], why: str
) -> None:
    async with cluster(tmp_path, STORAGE, nodes=NODES) as c:
        await c.create(class_("now"))
        await c.create(claim(class_="now", **spec))
        message = await said(c, "data", "ProvisioningFailed")
        assert message.startswith('failed to provision volume with StorageClass "now": ')
        assert why in message


async def test_a_claim_that_its_provisioner_gives_back_is_said_at_the_pod(tmp_path: Path) -> None:
    async with cluster(tmp_path, STORAGE, nodes=NODES, scheduler=True) as c:
        await c.create(claim(class_=None, volumeMode="Block"))
        await c.create(user("p", "data"))
        reason = 'binding volumes: provisioning failed for PVC "data"'
        await c.until(lambda: reason in why_pending(c, "p"))
        assert not get(c, "p", kinds.POD)["spec"].get("nodeName")
        # Once there is a volume that somebody else made, the pod gets it.
        await c.create(volume(storageClassName="local-path", volumeMode="Block"))
        await c.until(lambda: running(c, "p"), timeout=15)
        assert bound_to(c, "data") == "pv1"


async def test_a_new_scheduler_goes_on_where_the_last_one_was(tmp_path: Path) -> None:
    """The node was chosen, and the leader gone before the pod was bound."""
    async with cluster(tmp_path, STORAGE, nodes=NODES, scheduler=True) as c:
        chosen = claim(class_=None)
        chosen["metadata"]["annotations"] = {volumes.SELECTED_NODE: "n2"}
        await c.create(chosen)
        await c.create(user("p", "data"))
        await c.until(lambda: running(c, "p"))
        assert get(c, "p", kinds.POD)["spec"]["nodeName"] == "n2"


async def test_a_class_that_is_missing_or_is_somebody_elses(tmp_path: Path) -> None:
    async with cluster(tmp_path, STORAGE, nodes=NODES) as c:
        await c.create(claim(class_="later"))
        message = await said(c, "data", "ProvisioningFailed")
        assert message == 'storageclass.storage.k8s.io "later" not found'
        await c.create(class_("later", "example.com/disks"))
        message = await said(c, "data", "ExternalProvisioning")
        assert "external provisioner 'example.com/disks'" in message
        marks = meta.annotations(get(c, "data"))
        assert marks["volume.kubernetes.io/storage-provisioner"] == "example.com/disks"
        await c.create(class_("by-hand", volumes.NO_PROVISIONER))
        await c.create(claim("hand", class_="by-hand"))
        message = await said(c, "hand", "ProvisioningFailed")
        assert message == "no volume plugin matched name: kubernetes.io/no-provisioner"


async def test_a_claim_grows_where_its_class_allows_it(tmp_path: Path) -> None:
    async with cluster(tmp_path, STORAGE, nodes=NODES, scheduler=True) as c:
        await c.create(class_("fixed"))
        for name, of in (("data", "local-path"), ("stays", "fixed")):
            await c.create(claim(name, class_=of))
        await c.create(user("p", "data", "stays"))
        await c.until(lambda: running(c, "p"))
        more = {"spec": {"resources": {"requests": {"storage": "3Gi"}}}}
        await c.change(PVC, "data", more)
        await c.until(lambda: get(c, "data")["status"]["capacity"] == {"storage": "3Gi"})
        assert get(c, bound_to(c, "data"), PV)["spec"]["capacity"] == {"storage": "3Gi"}
        with pytest.raises(ApiError) as refused:
            await c.change(PVC, "stays", more)
        assert refused.value.code == 403
        assert "only dynamically provisioned pvc can be resized" in refused.value.message


async def test_an_ephemeral_volume_goes_with_its_pod(tmp_path: Path) -> None:
    template = {"spec": claim(class_=None)["spec"], "metadata": {"labels": {"of": "p"}}}
    scratch = [{"name": "scratch", "ephemeral": {"volumeClaimTemplate": template}}]
    async with cluster(tmp_path, STORAGE, nodes=NODES, scheduler=True) as c:
        await c.create(claim("q-scratch"))
        await c.create(pod("p", volumes=scratch))
        await c.until(lambda: running(c, "p"))
        made = get(c, "p-scratch")
        assert meta.labels(made) == {"of": "p"}
        owner = meta.controller_of(made) or {}
        assert (owner["kind"], owner["uid"]) == ("Pod", meta.uid(get(c, "p", kinds.POD)))
        await c.create(pod("q", volumes=scratch))
        await c.until(lambda: "was not created for pod" in why_pending(c, "q"))


async def test_a_volume_of_a_node_waits_for_that_node_to_erase_it(tmp_path: Path) -> None:
    async with cluster(tmp_path, STORAGE, nodes=NODES, scheduler=True) as c:
        await c.create(claim(class_=None))
        await c.create(user("p", "data"))
        await c.until(lambda: running(c, "p"))
        name, place = bound_to(c, "data"), get(c, "p", kinds.POD)["spec"]["nodeName"]
        await c.client.delete(kinds.POD, "p", "default")
        await c.client.delete(PVC, "data", "default")
        await c.until(lambda: meta.deleting(get(c, name, PV)))
        held = [volumes.LOCAL_PATH]
        await c.until(lambda: get(c, name, PV)["metadata"]["finalizers"] == held)
        assert phase(c, name, PV) == "Released"
        # No node will ever say so: the volume goes with it.
        await c.client.delete(kinds.NODE, place)
        await c.until(lambda: not c.list(PV))


def test_every_storage_controller_has_an_account_of_its_own() -> None:
    assert all(controller.name in CONTROLLER_ACCOUNTS for controller in STORAGE)
