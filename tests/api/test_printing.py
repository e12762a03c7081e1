from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshkube.api import kinds
from meshkube.api.meta import timestamp
from meshkube.api.printing import human_duration, printer_for, table

NOW = datetime(2026, 1, 10, 12, 0, 0, tzinfo=UTC)
MINUTE, HOUR, DAY, YEAR = 60, 3600, 86400, 365 * 86400


def ago(seconds: float) -> str:
    return timestamp(NOW - timedelta(seconds=seconds))


def named(name: str, **rest: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "creationTimestamp": ago(300)}, **rest}


def row(kind: kinds.Kind, obj: dict[str, Any]) -> dict[str, Any]:
    """Cells by the name of their column."""
    made = table(kind, [obj], NOW)
    names = [column["name"] for column in made["columnDefinitions"]]
    return dict(zip(names, made["rows"][0]["cells"], strict=True))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "<invalid>"),
        (-1, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (125, "2m5s"),
        (599, "9m59s"),
        (600, "10m"),
        (3 * HOUR - 1, "179m"),
        (3 * HOUR, "3h"),
        (7 * HOUR + 59 * MINUTE, "7h59m"),
        (8 * HOUR, "8h"),
        (2 * DAY - 1, "47h"),
        (2 * DAY, "2d"),
        (2 * DAY + 5 * HOUR, "2d5h"),
        (8 * DAY, "8d"),
        (2 * YEAR - 1, "729d"),
        (2 * YEAR, "2y"),
        (2 * YEAR + 3 * DAY, "2y3d"),
        (8 * YEAR, "8y"),
    ],
)
def test_ages_are_more_precise_the_shorter_they_are(seconds: int, text: str) -> None:
    assert human_duration(seconds) == text


@given(st.integers(0, 20 * YEAR))
def test_no_age_takes_more_than_seven_characters(seconds: int) -> None:
    assert len(human_duration(seconds)) <= 7


@pytest.mark.parametrize("kind", kinds.KINDS, ids=lambda kind: kind.resource)
def test_every_column_says_what_it_shows(kind: kinds.Kind) -> None:
    assert all(column.description for column in printer_for(kind).columns)


@pytest.mark.parametrize("kind", kinds.KINDS, ids=lambda kind: kind.resource)
@pytest.mark.parametrize("obj", [{}, {"metadata": {}, "spec": None, "status": None}])
def test_an_object_with_nothing_in_it_still_has_a_full_row(
    kind: kinds.Kind, obj: dict[str, Any]
) -> None:
    cells = table(kind, [obj], NOW)["rows"][0]["cells"]
    assert len(cells) == len(printer_for(kind).columns)


def test_a_kind_without_columns_of_its_own_shows_name_and_creation() -> None:
    widget = kinds.Kind("example.com", "v1", "Widget", "widgets", "widget")
    made = table(widget, [named("w")], NOW)
    assert [column["name"] for column in made["columnDefinitions"]] == ["Name", "Created At"]
    assert made["rows"][0]["cells"] == ["w", "2026-01-10T11:55:00Z"]


def test_a_table_carries_what_was_asked_for_with_each_row() -> None:
    obj = named("ns", status={"phase": "Active"})
    rows = {
        include: table(kinds.NAMESPACE, [obj], NOW, include_object=include)["rows"][0]["object"]
        for include in ("Metadata", "None", "Object")
    }
    assert rows["Metadata"] == {
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": obj["metadata"],
    }
    assert rows["None"] is None
    assert rows["Object"] == obj


def test_a_table_carries_the_list_metadata_and_the_version_asked_for() -> None:
    made = table(
        kinds.POD, [], NOW, metadata={"resourceVersion": "7"}, version="v1beta1", headers=False
    )
    assert made == {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1beta1",
        "metadata": {"resourceVersion": "7"},
        "columnDefinitions": None,
        "rows": [],
    }


# Pods


def state(name: str, **state: Any) -> dict[str, Any]:
    return {"type": name, **state}


