"""kubectl: the flags and verbs beyond those of every day."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.lab.cluster import Cluster
from tests.lab.host import wait_for
from tests.support import kubectl, manifests

pytestmark = [
    pytest.mark.kubectl,
    pytest.mark.skipif(bool(kubectl.why_not()), reason=kubectl.why_not() or "present"),
]


class Typist:
    """kubectl in one namespace."""

    def __init__(self, cluster: Cluster, namespace: str, directory: Path) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self._directory = directory

    def __call__(self, *arguments: str) -> str:
        """Standard output; kubectl must have had nothing to complain of."""
        done = self.cluster.kubectl("-n", self.namespace, *arguments)
        assert done.stderr == "", done.stderr
        return done.stdout

    def fails(self, *arguments: str) -> str:
        """What a command that must fail complains of."""
        done = self.cluster.kubectl("-n", self.namespace, *arguments, check=False)
        assert done.returncode != 0
        return done.stderr

    def file(self, *objects: dict) -> str:
        """A manifest of several documents."""
        path = self._directory / f"manifest-{len(list(self._directory.iterdir()))}.yaml"
        path.write_text(yaml.safe_dump_all(objects))
        return str(path)

    def json(self, *arguments: str):
        return json.loads(self("get", *arguments, "-o", "json"))


@pytest.fixture
def k(cluster, namespace, tmp_path) -> Typist:
    return Typist(cluster, namespace, tmp_path)


def test_get_chunk_size(k):
    k("apply", "-f", k.file(*(manifests.config_map(f"c{n}") for n in range(5))))
    names = k("get", "cm", "--chunk-size=2", "-o", "name").split()
    assert names == [f"configmap/c{n}" for n in range(5)] + ["configmap/kube-root-ca.crt"]


def test_get_raw(k):
    listed = json.loads(k("get", "--raw", f"/api/v1/namespaces/{k.namespace}/configmaps?limit=1"))
    assert (listed["kind"], len(listed["items"])) == ("ConfigMapList", 1)
    assert "[+]registry ok" in k("get", "--raw", "/readyz?verbose")
    assert "# TYPE" in k("get", "--raw", "/metrics")


def test_get_sort_by(k):
    k("apply", "-f", k.file(*(manifests.config_map(f"s{n}", key=str(9 - n)) for n in range(3))))
    names = k("get", "cm", "--sort-by=.data.key", "-l", "!x", "-o", "name").split()
    assert names[-3:] == ["configmap/s2", "configmap/s1", "configmap/s0"]


def test_get_custom_columns_go_template_and_label_columns(k):
    body = manifests.config_map("one", a="1")
    body["metadata"]["labels"] = {"tier": "front"}
    k("apply", "-f", k.file(body))
    one = ("get", "cm", "one")
    columns = "custom-columns=NAME:.metadata.name,A:.data.a"
    assert k(*one, "-o", columns).split() == ["NAME", "A", "one", "1"]
    assert k(*one, "-o", "go-template={{.data.a}}") == "1"
    assert k(*one, "-L", "tier", "--show-labels", "--no-headers").split()[-2:] == [
        "front",
        "tier=front",
    ]


def test_get_show_managed_fields(k):
    k("apply", "-f", k.file(manifests.config_map("one", a="1")))
    managers = k.json("cm", "one", "--show-managed-fields")["metadata"]["managedFields"]
    assert [entry["manager"] for entry in managers] == ["kubectl-client-side-apply"]


def test_get_and_patch_subresources(k):
    k("apply", "-f", k.file(manifests.deployment("web")))
    assert k.json("deployment", "web", "--subresource=scale")["kind"] == "Scale"
    patch = ("--subresource=scale", "--type=merge", "-p", '{"spec":{"replicas":0}}')
    assert k("patch", "deployment", "web", *patch) == "scale.autoscaling/web patched\n"
    assert k.json("deployment", "web")["spec"]["replicas"] == 0
    k("get", "deployment", "web", "--subresource=status")


def test_apply_server_side_field_manager_and_force_conflicts(k):
    server_side = ("apply", "--server-side")
    file = k.file(manifests.config_map("one", a="1"))
    assert k(*server_side, "--field-manager=x", "-f", file) == "configmap/one serverside-applied\n"
    other = (*server_side, "--field-manager=y", "-f", k.file(manifests.config_map("one", a="2")))
    refused = k.fails(*other)
    assert 'conflict with "x": .data.a' in refused
    assert "--force-conflicts" in refused
    k(*other, "--force-conflicts")
    assert k.json("cm", "one")["data"] == {"a": "2"}


def test_apply_server_side_of_scale_hands_over_replicas(k):
    """https://kubernetes.io/docs/reference/using-api/server-side-apply: transferring ownership."""
    k("apply", "--server-side", "-f", k.file(manifests.deployment("web")))
    k("scale", "deployment", "web", "--replicas=0")
    managers = k.json("deployment", "web", "--show-managed-fields")["metadata"]["managedFields"]
    scaled = [entry for entry in managers if entry.get("subresource") == "scale"]
    assert scaled[0]["fieldsV1"] == {"f:spec": {"f:replicas": {}}}
    refused = k.fails("apply", "--server-side", "-f", k.file(manifests.deployment("web", 2)))
    assert ".spec.replicas" in refused


