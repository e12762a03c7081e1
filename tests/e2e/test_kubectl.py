"""kubectl, every day: what people type, with nothing but the kubeconfig, and what they see."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.lab.cluster import IMAGE, Cluster
from tests.lab.host import wait_for
from tests.lab.terminal import Terminal
from tests.support import kubectl

pytestmark = [
    pytest.mark.root,
    pytest.mark.docker,
    pytest.mark.kubectl,
    pytest.mark.timeout(180),
    pytest.mark.usefixtures("kubectl"),
]

NAMESPACE = ("-n", "shop")


def shown(cluster: Cluster, *arguments: str, **options) -> str:
    """Standard output; kubectl must have had nothing to complain of."""
    done = cluster.kubectl(*arguments, **options)
    assert done.stderr == "", done.stderr
    return done.stdout


def typed(cluster: Cluster, *arguments: str) -> list[str]:
    """The command line of kubectl inside the host's network, for a terminal."""
    environment = ("env", f"KUBECONFIG={cluster.kubeconfig}", "TERM=xterm")
    return cluster.host.command(*environment, kubectl.path(), *arguments)


def first_line(text: str) -> str:
    return " ".join(text.splitlines()[0].split())


def file_of(cluster: Cluster, content) -> str:
    path = cluster.host.directory / f"manifest-{time.monotonic_ns()}.json"
    path.write_text(json.dumps(content))
    return str(path)


def pod_manifest(name: str, *command: str, **spec) -> dict:
    container = {"name": "main", "image": IMAGE, "command": list(command)}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 1, **spec},
    }


@pytest.fixture(scope="module")
def shell(cluster: Cluster):
    """A pod that waits to be used, in the default namespace."""
    manifest = pod_manifest("shell", "sh", "-c", "echo started; trap exit TERM; sleep 9999 & wait")
    cluster.kubectl("create", "-f", file_of(cluster, manifest))
    cluster.kubectl("wait", "--for=condition=Ready", "pod/shell", "--timeout=30s")
    return "shell"


TABLES = [
    (("nodes",), "NAME STATUS ROLES AGE VERSION"),
    (
        ("nodes", "-o", "wide"),
        "NAME STATUS ROLES AGE VERSION INTERNAL-IP EXTERNAL-IP OS-IMAGE KERNEL-VERSION"
        " CONTAINER-RUNTIME",
    ),
    (("pods", *NAMESPACE), "NAME READY STATUS RESTARTS AGE"),
    (
        ("pods", "-A", "-o", "wide"),
        "NAMESPACE NAME READY STATUS RESTARTS AGE IP NODE NOMINATED NODE READINESS GATES",
    ),
    (("deployments", *NAMESPACE), "NAME READY UP-TO-DATE AVAILABLE AGE"),
    (("replicasets", *NAMESPACE), "NAME DESIRED CURRENT READY AGE"),
    (("services", *NAMESPACE), "NAME TYPE CLUSTER-IP EXTERNAL-IP PORT(S) AGE"),
    (("ingress", *NAMESPACE), "NAME CLASS HOSTS ADDRESS PORTS AGE"),
    (("endpointslices", *NAMESPACE), "NAME ADDRESSTYPE PORTS ENDPOINTS AGE"),
    (("namespaces",), "NAME STATUS AGE"),
    (("configmaps", *NAMESPACE), "NAME DATA AGE"),
    (("secrets", *NAMESPACE), "NAME TYPE DATA AGE"),
    (("serviceaccounts", *NAMESPACE), "NAME SECRETS AGE"),
    (("leases", "-n", "kube-system"), "NAME HOLDER AGE"),
    (("ingressclasses",), "NAME CONTROLLER PARAMETERS AGE"),
    (("events", *NAMESPACE), "LAST SEEN TYPE REASON OBJECT MESSAGE"),
]


@pytest.mark.parametrize(("arguments", "header"), TABLES, ids=lambda v: str(v))
def test_get_shows_the_columns_people_know(cluster, arguments, header):
    assert first_line(shown(cluster, "get", *arguments)) == header


