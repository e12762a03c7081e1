"""The `meshkube` command against a running cluster, for those without kubectl."""

from __future__ import annotations

import json

import pytest

from tests.lab.cluster import Cluster
from tests.lab.host import wait_for
from tests.support.custom import crd

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def cluster(_machine):
    """Without containers: only the API side is asked."""
    from tests.lab.cluster import running_cluster

    with running_cluster(docker=False) as running:
        yield running


def config_map(cluster: Cluster, name: str, **data: str) -> str:
    path = cluster.host.directory / f"{name}.yaml"
    manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}
    path.write_text(json.dumps(manifest))
    return str(path)


def test_apply_says_what_became_of_each_object(cluster: Cluster):
    file = config_map(cluster, "settings", colour="blue")
    assert cluster.meshkube("apply", "-f", file).stdout == "configmap/settings created\n"
    assert cluster.meshkube("apply", "-f", file).stdout == "configmap/settings unchanged\n"
    file = config_map(cluster, "settings", colour="red")
    assert cluster.meshkube("apply", "-f", file).stdout == "configmap/settings configured\n"
    assert cluster.get("cm", "settings")["data"] == {"colour": "red"}


def test_a_bad_document_of_many_is_named_and_nothing_is_applied(cluster: Cluster):
    file = cluster.host.directory / "many.yaml"
    good = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: good}\n"
    file.write_text(f"{good}---\nkind: Wrong\napiVersion: v9\nmetadata: {{name: x}}\n")
    done = cluster.meshkube("apply", "-f", str(file), check=False)
    assert done.returncode == 2
    assert f'{file}, document 2: no matches for kind "Wrong" in version "v9"' in done.stderr
    assert cluster.meshkube("get", "cm", "good", check=False).returncode == 1


def test_a_refused_document_of_many_is_named_and_the_others_are_applied(cluster: Cluster):
    file = cluster.host.directory / "refused.yaml"
    good = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: applied}\n"
    file.write_text(f"apiVersion: v1\nkind: Service\nmetadata: {{name: bad}}\n---\n{good}")
    done = cluster.meshkube("apply", "-f", str(file), check=False)
    assert done.returncode == 1
    assert "document 1" in done.stderr
    assert "spec.ports: Required value" in done.stderr
    assert done.stdout == "configmap/applied created\n"


def test_get_prints_tables_and_every_other_form(cluster: Cluster):
    table = cluster.meshkube("get", "svc", "-A").stdout.splitlines()
    assert table[0].split() == [
        "NAMESPACE", "NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE",
    ]  # fmt: skip
    assert table[1].split()[:2] == ["default", "kubernetes"]
    assert cluster.meshkube("get", "svc/kubernetes", "-o", "name").stdout == "service/kubernetes\n"
    assert "kind: Service" in cluster.meshkube("get", "svc", "kubernetes", "-o", "yaml").stdout
    nothing = cluster.meshkube("get", "pods", "-n", "kube-public").stdout
    assert nothing == "No resources found in kube-public namespace.\n"


def test_delete_waits_until_it_is_gone(cluster: Cluster):
    file = config_map(cluster, "passing")
    cluster.meshkube("apply", "-f", file)
    assert cluster.meshkube("delete", "-f", file).stdout == 'configmap "passing" deleted\n'
    again = cluster.meshkube("delete", "cm", "passing", check=False)
    assert again.returncode == 1
    assert 'configmaps "passing" not found' in again.stderr
    assert cluster.meshkube("delete", "cm", "passing", "--ignore-not-found").returncode == 0