def test_apply_prune(k):
    first, second = manifests.config_map("first"), manifests.config_map("second")
    for one in (first, second):
        one["metadata"]["labels"] = {"set": "pruned"}
    prune = ("apply", "--prune", "-l", "set=pruned", "--prune-allowlist=core/v1/ConfigMap", "-f")
    k(*prune, k.file(first, second))
    said = k(*prune, k.file(first))
    assert said == "configmap/first unchanged\nconfigmap/second pruned\n"


def test_apply_view_edit_and_set_last_applied(k):
    file = k.file(manifests.config_map("one", a="1"))
    k("create", "-f", file)
    k("apply", "set-last-applied", "--create-annotation", "-f", file)
    assert 'a: "1"' in k("apply", "view-last-applied", "cm", "one")


def test_apply_dry_run_on_both_sides(k):
    file = k.file(manifests.config_map("one", a="1"))
    assert k("apply", "--dry-run=server", "-f", file) == "configmap/one created (server dry run)\n"
    assert k("apply", "--dry-run=client", "-f", file) == "configmap/one created (dry run)\n"
    assert "NotFound" in k.fails("get", "cm", "one")


def test_apply_kustomize(k, tmp_path):
    directory = tmp_path / "base"
    directory.mkdir()
    (directory / "kustomization.yaml").write_text(
        "configMapGenerator: [{name: k, literals: [a=b]}]"
    )
    assert "created" in k("apply", "-k", str(directory))


def test_apply_refuses_unknown_fields(k):
    file = k.file(manifests.config_map("one") | {"datum": 1})
    assert 'unknown field "datum"' in k.fails("apply", "-f", file)
    done = k.cluster.kubectl("-n", k.namespace, "apply", "--validate=warn", "-f", file)
    assert 'Warning: unknown field "datum"' in done.stderr


def test_diff_server_side(k):
    k("apply", "--server-side", "-f", k.file(manifests.config_map("one", a="1")))
    changed = k.file(manifests.config_map("one", a="2"))
    command = ("-n", k.namespace, "diff", "--server-side", "-f", changed)
    done = k.cluster.kubectl(*command, check=False)
    assert (done.returncode, '+  a: "2"' in done.stdout) == (1, True)


def test_explain_recursive_of_every_kind(k):
    assert "terminationGracePeriodSeconds" in k("explain", "pod", "--recursive")
    assert "<[]ObjectReference>" in k("explain", "serviceaccount.secrets")
    assert "matchLabels" in k("explain", "--api-version=apps/v1", "deployment.spec.selector")
    assert "does not exist" in k.fails("explain", "pod.spec.nothing")
    plain = k("explain", "ingress.spec.rules.http.paths.pathType", "--output=plaintext-openapiv2")
    assert "pathType" in plain


def test_wait_for_jsonpath_conditions_create_and_delete(k):
    k("apply", "-f", k.file(manifests.deployment("web")))
    k("wait", "--for=jsonpath={.status.availableReplicas}=1", "deployment/web", "--timeout=30s")
    k("wait", "--for=condition=Available", "deployment/web", "--timeout=30s")
    k("wait", "--for=create", "deployment/web", "--timeout=5s")
    k("delete", "deployment", "web", "--wait=false")
    k.cluster.kubectl("-n", k.namespace, "wait", "--for=delete", "deployment/web", "--timeout=20s")