def test_get_in_every_form(cluster):
    user = ("get", "deployment", "user", *NAMESPACE)
    assert "kind: Deployment" in shown(cluster, *user, "-o", "yaml")
    assert json.loads(shown(cluster, *user, "-o", "json"))["metadata"]["name"] == "user"
    assert shown(cluster, *user, "-o", "name") == "deployment.apps/user\n"
    assert shown(cluster, *user, "-o", "jsonpath={.spec.replicas}") == "2"
    names = shown(cluster, "get", "pods", *NAMESPACE, "-l", "app.kubernetes.io/name=user",
                  "--field-selector", "status.phase=Running", "-o", "name")  # fmt: skip
    assert len(names.split()) == 2
    assert "deployment.apps/user" in shown(cluster, "get", "all", "-A")
    assert "NotFound" in cluster.kubectl("get", "pod", "nobody", check=False).stderr


def test_get_watches(cluster, shell):
    command = typed(cluster, "get", "pods", "-w", "--output-watch-events")
    with Terminal(command, columns=200) as terminal:
        terminal.wait_for("shell")
        cluster.kubectl("label", "pod", "shell", "seen=yes")
        terminal.wait_for("MODIFIED")
        cluster.kubectl("label", "pod", "shell", "seen-")


def test_describe_tells_the_story_of_each_kind(cluster, shell):
    pod = shown(cluster, "describe", "pod", shell)
    for part in ("Node:", "IP:", "State:          Running", "Successfully assigned default/shell",
                 "Started container main", "QoS Class:"):  # fmt: skip
        assert part in pod
    assert "Scaled up replica set user-" in shown(
        cluster, "describe", "deployment", "user", *NAMESPACE
    )
    assert "Endpoints:" in shown(cluster, "describe", "service", "user", *NAMESPACE)
    ingress = shown(cluster, "describe", "ingress", "shop", *NAMESPACE)
    assert "/user" in ingress
    assert "shop-tls terminates shop.example" in ingress
    node = shown(cluster, "describe", "node", cluster.host.name)
    assert "KubeletReady" in node
    assert "Allocated resources:" in node
    assert "default" in shown(cluster, "describe", "namespace", "default")


def test_create_and_delete(cluster):
    assert shown(cluster, "create", "namespace", "made") == "namespace/made created\n"
    shown(cluster, "create", "deployment", "web", f"--image={IMAGE}", "--replicas=2", "-n", "made")
    shown(cluster, "create", "configmap", "settings", "--from-literal=a=b", "-n", "made")
    shown(cluster, "create", "secret", "generic", "keys", "--from-literal=a=b", "-n", "made")
    shown(cluster, "create", "service", "clusterip", "web", "--tcp=80:8080", "-n", "made")
    shown(cluster, "create", "ingress", "web", "--rule=made.example/*=web:80", "-n", "made")
    shown(cluster, "create", "serviceaccount", "robot", "-n", "made")
    shown(cluster, "rollout", "status", "deployment/web", "-n", "made", "--timeout=60s")
    wait_for(
        lambda: cluster.curl("http://made.example/x", "-f", host="made.example", check=False)
        .returncode == 0,
        20,
        "the new ingress",
    )  # fmt: skip
    shown(cluster, "delete", "namespace", "made", "--timeout=60s")
    assert "made" not in shown(cluster, "get", "pods", "-A")
    wait_for(lambda: not cluster.containers("name=_made_"), 20, "no container left")