def container(name: str = "c", *, ready: bool = False, **status: Any) -> dict[str, Any]:
    return {"name": name, "ready": ready, "restartCount": 0, **status}


RUNNING = container(ready=True, state={"running": {}})
WAITING = container(state={"waiting": {"reason": "CrashLoopBackOff"}})
DONE = container(state={"terminated": {"exitCode": 0, "reason": "Completed"}})


def pod(
    *statuses: dict[str, Any],
    phase: str = "Running",
    init: list[dict[str, Any]] | None = None,
    sidecars: tuple[str, ...] = (),
    conditions: tuple[str, ...] = (),
    deleted: bool = False,
    **status: Any,
) -> dict[str, Any]:
    made = named("p")
    made["spec"] = {
        "containers": [{"name": one["name"]} for one in statuses] or [{"name": "c"}],
        "initContainers": [
            {
                "name": one["name"],
                **({"restartPolicy": "Always"} if one["name"] in sidecars else {}),
            }
            for one in init or ()
        ],
    }
    made["status"] = {
        "phase": phase,
        "containerStatuses": list(statuses),
        "initContainerStatuses": init or [],
        "conditions": [{"type": one, "status": "True"} for one in conditions],
        **status,
    }
    if deleted:
        made["metadata"]["deletionTimestamp"] = ago(1)
    return made


INIT_DONE = container("i", state={"terminated": {"exitCode": 0, "reason": "Completed"}})
INIT_RUNS = container("j", state={"running": {}})


@pytest.mark.parametrize(
    ("obj", "ready", "status"),
    [
        (pod(phase="Pending"), "0/1", "Pending"),
        (pod(RUNNING), "1/1", "Running"),
        (pod(RUNNING, container("d", state={"running": {}})), "1/2", "Running"),
        (pod(WAITING), "0/1", "CrashLoopBackOff"),
        (pod(RUNNING, {**WAITING, "name": "d"}), "1/2", "CrashLoopBackOff"),
        (pod(DONE, phase="Succeeded"), "0/1", "Completed"),
        (pod(DONE, {**RUNNING, "name": "d"}), "1/2", "NotReady"),
        (pod(DONE, {**RUNNING, "name": "d"}, conditions=("Ready",)), "1/2", "Running"),
        (pod(container(state={"terminated": {"exitCode": 3}})), "0/1", "ExitCode:3"),
        (pod(container(state={"terminated": {"exitCode": 9, "signal": 9}})), "0/1", "Signal:9"),
        (
            pod(container(state={"terminated": {"exitCode": 1, "reason": "Error"}})),
            "0/1",
            "Error",
        ),
        (pod(RUNNING, deleted=True), "1/1", "Terminating"),
        (pod(DONE, phase="Succeeded", deleted=True), "0/1", "Completed"),
        (pod(RUNNING, deleted=True, reason="NodeLost"), "1/1", "Unknown"),
        (pod(phase="Failed", reason="Evicted"), "0/1", "Evicted"),
        (pod(phase="Pending", init=[INIT_RUNS, INIT_DONE]), "0/1", "Init:0/2"),
        (pod(phase="Pending", init=[INIT_DONE, INIT_RUNS]), "0/1", "Init:1/2"),
        (
            pod(
                container(state={"waiting": {"reason": "PodInitializing"}}),
                phase="Pending",
                init=[container("i", state={"waiting": {"reason": "ImagePullBackOff"}})],
            ),
            "0/1",
            "Init:ImagePullBackOff",
        ),
        (
            pod(init=[container("i", state={"terminated": {"exitCode": 1, "reason": "Error"}})]),
            "0/1",
            "Init:Error",
        ),
        (
            pod(init=[container("i", state={"terminated": {"exitCode": 2}})]),
            "0/1",
            "Init:ExitCode:2",
        ),
        (
            pod(
                RUNNING,
                init=[container("i", ready=True, started=True, state={"running": {}})],
                sidecars=("i",),
            ),
            "2/2",
            "Running",
        ),
        (
            pod(
                phase="Pending",
                conditions=(),
                init=[container("i", started=False, state={"running": {}})],
                sidecars=("i",),
            ),
            "0/2",
            "Init:0/1",
        ),
    ],
)
def test_a_pod_shows_what_matters_about_it(obj: dict[str, Any], ready: str, status: str) -> None:
    cells = row(kinds.POD, obj)
    assert (cells["Ready"], cells["Status"]) == (ready, status)