def test_create_token_of_a_service_account(k):
    token = k("create", "token", "default", "--duration=20m", "--audience=x")
    assert token.count(".") == 2
    k("apply", "-f", k.file(manifests.pod("bound")))
    k("create", "token", "default", "--bound-object-kind=Pod", "--bound-object-name=bound")


def test_create_everything_it_can(k):
    for command in (
        "clusterrole {ns} --verb=get --resource=pods",
        "clusterrolebinding {ns} --clusterrole=view --user=u",
        "configmap c --from-literal=a=b",
        "cronjob j --image=i --schedule=@daily",
        "deployment d --image=i --replicas=0",
        "ingress i --rule=x.example/*=s:80",
        "job b --image=i",
        "poddisruptionbudget p --selector=a=b --min-available=1",
        "priorityclass {ns} --value=5",
        "quota q --hard=pods=50",
        "role r --verb=get --resource=pods",
        "rolebinding r --role=r --serviceaccount={ns}:default",
        "secret generic g --from-literal=a=b",
        "secret docker-registry e --docker-server=x --docker-username=u --docker-password=p",
        "service clusterip s --tcp=80:8080",
        "service nodeport n --tcp=80:8080",
        "service loadbalancer l --tcp=80:8080",
        "service externalname x --external-name=x.example",
        "serviceaccount a",
    ):
        words = command.format(ns=k.namespace).split()
        assert k("create", *words).endswith("created\n")
    k.cluster.kubectl("delete", "clusterrole,clusterrolebinding,priorityclass", k.namespace)


def test_auth_can_i_list(k):
    listed = k("auth", "can-i", "--list", f"--as=system:serviceaccount:{k.namespace}:default")
    assert "selfsubjectreviews.authentication.k8s.io" in listed
    assert "pods" not in listed


def test_auth_whoami(k):
    assert "meshkube-admin" in k("auth", "whoami")
    said = k("auth", "whoami", "--as=jane", "--as-group=dev", "-o", "json")
    assert json.loads(said)["status"]["userInfo"]["groups"] == ["dev", "system:authenticated"]


def test_auth_reconcile(k):
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "reader", "namespace": k.namespace},
        "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}],
    }
    reconcile = ("-n", k.namespace, "auth", "reconcile", "-f")
    assert "reconciled" in k.cluster.kubectl(*reconcile, k.file(role)).stdout
    role["rules"][0]["verbs"] = ["get", "list"]
    assert "reconciled" in k.cluster.kubectl(*reconcile, k.file(role)).stdout
    rules = k.json("role", "reader")["rules"]
    assert {verb for rule in rules for verb in rule["verbs"]} == {"get", "list"}


def test_events_of_one_object(k):
    k("apply", "-f", k.file(manifests.pod("watched")))
    k("wait", "--for=condition=Ready", "pod/watched", "--timeout=30s")
    said = k("events", "--for", "pod/watched", "--types=Normal")
    assert "Started container main" in said


def test_api_resources_and_versions(k):
    listed = k("api-resources", "--verbs=list,get", "--namespaced", "-o", "name").split()
    assert {"pods", "deployments.apps", "ingresses.networking.k8s.io"} <= set(listed)
    assert "crb" not in k("api-resources", "--api-group=apps", "--sort-by=name")
    assert "rbac.authorization.k8s.io/v1" in k("api-versions").split()


def test_cluster_info_dump(k):
    assert '"kind": "NodeList"' in k("cluster-info", "dump", "--namespaces", k.namespace)


def test_label_and_annotate_overwrite_list_and_all(k):
    k("apply", "-f", k.file(manifests.config_map("one")))
    k("label", "cm", "one", "a=1")
    assert "--overwrite" in k.fails("label", "cm", "one", "a=2")
    k("label", "cm", "--all", "a=2", "--overwrite")
    assert "a=2" in k("label", "cm", "one", "--list")
    k("annotate", "cm", "-l", "a=2", "note=x")
    assert "note=x" in k("annotate", "cm", "one", "--list")