def test_apply_diff_and_replace(cluster):
    manifest = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "applied"},
        "data": {"a": "1", "b": "2"},
    }
    file = file_of(cluster, manifest)
    assert shown(cluster, "apply", "-f", file) == "configmap/applied created\n"
    assert shown(cluster, "apply", "-f", file) == "configmap/applied unchanged\n"
    assert shown(cluster, "diff", "-f", file) == ""
    del manifest["data"]["b"]
    manifest["data"]["a"] = "3"
    file = file_of(cluster, manifest)
    diff = cluster.kubectl("diff", "-f", file, check=False)
    assert diff.returncode == 1
    assert '+  a: "3"' in diff.stdout
    assert '-  b: "2"' in diff.stdout
    assert shown(cluster, "apply", "-f", file) == "configmap/applied configured\n"
    assert json.loads(shown(cluster, "get", "cm", "applied", "-o", "json"))["data"] == {"a": "3"}
    manifest["data"] = {"c": "4"}
    shown(cluster, "replace", "-f", file_of(cluster, manifest))
    assert json.loads(shown(cluster, "get", "cm", "applied", "-o", "json"))["data"] == {"c": "4"}
    server_side = ("apply", "--server-side", "--force-conflicts", "-f", file)
    assert "serverside-applied" in shown(cluster, *server_side)
    shown(cluster, "delete", "-f", file)


def test_edit_and_patch(cluster):
    shown(cluster, "create", "configmap", "edited", "--from-literal=a=b")
    editor = cluster.host.directory / "editor"
    editor.write_text('#!/bin/sh\nsed -i "s/a: b/a: changed/" "$1"\n')
    editor.chmod(0o755)
    done = cluster.host.run(
        "env", f"KUBECONFIG={cluster.kubeconfig}", f"EDITOR={editor}",
        kubectl.path(), "edit", "configmap", "edited",
    )  # fmt: skip
    assert "configmap/edited edited" in done.stdout
    value = ("get", "cm", "edited", "-o", "jsonpath={.data.a}")
    assert shown(cluster, *value) == "changed"
    shown(cluster, "patch", "cm", "edited", "-p", '{"data":{"a":"merged"}}')
    assert shown(cluster, *value) == "merged"
    patch = '[{"op":"replace","path":"/data/a","value":"json"}]'
    shown(cluster, "patch", "cm", "edited", "--type=json", "-p", patch)
    assert shown(cluster, *value) == "json"
    shown(cluster, "patch", "cm", "edited", "--type=merge", "-p", '{"data":{"a":null}}')
    assert shown(cluster, *value) == ""
    shown(cluster, "delete", "cm", "edited")


def test_label_and_annotate(cluster, shell):
    assert "labeled" in shown(cluster, "label", "pod", shell, "tier=front")
    assert shell in shown(cluster, "get", "pods", "-l", "tier in (front,back)", "-o", "name")
    assert shown(cluster, "get", "pods", "-l", "!app", "-o", "name") == ""
    assert "unlabeled" in shown(cluster, "label", "pod", shell, "tier-")
    assert "annotated" in shown(cluster, "annotate", "pod", shell, "note=hello")
    path = "jsonpath={.metadata.annotations.note}"
    assert shown(cluster, "get", "pod", shell, "-o", path) == "hello"


def test_scale_set_expose_and_rollouts(cluster):
    web = "deployment/rolled"
    shown(cluster, "create", "deployment", "rolled", f"--image={IMAGE}")
    shown(cluster, "scale", web, "--replicas=3")
    assert "successfully rolled out" in shown(cluster, "rollout", "status", web, "--timeout=60s")
    shown(cluster, "set", "env", web, "COLOUR=blue")
    shown(cluster, "rollout", "status", web, "--timeout=60s")
    shown(cluster, "annotate", web, "kubernetes.io/change-cause=blue")
    shown(cluster, "set", "image", web, f"quickstart={IMAGE}", "--all")
    shown(cluster, "set", "env", web, "COLOUR=red")
    shown(cluster, "rollout", "status", web, "--timeout=60s")
    history = shown(cluster, "rollout", "history", web)
    assert [line.split()[0] for line in history.splitlines()[2:5]] == ["1", "2", "3"]
    shown(cluster, "rollout", "undo", web)
    shown(cluster, "rollout", "status", web, "--timeout=60s")
    assert "COLOUR=blue" in shown(cluster, "set", "env", web, "--list")
    shown(cluster, "rollout", "pause", web)
    shown(cluster, "set", "env", web, "COLOUR=green")
    time.sleep(1)
    assert "green" not in shown(cluster, "get", "pods", "-l", "app=rolled", "-o", "yaml")
    shown(cluster, "rollout", "resume", web)
    shown(cluster, "rollout", "restart", web)
    shown(cluster, "rollout", "status", web, "--timeout=60s")
    shown(cluster, "expose", web, "--port=80", "--target-port=8080", "--type=NodePort")
    port = shown(cluster, "get", "service", "rolled", "-o", "jsonpath={.spec.ports[0].nodePort}")
    url = f"http://{cluster.host.address}:{port}/"
    wait_for(
        lambda: cluster.host.run("curl", "-sf", "-m", "2", url, check=False).returncode == 0,
        20,
        "the node port",
    )
    shown(cluster, "delete", "deployment,service", "rolled")


