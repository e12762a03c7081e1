"""The official Python client (`kubernetes`)."""

from __future__ import annotations

import contextlib
import re
import threading

import pytest
from kubernetes import client, config, dynamic, watch
from kubernetes.client.exceptions import ApiException
from kubernetes.stream import portforward, stream
from kubernetes.utils import create_from_dict

from tests.lab.host import wait_for
from tests.support import manifests

LISTS_ALL = re.compile(r"list_(?!namespaced_)(?!.*_with_http_info$)(?!.*_without_preload)")


@contextlib.contextmanager
def suppress_unknown():
    """Passes over what is of a later release than the one served."""
    try:
        yield
    except ApiException as error:
        if error.status != 404:
            raise


@pytest.fixture
def api(here):
    """An ApiClient made from the admin's kubeconfig."""
    with config.new_client_from_config(here.kubeconfig) as made:
        yield made


@pytest.fixture
def core(api):
    return client.CoreV1Api(api)


@pytest.fixture
def objects(api):
    """The dynamic client."""
    return dynamic.DynamicClient(api)


@pytest.fixture
def running(core, namespace):
    """The name of a pod that runs."""
    script = "echo hello; trap exit TERM; sleep 9999 & wait"
    core.create_namespaced_pod(namespace, manifests.pod("runs", script))
    wait_for(
        lambda: core.read_namespaced_pod("runs", namespace).status.phase == "Running", 30, "the pod"
    )
    return "runs"


def test_typed_create_read_replace_delete(core, namespace):
    made = core.create_namespaced_config_map(namespace, manifests.config_map("one", a="1"))
    assert made.metadata.uid
    read = core.read_namespaced_config_map("one", namespace)
    read.data["a"] = "2"
    assert core.replace_namespaced_config_map("one", namespace, read).data == {"a": "2"}
    with pytest.raises(ApiException) as raised:  # the same version a second time
        core.replace_namespaced_config_map("one", namespace, read)
    assert raised.value.status == 409
    core.delete_namespaced_config_map("one", namespace)
    with pytest.raises(ApiException) as raised:
        core.read_namespaced_config_map("one", namespace)
    assert raised.value.reason == "Not Found"


def test_typed_models_of_every_stable_list(api):
    """What is listed of each kind becomes the client's own model, which checks what is required.
    Not events.k8s.io: the client refuses the `eventTime: null` that any cluster answers there."""
    listed = 0
    for group in (
        client.CoreV1Api, client.AppsV1Api, client.BatchV1Api, client.AutoscalingV2Api,
        client.NetworkingV1Api, client.PolicyV1Api, client.RbacAuthorizationV1Api,
        client.StorageV1Api, client.CoordinationV1Api, client.DiscoveryV1Api,
        client.SchedulingV1Api, client.NodeV1Api, client.CertificatesV1Api,
        client.AdmissionregistrationV1Api, client.FlowcontrolApiserverV1Api,
    ):  # fmt: skip
        instance = group(api)
        for name in filter(LISTS_ALL.match, dir(instance)):
            with suppress_unknown():
                getattr(instance, name)()
                listed += 1
    assert listed > 45


def test_typed_list_with_selectors_and_pages(core, namespace):
    for number in range(5):
        body = manifests.config_map(f"paged-{number}")
        body["metadata"]["labels"] = {"odd": str(number % 2)}
        core.create_namespaced_config_map(namespace, body)
    odd = core.list_namespaced_config_map(namespace, label_selector="odd=1").items
    assert [item.metadata.name for item in odd] == ["paged-1", "paged-3"]
    named = core.list_namespaced_config_map(namespace, field_selector="metadata.name=paged-2")
    assert len(named.items) == 1
    seen, token = [], None
    while True:
        page = core.list_namespaced_config_map(
            namespace, label_selector="odd", limit=2, _continue=token
        )
        seen += [item.metadata.name for item in page.items]
        token = page.metadata._continue
        if not token:
            break
    assert seen == [f"paged-{number}" for number in range(5)]


def test_typed_watch_resumes_from_a_version(core, namespace):
    first = core.list_namespaced_config_map(namespace).metadata.resource_version
    seen = []

    def follow() -> None:
        for event in watch.Watch().stream(
            core.list_namespaced_config_map, namespace, resource_version=first, timeout_seconds=20
        ):
            if event["object"].metadata.name == "watched":
                seen.append(event["type"])
            if event["type"] == "DELETED":
                return

    thread = threading.Thread(target=follow)
    thread.start()
    core.create_namespaced_config_map(namespace, manifests.config_map("watched", a="1"))
    core.patch_namespaced_config_map("watched", namespace, {"data": {"a": "2"}})
    core.delete_namespaced_config_map("watched", namespace)
    thread.join(20)
    assert seen == ["ADDED", "MODIFIED", "DELETED"]


@pytest.mark.parametrize("type", ["json", "merge", "strategic-merge"])
def test_typed_patch(api, core, namespace, type):
    core.create_namespaced_config_map(namespace, manifests.config_map("one", a="1"))
    body: object = {"data": {"b": "2"}}
    if type == "json":
        body = [{"op": "add", "path": "/data/b", "value": "2"}]
    patched = core.patch_namespaced_config_map(
        "one", namespace, body, _content_type=f"application/{type}-patch+json"
    )
    assert patched.data == {"a": "1", "b": "2"}


def test_typed_scale_status_and_eviction(api, core, namespace, running):
    apps = client.AppsV1Api(api)
    apps.create_namespaced_deployment(namespace, manifests.deployment("web"))
    apps.patch_namespaced_deployment_scale("web", namespace, {"spec": {"replicas": 2}})
    assert apps.read_namespaced_deployment_scale("web", namespace).spec.replicas == 2
    wait_for(
        lambda: apps.read_namespaced_deployment_status("web", namespace).status.ready_replicas == 2,
        30,
        "two replicas",
    )
    eviction = client.V1Eviction(metadata=client.V1ObjectMeta(name=running, namespace=namespace))
    core.create_namespaced_pod_eviction(running, namespace, eviction)
    apps.delete_namespaced_deployment("web", namespace, propagation_policy="Foreground")