def test_a_gated_pod_says_so() -> None:
    obj = pod(phase="Pending")
    obj["status"]["conditions"] = [
        {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}
    ]
    assert row(kinds.POD, obj)["Status"] == "SchedulingGated"


def test_restarts_say_how_long_ago_the_last_one_was() -> None:
    def restarted(name: str, count: int, seconds: float) -> dict[str, Any]:
        ended = {"terminated": {"exitCode": 1, "finishedAt": ago(seconds)}}
        return {**RUNNING, "name": name, "restartCount": count, "lastState": ended}

    assert row(kinds.POD, pod(RUNNING))["Restarts"] == "0"
    both = pod(restarted("a", 2, 3600), restarted("b", 1, 5))
    assert row(kinds.POD, both)["Restarts"] == "3 (5s ago)"
    assert row(kinds.POD, pod({**RUNNING, "restartCount": 1}))["Restarts"] == "1"
    # Once the pod is initialized, restarts of init containers no longer count.
    after = pod(RUNNING, init=[{**INIT_DONE, "restartCount": 4}])
    assert row(kinds.POD, after)["Restarts"] == "0"


def test_a_pod_is_wide_where_it_runs() -> None:
    obj = pod(RUNNING, podIP="10.42.0.9", podIPs=[{"ip": "10.42.0.9"}], nominatedNodeName="n2")
    obj["spec"]["nodeName"] = "n1"
    obj["spec"]["readinessGates"] = [{"conditionType": "a"}, {"conditionType": "b"}]
    obj["status"]["conditions"] = [{"type": "a", "status": "True"}]
    cells = row(kinds.POD, obj)
    assert (cells["IP"], cells["Node"]) == ("10.42.0.9", "n1")
    assert (cells["Nominated Node"], cells["Readiness Gates"]) == ("n2", "1/2")
    bare = row(kinds.POD, pod(phase="Pending"))
    assert {bare[name] for name in ("IP", "Node", "Nominated Node", "Readiness Gates")} == {
        "<none>"
    }


@pytest.mark.parametrize(
    ("phase", "shown"), [("Succeeded", True), ("Failed", True), ("Running", False)]
)
def test_a_pod_that_ended_is_marked_completed(phase: str, shown: bool) -> None:
    made = table(kinds.POD, [pod(phase=phase)], NOW)["rows"][0]
    assert ("conditions" in made) is shown
    if shown:
        assert made["conditions"][0]["reason"] == phase
        assert made["conditions"][0]["type"] == "Completed"


# The other kinds


def test_a_node_shows_status_roles_and_addresses() -> None:
    obj = named(
        "n1",
        spec={"unschedulable": True},
        status={
            "conditions": [{"type": "Ready", "status": "True"}],
            "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
            "nodeInfo": {"kubeletVersion": "v1.33.0", "osImage": "Debian"},
        },
    )
    obj["metadata"]["labels"] = {
        "node-role.kubernetes.io/control-plane": "",
        "kubernetes.io/role": "worker",
        "node-role.kubernetes.io/": "",
    }
    cells = row(kinds.NODE, obj)
    assert cells["Status"] == "Ready,SchedulingDisabled"
    assert cells["Roles"] == "control-plane,worker"
    assert (cells["Internal-IP"], cells["External-IP"]) == ("10.0.0.1", "<none>")
    assert (cells["OS-Image"], cells["Kernel-Version"]) == ("Debian", "<unknown>")
    lost = named("n2", status={"conditions": [{"type": "Ready", "status": "Unknown"}]})
    assert row(kinds.NODE, lost)["Status"] == "NotReady"
    assert row(kinds.NODE, named("n3"))["Status"] == "Unknown"
    assert row(kinds.NODE, named("n3"))["Roles"] == "<none>"