def test_patch_from_a_file_and_of_a_status(k):
    k("apply", "-f", k.file(manifests.config_map("one", a="1")))
    k("patch", "cm", "one", "--type=merge", "--patch-file", k.file({"data": {"a": "2"}}))
    assert k.json("cm", "one")["data"] == {"a": "2"}
    k("apply", "-f", k.file(manifests.deployment("web", 0)))
    condition = {"type": "Own", "status": "True"}
    patch = json.dumps({"status": {"conditions": [condition]}})
    k("patch", "deployment", "web", "--subresource=status", "-p", patch)


def test_set_env_image_resources_selector_serviceaccount_subject(k):
    k("apply", "-f", k.file(manifests.deployment("web", 0)))
    web = "deployment/web"
    k("set", "env", web, "A=b")
    k("set", "image", web, "main=other:1")
    k("set", "resources", web, "--limits=cpu=200m,memory=64Mi")
    k("set", "serviceaccount", web, "default")
    container = k.json("deployment", "web")["spec"]["template"]["spec"]["containers"][0]
    assert (container["image"], container["resources"]["limits"]["cpu"]) == ("other:1", "200m")
    k("create", "service", "clusterip", "s", "--tcp=80")
    k("set", "selector", "service", "s", "app=web")
    k("create", "rolebinding", "r", "--clusterrole=view", "--user=u")
    k("set", "subject", "rolebinding", "r", "--group=g")
    assert len(k.json("rolebinding", "r")["subjects"]) == 2


def test_replace_force(k):
    file = k.file(manifests.pod("one"))
    k("create", "-f", file)
    before = k.json("pod", "one")["metadata"]["uid"]
    done = k.cluster.kubectl("-n", k.namespace, "replace", "--force", "-f", file)
    assert "replaced" in done.stdout
    assert k.json("pod", "one")["metadata"]["uid"] != before


def test_autoscale(k):
    k("apply", "-f", k.file(manifests.deployment("web", 1)))
    k("autoscale", "deployment", "web", "--max=3", "--cpu-percent=50")
    assert "Deployment/web" in k("get", "hpa", "web")


def test_taint_cordon_drain_and_uncordon(k):
    (node,) = (item["metadata"]["name"] for item in k.json("nodes")["items"])
    k("apply", "-f", k.file(manifests.deployment("web")))
    k("rollout", "status", "deployment/web", "--timeout=30s")
    k("taint", "node", node, "row=1:NoSchedule")
    assert "row" in k("describe", "node", node)
    k("taint", "node", node, "row-")
    drain = ("drain", node, "--pod-selector=app=web", "--ignore-daemonsets", "--timeout=30s")
    assert "drained" in k.cluster.kubectl("-n", k.namespace, *drain).stdout
    assert "SchedulingDisabled" in k("get", "node", node)
    k("uncordon", node)
    k("rollout", "status", "deployment/web", "--timeout=30s")


def test_rollout_of_a_daemon_set_and_a_stateful_set(k):
    template = manifests.deployment("each")
    daemon = {**template, "kind": "DaemonSet", "spec": {**template["spec"]}}
    daemon["spec"].pop("replicas")
    k("apply", "-f", k.file(daemon))
    k("rollout", "status", "daemonset/each", "--timeout=30s")
    stateful = {**template, "kind": "StatefulSet", "metadata": {"name": "one"}}
    stateful["spec"] = {**template["spec"], "serviceName": "one"}
    k("apply", "-f", k.file(stateful))
    k("rollout", "status", "statefulset/one", "--timeout=30s")
    assert k("rollout", "history", "statefulset/one")
    k("rollout", "restart", "statefulset/one")
    k("rollout", "status", "statefulset/one", "--timeout=30s")


def test_debug_by_a_copy_of_a_pod(k):
    k("apply", "-f", k.file(manifests.pod("ill")))
    k.cluster.kubectl("-n", k.namespace, "debug", "ill", "--copy-to=copy", "--container=main",
                      "--", "sh", "-c", "sleep 999")  # fmt: skip
    wait_for(lambda: k.json("pod", "copy")["status"]["phase"] == "Running", 30, "the copy")
    k("delete", "pod", "copy", "--now")


def test_plugins_options_and_config(k):
    assert "--server" in k("options")
    assert "meshkube" in k("config", "view")
    assert "complete" in k("completion", "bash")