def test_logs_followed_and_whole(core, namespace, running):
    wait_for(lambda: core.read_namespaced_pod_log(running, namespace), 10, "a line")
    assert core.read_namespaced_pod_log(running, namespace) == "hello\n"
    follow = watch.Watch().stream(core.read_namespaced_pod_log, running, namespace)
    assert next(iter(follow)) == "hello"


def test_exec_stream(core, namespace, running):
    run = core.connect_get_namespaced_pod_exec
    said = stream(
        run, running, namespace, command=["echo", "hi"], stdout=True, stderr=True, stdin=False,
        tty=False,
    )  # fmt: skip
    assert said == "hi\n"
    talk = stream(
        run, running, namespace, command=["sh"], stdout=True, stderr=True, stdin=True, tty=False,
        _preload_content=False,
    )  # fmt: skip
    talk.write_stdin("echo said; echo wrong >&2; exit 3\n")
    talk.run_forever(timeout=10)
    assert (talk.read_stdout(), talk.read_stderr(), talk.returncode) == ("said\n", "wrong\n", 3)


def test_port_forward_and_proxy(core, namespace, running):
    stream(
        core.connect_get_namespaced_pod_exec, running, namespace, stdout=True, stderr=True,
        command=["sh", "-c", "echo inside >/tmp/index.html; httpd -p 8080 -h /tmp"],
    )  # fmt: skip
    forwarded = portforward(
        core.connect_get_namespaced_pod_portforward, running, namespace, ports="8080"
    )
    http = forwarded.socket(8080)
    http.setblocking(True)
    http.sendall(b"GET / HTTP/1.0\r\n\r\n")
    answer = b""
    while data := http.recv(65536):
        answer += data
    http.close()
    forwarded.websocket.close()
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert answer.endswith(b"inside\n")
    assert not forwarded.error(8080)
    proxy = core.connect_get_namespaced_pod_proxy_with_path
    assert proxy(f"{running}:8080", namespace, "index.html") == "inside\n"


def test_create_from_dict_of_several_objects(api, core, namespace):
    listed = {
        "apiVersion": "v1",
        "kind": "List",
        "items": [manifests.config_map("a"), manifests.config_map("b")],
    }
    create_from_dict(api, listed, namespace=namespace)
    assert core.read_namespaced_config_map("b", namespace)


def test_dry_run(core, namespace):
    core.create_namespaced_config_map(namespace, manifests.config_map("dry"), dry_run="All")
    with pytest.raises(ApiException) as raised:
        core.read_namespaced_config_map("dry", namespace)
    assert raised.value.status == 404


def test_dynamic_create_get_list_patch_delete(objects, namespace):
    maps = objects.resources.get(api_version="v1", kind="ConfigMap")
    maps.create(body=manifests.config_map("one", a="1"), namespace=namespace)
    assert maps.get(name="one", namespace=namespace).data.a == "1"
    assert "one" in [item.metadata.name for item in maps.get(namespace=namespace).items]
    maps.patch(
        name="one", namespace=namespace, body={"data": {"a": "2"}},
        content_type="application/merge-patch+json",
    )  # fmt: skip
    assert maps.get(name="one", namespace=namespace).data.a == "2"
    maps.delete(name="one", namespace=namespace)
    with pytest.raises(dynamic.exceptions.NotFoundError):
        maps.get(name="one", namespace=namespace)


def test_dynamic_server_side_apply_and_its_conflict(objects, namespace):
    maps = objects.resources.get(api_version="v1", kind="ConfigMap")

    def apply(manager: str, value: str, force: bool = False):
        body = manifests.config_map("applied", a=value)
        return maps.server_side_apply(
            body=body, namespace=namespace, field_manager=manager, force_conflicts=force
        )

    apply("one", "1")
    with pytest.raises(dynamic.exceptions.ConflictError) as raised:
        apply("two", "2")
    assert 'conflict with \\"one\\": .data.a' in raised.value.body
    done = apply("two", "2", force=True)
    assert [entry.manager for entry in done.metadata.managedFields] == ["two"]


def test_dynamic_watch(objects, namespace):
    maps = objects.resources.get(api_version="v1", kind="ConfigMap")
    maps.create(body=manifests.config_map("watched"), namespace=namespace)
    selector = "metadata.name=watched"
    events = maps.watch(namespace=namespace, field_selector=selector, timeout=10)
    assert next(events)["object"].metadata.name == "watched"


def test_dynamic_discovery_of_every_kind(objects):
    kinds = {resource.kind for resource in objects.resources.search()}
    assert {"Pod", "Deployment", "Ingress", "NetworkPolicy", "FlowSchema"} <= kinds
    assert objects.resources.get(kind="Deployment").group == "apps"


def test_authorization_and_tokens(api, core, namespace):
    review = {"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}}
    allowed = client.AuthorizationV1Api(api).create_self_subject_access_review(review)
    assert allowed.status.allowed
    token = core.create_namespaced_service_account_token("default", namespace, {"spec": {}})
    reviewed = client.AuthenticationV1Api(api).create_token_review(
        {"spec": {"token": token.status.token}}
    )
    assert reviewed.status.user.username == f"system:serviceaccount:{namespace}:default"


def test_version_and_openapi(api):
    assert client.VersionApi(api).get_code().git_version.startswith("v1.33")
    assert client.OpenidApi(api).get_service_account_issuer_open_id_keyset()