@pytest.mark.parametrize(
    ("spec", "balancer", "expected"),
    [
        ({"clusterIP": "10.43.0.1"}, [], ("ClusterIP", "10.43.0.1", "<none>", "<none>")),
        ({"clusterIP": "None"}, [], ("ClusterIP", "None", "<none>", "<none>")),
        (
            {
                "type": "NodePort",
                "clusterIP": "10.43.0.2",
                "ports": [{"port": 80, "nodePort": 30080}],
            },
            [],
            ("NodePort", "10.43.0.2", "<none>", "80:30080/TCP"),
        ),
        (
            {"type": "LoadBalancer", "ports": [{"port": 53, "protocol": "UDP"}, {"port": 80}]},
            [],
            ("LoadBalancer", "<none>", "<pending>", "53/UDP,80/TCP"),
        ),
        (
            {"type": "LoadBalancer", "externalIPs": ["9.9.9.9"]},
            [{"ip": "1.2.3.4"}, {"hostname": "lb.example"}],
            ("LoadBalancer", "<none>", "1.2.3.4,lb.example,9.9.9.9", "<none>"),
        ),
        (
            {"type": "ExternalName", "externalName": "example.com"},
            [],
            ("ExternalName", "<none>", "example.com", "<none>"),
        ),
    ],
)
def test_a_service_shows_where_it_is_reached(
    spec: dict[str, Any], balancer: list[dict[str, str]], expected: tuple[str, ...]
) -> None:
    obj = named("s", spec=spec, status={"loadBalancer": {"ingress": balancer}})
    cells = row(kinds.SERVICE, obj)
    shown = tuple(cells[name] for name in ("Type", "Cluster-IP", "External-IP", "Port(s)"))
    assert shown == expected
    assert cells["Selector"] == "<none>"


def test_a_service_selector_is_sorted() -> None:
    obj = named("s", spec={"selector": {"b": "2", "a": "1"}})
    assert row(kinds.SERVICE, obj)["Selector"] == "a=1,b=2"


def test_endpoints_show_three_and_count_the_rest() -> None:
    addresses = [{"ip": f"10.42.0.{i}"} for i in range(1, 6)]
    obj = named("e", subsets=[{"addresses": addresses, "ports": [{"port": 80}]}])
    assert row(kinds.ENDPOINTS, obj)["Endpoints"] == (
        "10.42.0.1:80,10.42.0.2:80,10.42.0.3:80 + 2 more..."
    )
    assert row(kinds.ENDPOINTS, named("e"))["Endpoints"] == "<none>"
    v6 = named("e", subsets=[{"addresses": [{"ip": "fd00::1"}], "ports": [{"port": 80}]}])
    assert row(kinds.ENDPOINTS, v6)["Endpoints"] == "[fd00::1]:80"
    portless = named("e", subsets=[{"addresses": [{"ip": "10.42.0.1"}]}])
    assert row(kinds.ENDPOINTS, portless)["Endpoints"] == "10.42.0.1"


def test_an_endpoint_slice_shows_ports_and_addresses() -> None:
    obj = named(
        "s",
        addressType="IPv4",
        ports=[{"port": 80}, {"name": "any"}],
        endpoints=[{"addresses": ["10.42.0.1"]}, {"addresses": ["10.42.0.2"]}],
    )
    cells = row(kinds.ENDPOINT_SLICE, obj)
    assert (cells["Ports"], cells["Endpoints"]) == ("80,*", "10.42.0.1,10.42.0.2")
    assert row(kinds.ENDPOINT_SLICE, named("s"))["Ports"] == "<unset>"