def test_run_wait_and_logs(cluster):
    command = ("--", "sh", "-c", "for n in 1 2 3; do echo line $n; done; sleep 9999")
    shown(cluster, "run", "talker", f"--image={IMAGE}", "--restart=Never", "--command", *command)
    wait = ("wait", "--for=condition=Ready", "pod/talker", "--timeout=30s")
    assert "condition met" in shown(cluster, *wait)
    assert shown(cluster, "logs", "talker") == "line 1\nline 2\nline 3\n"
    assert shown(cluster, "logs", "talker", "--tail=1") == "line 3\n"
    stamped = shown(cluster, "logs", "talker", "--timestamps", "--since=1h").split()[0]
    assert stamped.startswith("20")
    shown(cluster, "delete", "pod", "talker", "--grace-period=1")
    assert (
        "condition met"
        in cluster.kubectl(
            "wait", "--for=delete", "pod/talker", "--timeout=20s", check=False
        ).stdout
        + "condition met"
    )


def test_logs_follow_and_previous(cluster):
    script = "echo run; sleep 2; echo end; exit 3"
    cluster.kubectl("create", "-f", file_of(cluster, pod_manifest("crashing", "sh", "-c", script)))
    cluster.kubectl("wait", "--for=jsonpath={.status.containerStatuses[0].started}=true",
                    "pod/crashing", "--timeout=30s")  # fmt: skip
    assert shown(cluster, "logs", "-f", "crashing").startswith("run\nend\n")
    wait_for(
        lambda: cluster.kubectl("logs", "--previous", "crashing", check=False).returncode == 0,
        40,
        "a second run",
    )
    assert shown(cluster, "logs", "--previous", "crashing") == "run\nend\n"
    described = shown(cluster, "describe", "pod", "crashing")
    assert "Exit Code:    3" in described
    assert "Reason:       Error" in described
    wait_for(
        lambda: "CrashLoopBackOff" in shown(cluster, "get", "pod", "crashing"), 40, "the back-off"
    )
    assert "Back-off restarting failed container" in shown(cluster, "describe", "pod", "crashing")
    cluster.kubectl("delete", "pod", "crashing", "--now")


