"""Runs Kubernetes' own end-to-end tests against two hosts that it makes: `scripts/conformance`."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from xml.etree import ElementTree

from tests.lab.agent import Agent
from tests.lab.cluster import Cluster
from tests.lab.host import Host, lab
from tests.lab.shell import wait_for

REGISTRY = "registry.k8s.io/e2e-test-images"
TILL_TOLD = "trap 'exit 0' TERM INT; while :; do sleep 3600 & wait; done"
SERVE = f'CMD ["sh","-c","httpd -p 80 -h /srv; {TILL_TOLD}"]'
STAY = f'ENTRYPOINT ["sh","-c","{TILL_TOLD}"]'
IMAGES = {
    f"{REGISTRY}/agnhost:2.53": ("agnhost", 'ENTRYPOINT ["/agnhost"]', 'CMD ["pause"]'),
    f"{REGISTRY}/jessie-dnsutils:1.7": ("agnhost", STAY),
    f"{REGISTRY}/busybox:1.36.1-1": ("busybox", 'CMD ["sh"]'),
    f"{REGISTRY}/nonewprivs:1.3": ("nonewprivs", 'CMD ["nnp"]'),
    f"{REGISTRY}/nonroot:1.4": ("busybox", "USER 1234", 'CMD ["sh"]'),
    f"{REGISTRY}/httpd:2.4.38-4": ("httpd", SERVE),
    f"{REGISTRY}/httpd:2.4.39-4": ("httpd", SERVE),
    f"{REGISTRY}/nginx:1.14-4": ("httpd", SERVE),
    f"{REGISTRY}/nginx:1.15-4": ("httpd", SERVE),
    f"{REGISTRY}/kitten:1.7": ("kitten", SERVE),
    f"{REGISTRY}/nautilus:1.7": ("nautilus", SERVE),
    f"{REGISTRY}/perl:5.26": ("busybox", 'CMD ["sh"]'),
    f"{REGISTRY}/resource-consumer:1.13": ("resource-consumer", 'ENTRYPOINT ["/consumer"]'),
    f"{REGISTRY}/regression-issue-74839:1.2": (
        "regression-issue-74839", 'ENTRYPOINT ["/regression-issue-74839"]',
    ),
    f"{REGISTRY}/sample-apiserver:1.29.2": ("sample-apiserver", 'ENTRYPOINT ["/apiserver"]'),
    "registry.k8s.io/etcd:3.5.21-0": ("etcd", 'CMD ["etcd"]'),
    "registry.k8s.io/pause:3.10": ("busybox", STAY),
}  # fmt: skip
"""Each image the suite names, and the root file system and settings of what stands for it here."""


def give_images(host: Host, roots: Path) -> None:
    """The images, in a host's own Docker: the first of a root file system, then layers on it."""
    for image, (root, *changes) in IMAGES.items():
        options = [f"--change={change}" for change in ("ENV PATH=/bin:/usr/bin", *changes)]
        host.docker("import", *options, str(roots / f"{root}.tar"), image)