def test_an_ingress_shows_class_hosts_and_ports() -> None:
    obj = named(
        "i",
        spec={
            "ingressClassName": "meshkube",
            "tls": [{}],
            "rules": [{"host": "a.example"}, {}, {"host": "b.example"}],
        },
        status={"loadBalancer": {"ingress": [{"ip": "10.0.0.1"}]}},
    )
    assert list(row(kinds.INGRESS, obj).values()) == [
        "i", "meshkube", "a.example,b.example", "10.0.0.1", "80, 443", "5m",
    ]  # fmt: skip
    assert list(row(kinds.INGRESS, named("i")).values())[1:5] == ["<none>", "*", "", "80"]


def test_workloads_show_their_counts_and_templates() -> None:
    spec = {
        "replicas": 3,
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "spec": {"containers": [{"name": "a", "image": "x:1"}, {"name": "b", "image": "y"}]}
        },
    }
    status = {"replicas": 3, "readyReplicas": 2, "updatedReplicas": 1, "availableReplicas": 2}
    obj = named("d", spec=spec, status=status)
    assert list(row(kinds.DEPLOYMENT, obj).values()) == [
        "d", "2/3", 1, 2, "5m", "a,b", "x:1,y", "app=web",
    ]  # fmt: skip
    assert list(row(kinds.REPLICA_SET, obj).values()) == [
        "d", 3, 3, 2, "5m", "a,b", "x:1,y", "app=web",
    ]  # fmt: skip


def test_the_plain_kinds_show_what_they_hold() -> None:
    assert row(kinds.CONFIG_MAP, named("c", data={"a": "1"}, binaryData={"b": ""}))["Data"] == 2
    secret = row(kinds.SECRET, named("s", type="Opaque", data={"a": ""}))
    assert (secret["Type"], secret["Data"]) == ("Opaque", 1)
    assert row(kinds.SERVICE_ACCOUNT, named("a"))["Secrets"] == 0
    assert row(kinds.LEASE, named("l", spec={"holderIdentity": "me"}))["Holder"] == "me"
    assert row(kinds.NAMESPACE, named("n", status={"phase": "Active"}))["Status"] == "Active"
    parameters = {"apiGroup": "g.example", "kind": "P", "name": "x"}
    spec = {"controller": "meshkube.io/ingress", "parameters": parameters}
    assert row(kinds.INGRESS_CLASS, named("c", spec=spec))["Parameters"] == "P.g.example/x"
    owner = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "controller": True}
    revision = named("r", revision=4)
    revision["metadata"]["ownerReferences"] = [owner]
    cells = row(kinds.CONTROLLER_REVISION, revision)
    assert (cells["Controller"], cells["Revision"]) == ("statefulset.apps/web", 4)


def test_an_event_shows_when_what_and_about_what() -> None:
    obj = named(
        "e",
        type="Warning",
        reason="BackOff",
        message=" Back-off restarting\n",
        involvedObject={"kind": "Pod", "name": "p", "fieldPath": "spec.containers{c}"},
        source={"component": "kubelet", "host": "n1"},
        firstTimestamp=ago(600),
        lastTimestamp=ago(5),
        count=7,
    )
    assert row(kinds.EVENT, obj) == {
        "Last Seen": "5s",
        "Type": "Warning",
        "Reason": "BackOff",
        "Object": "pod/p",
        "Subobject": "spec.containers{c}",
        "Source": "kubelet, n1",
        "Message": "Back-off restarting",
        "First Seen": "10m",
        "Count": 7,
        "Name": "e",
    }


def test_an_event_of_the_newer_group_shows_the_same() -> None:
    obj = named(
        "e",
        type="Normal",
        reason="Scheduled",
        note="assigned",
        regarding={"kind": "Pod", "name": "p"},
        reportingController="scheduler",
        eventTime="2026-01-10T11:59:00.000000Z",
        series={"count": 3, "lastObservedTime": "2026-01-10T11:59:50.500000Z"},
    )
    cells = row(kinds.EVENTS_EVENT, obj)
    assert (cells["Last Seen"], cells["First Seen"], cells["Count"]) == ("9s", "60s", 3)
    assert (cells["Object"], cells["Source"], cells["Message"]) == (
        "pod/p",
        "scheduler",
        "assigned",
    )