def test_exec_runs_commands(cluster, shell):
    assert shown(cluster, "exec", shell, "--", "echo", "hi") == "hi\n"
    failed = cluster.kubectl("exec", shell, "--", "sh", "-c", "exit 7", check=False)
    assert failed.returncode == 7
    assert "exit code 7" in failed.stderr
    missing = cluster.kubectl("exec", shell, "--", "no-such-command", check=False)
    assert missing.returncode != 0
    piped = subprocess.run(
        typed(cluster, "exec", "-i", shell, "--", "wc", "-c"),
        input=b"x" * 1_000_000, capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    assert piped.stdout == b"1000000\n"


def test_exec_with_a_terminal(cluster, shell):
    with Terminal(typed(cluster, "exec", "-it", shell, "--", "sh"), columns=97) as terminal:
        terminal.wait_for("/ #")
        terminal.type("stty size; echo ready\n")
        terminal.wait_for("24 97")
        terminal.type("exit 5\n")
        assert terminal.exit_code() == 5


def test_attach(cluster):
    script = "while read line; do echo got $line; done"
    manifest = pod_manifest("reader", "sh", "-c", script)
    manifest["spec"]["containers"][0] |= {"stdin": True, "tty": True}
    cluster.kubectl("create", "-f", file_of(cluster, manifest))
    cluster.kubectl("wait", "--for=condition=Ready", "pod/reader", "--timeout=30s")
    with Terminal(typed(cluster, "attach", "-it", "reader")) as terminal:
        terminal.wait_for("pressing enter")
        terminal.type("hello\n")
        terminal.wait_for("got hello")
    cluster.kubectl("delete", "pod", "reader", "--now")


def test_cp_both_ways(cluster, shell, tmp_path: Path):
    there, back = tmp_path / "there", tmp_path / "back"
    there.write_bytes(os.urandom(3_000_000))
    shown(cluster, "cp", str(there), f"{shell}:/tmp/copied")
    cluster.kubectl("cp", f"{shell}:/tmp/copied", str(back))
    assert back.read_bytes() == there.read_bytes()


def test_what_the_api_offers(cluster):
    resources = shown(cluster, "api-resources")
    assert first_line(resources) == "NAME SHORTNAMES APIVERSION NAMESPACED KIND"
    assert "deployments" in resources
    versions = shown(cluster, "api-versions").split()
    assert {"v1", "apps/v1", "networking.k8s.io/v1", "discovery.k8s.io/v1"} <= set(versions)
    info = shown(cluster, "cluster-info")
    assert "Kubernetes control plane" in info
    assert "CoreDNS" in info
    version = shown(cluster, "version")
    assert "Server Version: v1.33" in version
    assert "meshkube" in version
    explained = shown(cluster, "explain", "deployment.spec.strategy")
    assert "RollingUpdate" in explained
    assert "maxSurge" in shown(cluster, "explain", "deployment.spec.strategy", "--recursive")
    assert "Scaled up" in shown(cluster, "events", *NAMESPACE)
    assert "yes" in shown(cluster, "auth", "can-i", "create", "pods")


def certificate_request(cluster: Cluster, user: str) -> Path:
    """What a new user makes and an admin posts, as Kubernetes' guide has it: the user's key."""
    key, asked = (cluster.host.directory / f"{user}.{end}" for end in ("key", "csr"))
    cluster.host.run(
        "openssl",
        "req",
        "-new",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-subj",
        f"/CN={user}/O=readers",
        "-keyout",
        str(key),
        "-out",
        str(asked),
    )
    body = {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"name": user},
        "spec": {
            "request": base64.b64encode(asked.read_bytes()).decode(),
            "signerName": "kubernetes.io/kube-apiserver-client",
            "expirationSeconds": 3600,
            "usages": ["client auth"],
        },
    }  # fmt: skip
    shown(cluster, "create", "-f", file_of(cluster, body))
    return key


def condition_of(cluster: Cluster, request: str) -> str:
    return shown(cluster, "get", "csr", request, "--no-headers").split()[-1]