def test_kinds_of_our_own_have_every_name_with_their_definition_in_the_same_file(cluster: Cluster):
    file = cluster.host.directory / "own.json"
    own = crd(singular="widget", shortNames=["wd"], categories=["all"])
    large = {
        "apiVersion": "example.com/v1",
        "kind": "Widget",
        "metadata": {"name": "large"},
        "spec": {"size": 9},
    }
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": [own, large]}))
    assert cluster.meshkube("apply", "-f", str(file)).stdout.splitlines() == [
        "customresourcedefinition.apiextensions.k8s.io/widgets.example.com created",
        "widget.example.com/large created",
    ]
    assert "widget.example.com/large unchanged" in cluster.meshkube("apply", "-f", str(file)).stdout
    for typed in ("widgets", "wd.v1.example.com"):
        assert cluster.meshkube("get", typed).stdout.split()[:3] == ["NAME", "AGE", "large"]
    several = cluster.meshkube("get", "svc,wd", "-o", "name").stdout
    assert several == "service/kubernetes\nwidget.example.com/large\n"
    assert "widget/large" in cluster.meshkube("get", "all").stdout
    mixed = cluster.meshkube("get", "svc/kubernetes", "wd/large", "-o", "name").stdout
    assert mixed == several
    selects = cluster.meshkube("logs", "wd/large", check=False)
    assert (selects.returncode, selects.stderr) == (
        2, "meshkube logs: widget.example.com/large selects no pods: name one\n",
    )  # fmt: skip
    assert cluster.meshkube("delete", "wd", "large").stdout == (
        'widget.example.com "large" deleted\n'
    )
    cluster.meshkube("apply", "-f", str(file))
    assert len(cluster.meshkube("delete", "-f", str(file)).stdout.splitlines()) == 2


def test_a_kind_that_is_not_there_is_told_with_what_it_is_like(cluster: Cluster):
    done = cluster.meshkube("get", "pods,deploymnts", check=False)
    assert (done.returncode, done.stdout, done.stderr) == (
        2, "", 'meshkube get: the server doesn\'t have a resource type "deploymnts"; '
        'did you mean "deployments"?\n',
    )  # fmt: skip
    done = cluster.meshkube("delete", "wishes", "x", check=False)
    assert done.stderr == 'meshkube delete: the server doesn\'t have a resource type "wishes"\n'
    done = cluster.meshkube("get", "all", "x", check=False)
    assert done.stderr == 'meshkube get: a name needs one kind, and "all" is several\n'


def test_a_namespace_is_deleted_with_all_in_it(cluster: Cluster):
    file = cluster.host.directory / "space.yaml"
    file.write_text(
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: space}\n---\n"
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: within, namespace: space}\n"
    )
    cluster.meshkube("apply", "-f", str(file))
    assert "deleted" in cluster.meshkube("delete", "ns", "space").stdout
    assert cluster.get("cm", "-n", "space")["items"] == []


def test_status_shows_parts_node_leader_and_listeners(cluster: Cluster):
    def status():
        return cluster.meshkube("status", check=False)

    wait_for(lambda: status().returncode == 0, 10, "every part")
    text = status().stdout
    for part in ("v1.33", f"Leader     {cluster.host.name}", "Ready", "0.0.0.0:6443",
                 "10.43.0.10:53", "ingress", "dataplane"):  # fmt: skip
        assert part in text


def test_doctor_knows_our_own_ports(cluster: Cluster):
    done = cluster.meshkube(
        "doctor", "--runtime=hollow", f"--data-dir={cluster.data_dir}", check=False
    )
    assert "port 6443 (API)" in done.stdout
    assert "in use by meshkube" in done.stdout


def test_a_second_server_on_the_same_data_is_refused(cluster: Cluster):
    done = cluster.meshkube("server", f"--data-dir={cluster.data_dir}", check=False)
    assert done.returncode == 2
    assert "is in use by another meshkube server" in done.stderr


def test_reset_is_refused_while_the_server_runs(cluster: Cluster):
    arguments = ("reset", "--yes", "--runtime=hollow", f"--data-dir={cluster.data_dir}")
    done = cluster.meshkube(*arguments, check=False)
    assert done.returncode == 2
    assert "stop it first" in done.stderr


def test_a_server_that_cannot_be_reached_is_one_clear_line(cluster: Cluster):
    nowhere = cluster.host.directory / "nowhere.yaml"
    config = cluster.meshkube("kubeconfig", "--server", "https://127.0.0.1:1").stdout
    nowhere.write_text(config)
    done = cluster.meshkube("get", "pods", "--kubeconfig", str(nowhere), check=False)
    assert done.returncode == 1
    assert "https://127.0.0.1:1" in done.stderr
    assert len(done.stderr.splitlines()) == 1