@pytest.mark.parametrize(
    ("kind", "obj", "cells"),
    [
        (
            kinds.PERSISTENT_VOLUME,
            {
                "spec": {
                    "capacity": {"storage": "1024Mi"},
                    "accessModes": ["ReadWriteMany", "ReadWriteOnce"],
                    "claimRef": {"namespace": "a", "name": "c"},
                },
                "status": {"phase": "Bound"},
            },
            ["p", "1Gi", "RWO,RWX", "", "Bound", "a/c", "", "<unset>", "", "5m", "<unset>"],
        ),
        (
            kinds.PERSISTENT_VOLUME_CLAIM,
            {"spec": {"storageClassName": "fast"}, "status": {"phase": "Pending"}},
            ["p", "Pending", "", "", "", "fast", "<unset>", "5m", "<unset>"],
        ),
        (
            kinds.POD_DISRUPTION_BUDGET,
            {"spec": {"minAvailable": "50%"}, "status": {"disruptionsAllowed": 2}},
            ["p", "50%", "N/A", 2, "5m"],
        ),
        (
            kinds.RESOURCE_QUOTA,
            {"status": {"hard": {"pods": "10", "limits.cpu": "2"}, "used": {"pods": "3"}}},
            ["p", "pods: 3/10", "limits.cpu: 0/2", "5m"],
        ),
        (
            kinds.HORIZONTAL_POD_AUTOSCALER_V1,
            {
                "spec": {
                    "scaleTargetRef": {"kind": "Deployment", "name": "web"},
                    "maxReplicas": 5,
                    "targetCPUUtilizationPercentage": 70,
                },
                "status": {"currentReplicas": 1, "currentCPUUtilizationPercentage": 12},
            },
            ["p", "Deployment/web", "cpu: 12%/70%", "<unset>", 5, 1, "5m"],
        ),
        (
            kinds.CLUSTER_ROLE_BINDING,
            {
                "roleRef": {"kind": "ClusterRole", "name": "view"},
                "subjects": [
                    {"kind": "User", "name": "u"},
                    {"kind": "Group", "name": "g"},
                    {"kind": "ServiceAccount", "name": "s", "namespace": "n"},
                ],
            },
            ["p", "ClusterRole/view", "5m", "u", "g", "n/s"],
        ),
        (
            kinds.CERTIFICATE_SIGNING_REQUEST,
            {
                "spec": {"signerName": "a/b", "username": "me", "expirationSeconds": 3600},
                "status": {"conditions": [{"type": "Approved"}], "certificate": "aGk="},
            },
            ["p", "5m", "a/b", "me", "60m", "Approved,Issued"],
        ),
        (
            kinds.IP_ADDRESS,
            {"spec": {"parentRef": {"resource": "services", "namespace": "n", "name": "s"}}},
            ["p", "services/n/s"],
        ),
        (kinds.API_SERVICE, {"spec": {}}, ["p", "Local", "<unknown>", "5m"]),
        (
            kinds.API_SERVICE,
            {
                "spec": {"service": {"namespace": "n", "name": "s"}},
                "status": {
                    "conditions": [
                        {"type": "Available", "status": "False", "reason": "ServiceNotFound"}
                    ]
                },
            },
            ["p", "n/s", "False (ServiceNotFound)", "5m"],
        ),
    ],
    ids=lambda value: value.kind if isinstance(value, kinds.Kind) else "",
)
def test_the_rows_of_stored_kinds(kind: kinds.Kind, obj: dict[str, Any], cells: list[Any]) -> None:
    obj = {**named("p"), **obj}
    assert table(kind, [obj], NOW)["rows"][0]["cells"] == cells