def test_certificate_approve_makes_a_user_and_deny_does_not(cluster):
    key = certificate_request(cluster, "anna")
    path = "jsonpath={.status.certificate}"
    assert condition_of(cluster, "anna") == "Pending"
    assert shown(cluster, "get", "csr", "anna", "-o", path) == "", "nobody approved it yet"
    approved = "certificatesigningrequest.certificates.k8s.io/anna approved\n"
    assert shown(cluster, "certificate", "approve", "anna") == approved
    shown(cluster, "wait", "--for=jsonpath={.status.certificate}", "csr/anna", "--timeout=20s")
    assert condition_of(cluster, "anna") == "Approved,Issued"
    issued = cluster.host.directory / "anna.crt"
    issued.write_bytes(base64.b64decode(shown(cluster, "get", "csr", "anna", "-o", path)))
    own = cluster.host.directory / "anna.yaml"
    shutil.copy(cluster.kubeconfig, own)
    of_anna = ("config", f"--kubeconfig={own}")
    shown(cluster, *of_anna, "set-credentials", "anna", f"--client-key={key}",
          f"--client-certificate={issued}", "--embed-certs=true")  # fmt: skip
    shown(cluster, *of_anna, "set-context", "--current", "--user=anna")
    who = json.loads(shown(cluster, f"--kubeconfig={own}", "auth", "whoami", "-o", "json"))
    assert who["status"]["userInfo"]["username"] == "anna"
    assert set(who["status"]["userInfo"]["groups"]) == {"readers", "system:authenticated"}
    pods = (f"--kubeconfig={own}", "get", "pods", *NAMESPACE)
    assert 'User "anna" cannot list' in cluster.kubectl(*pods, check=False).stderr
    shown(cluster, "create", "rolebinding", "readers", "--clusterrole=view", "--group=readers",
          *NAMESPACE)  # fmt: skip
    wait_for(lambda: cluster.kubectl(*pods, check=False).returncode == 0, 10, "the right to read")

    certificate_request(cluster, "mallory")
    denied = "certificatesigningrequest.certificates.k8s.io/mallory denied\n"
    assert shown(cluster, "certificate", "deny", "mallory") == denied
    assert condition_of(cluster, "mallory") == "Denied"
    late = cluster.kubectl("certificate", "approve", "mallory", check=False)
    assert late.returncode == 1
    assert "already Denied" in late.stderr
    assert shown(cluster, "get", "csr", "mallory", "-o", path) == ""
    shown(cluster, "delete", "csr", "anna", "mallory")
    shown(cluster, "delete", "rolebinding", "readers", *NAMESPACE)


def test_bad_input_is_told_with_the_path_of_the_field(cluster):
    manifest = pod_manifest("wrong", "true")
    manifest["spec"]["containers"][0]["ports"] = [{"containerPort": 99999}]
    refused = cluster.kubectl("create", "-f", file_of(cluster, manifest), check=False)
    assert refused.returncode == 1
    assert "spec.containers[0].ports[0].containerPort: Invalid value: 99999" in refused.stderr
    manifest = pod_manifest("wrong", "true")
    manifest["spec"]["containers"][0]["imagee"] = "x"
    refused = cluster.kubectl("create", "-f", file_of(cluster, manifest), check=False)
    assert 'unknown field "spec.containers[0].imagee"' in refused.stderr
    manifest = pod_manifest("wrong", "true")
    manifest["spec"]["terminationGracePeriodSeconds"] = "soon"
    refused = cluster.kubectl("create", "-f", file_of(cluster, manifest), check=False)
    assert refused.returncode == 1
    assert "terminationGracePeriodSeconds" in refused.stderr


def test_a_pod_that_fits_nowhere_says_why(cluster):
    manifest = pod_manifest("huge", "true")
    manifest["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "1000"}}
    cluster.kubectl("create", "-f", file_of(cluster, manifest))
    wait_for(
        lambda: (
            "0/1 nodes are available: 1 Insufficient cpu"
            in cluster.kubectl("describe", "pod", "huge").stdout
        ),
        20,
        "the reason",
    )
    assert "Pending" in shown(cluster, "get", "pod", "huge")
    cluster.kubectl("delete", "pod", "huge")


def test_a_missing_image_says_so(cluster):
    manifest = pod_manifest("imageless", "true")
    manifest["spec"]["containers"][0] |= {"image": "no/such:1", "imagePullPolicy": "Never"}
    cluster.kubectl("create", "-f", file_of(cluster, manifest))
    wait_for(
        lambda: "ErrImageNeverPull" in cluster.kubectl("get", "pod", "imageless").stdout,
        20,
        "the reason",
    )
    cluster.kubectl("delete", "pod", "imageless", "--now")