def main() -> int:
    options = parsed()
    e2e = options.kept / "e2e.test"
    if options.list:
        chosen = [f"--ginkgo.focus={options.focus}", f"--ginkgo.skip={options.skip}"]
        return subprocess.call([str(e2e), "--ginkgo.dry-run", "--ginkgo.v", *chosen])
    report = Path(options.report or tempfile.mkdtemp(prefix="conformance-"))
    report.mkdir(parents=True, exist_ok=True)
    with lab(options.hosts + 1, docker=False) as (*hosts, client):
        first, *others = hosts
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(Host.start_docker, hosts))
            list(pool.map(lambda host: give_images(host, options.kept / "roots"), hosts))
        subnet = first.address.rpartition(".")[0]
        flags = [f"--load-balancer-pool={subnet}.200-{subnet}.219"]
        if options.dual_stack:
            for number, host in enumerate((*hosts, client), 11):
                host.run("ip", "address", "add", f"fd00:250::{number}/64", "dev", "eth0", "nodad")
                host.run("ip", "-6", "route", "add", "default", "via", "fd00:250::1")
            flags += ["--pod-cidr=10.42.0.0/16,fd00:42::/56"]
            flags += ["--service-cidr=10.43.0.0/16,fd00:43::/112"]
        cluster = Cluster(first, f"--docker={first.docker_socket}", *flags)
        cluster.build_image()
        cluster.start(timeout=120)
        token = cluster.meshkube("token", "create", "--role=agent").stdout.strip()
        for host in others:
            Agent(host, first.address, f"--docker={host.docker_socket}").start(token)
        wait_for(lambda: len(cluster.get("nodes")["items"]) == len(hosts), 90, "all nodes")
        kubeconfig = client.directory / "kubeconfig.yaml"
        url = f"https://{first.address}:6443"
        kubeconfig.write_text(cluster.meshkube("kubeconfig", "--server", url).stdout)
        if options.zones:
            for number, node in enumerate(cluster.get("nodes")["items"]):
                zone = f"topology.kubernetes.io/zone=z{number % options.zones}"
                name = node["metadata"]["name"]
                client.run(
                    options.kubectl, f"--kubeconfig={kubeconfig}", "label", "node", name, zone
                )
        names = ", ".join(host.name for host in others)
        print(f"hosts {first.name} ({first.directory}), {names}; report {report}", flush=True)
        command = client.command(
            str(options.kept / "ginkgo"), f"--procs={options.procs}", "-v",
            f"--focus={options.focus}", f"--skip={options.skip}", f"--timeout={options.hours}h",
            "--junit-report=junit.xml", f"--output-dir={report}", str(e2e), "--",
            f"--kubeconfig={kubeconfig}", "--provider=skeleton", f"--num-nodes={len(hosts)}",
            "--disable-log-dump", f"--kubectl-path={options.kubectl}", "--delete-namespace=true",
        )  # fmt: skip
        with (report / "log.txt").open("wb") as log:
            status = subprocess.call(command, stdout=log, stderr=subprocess.STDOUT)
        (report / "meshkube.log").write_text(cluster.log)
        for number, host in enumerate(others, 1):
            kept = report / f"agent{number if number > 1 else ''}.log"
            kept.write_text((host.directory / "agent.log").read_text())
    summary(report)
    return status


def summary(report: Path) -> None:
    """What passed and what did not, from the suite's own JUnit report."""
    counts = {"passed": 0, "failed": 0}
    for file in sorted(report.glob("junit*.xml")):
        for case in ElementTree.parse(file).iter("testcase"):
            if not case.get("name", "").startswith("[It]") or case.get("status") == "skipped":
                continue
            passed = case.get("status") == "passed"
            counts["passed" if passed else "failed"] += 1
            print(
                "PASS" if passed else "FAIL", case.get("name"), f"{float(case.get('time', 0)):.0f}s"
            )
    print(f"{counts['passed']} passed, {counts['failed']} failed; {report}")


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kept", type=Path, help="the folder that scripts/need-kubernetes-e2e made")
    parser.add_argument("--focus", default=r"\[Conformance\]", help="a regular expression of names")
    parser.add_argument("--skip", default=r"\[Disruptive\]", help="what not to run")
    parser.add_argument("--procs", type=int, default=1, help="how many tests at a time")
    parser.add_argument("--hours", default="2", help="the longest that all may take")
    parser.add_argument("--report", default="", help="the folder for log and JUnit file")
    parser.add_argument("--hosts", type=int, default=2, help="how many nodes")
    parser.add_argument("--zones", type=int, default=0, help="how many zones they are in")
    parser.add_argument("--dual-stack", action="store_true", help="a cluster of IPv4 and IPv6")
    parser.add_argument("--list", action="store_true", help="only say which tests these are")
    parser.add_argument("--kubectl", default=kubectl(), help="the kubectl to test with")
    return parser.parse_args()


def kubectl() -> str:
    from tests.support import kubectl as client

    return client.path()


if __name__ == "__main__":
    sys.exit(main())
