"""A cluster of several hosts on this machine, to play with: `scripts/lab up|down|status|...`."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.lab import standing
from tests.lab.hosts import Hosts, plan
from tests.lab.node import Node
from tests.lab.shell import run, wait_for

ROOT = Path(__file__).resolve().parent.parent
# Not in the repository: paths of Unix sockets may have 108 bytes, and Docker's are long.
BASE = Path(os.environ.get("MESHKUBE_LAB_DIR") or "/var/tmp/meshkube-lab")
ENTER = "scripts/lab enter"
REPLICAS = 4


class LabError(Exception):
    """A step that failed, in one line."""


def say(text: str) -> None:
    print(text, flush=True)


def the_lab() -> Hosts:
    hosts = standing.load(BASE)
    if hosts is None:
        raise LabError("there is no lab: make lab")
    return hosts


def node_of(hosts: Hosts, name: str) -> Node:
    """A node by its name, or by its last part: `h2`."""
    found = hosts.named(name) or hosts.named(f"{BASE.name}-{name}")
    if found is None:
        names = ", ".join(node.name for node in hosts.nodes)
        raise LabError(f"{name} is none of {names}")
    return found


def up() -> None:
    hosts = standing.load(BASE)
    if hosts is not None:
        say("The lab stands already.")
        status()
        what_next(hosts)
        return
    if standing.remove(BASE):
        say("removed what an earlier lab had left")
    BASE.mkdir(parents=True)
    began = time.monotonic()
    say("Three servers with an etcd member each, an agent, and a client's host")
    hosts = plan(servers=3, agents=1, docker=True, tag=BASE.name, base=BASE)
    standing.save(hosts, BASE)
    try:
        hosts.start()
        standing.save(hosts, BASE)
        write_kubeconfig(hosts)
        say(f"  every node Ready ({time.monotonic() - began:.0f} s)")
        hosts.api.apply_quickstart()
        for name in ("user", "products"):
            hosts.api.meshkube("apply", "-f", str(scaled(hosts, name)))
        wanted = {"user": REPLICAS, "products": REPLICAS}
        wait_for(lambda: hosts.api.available("shop") == wanted, 120, "the quickstart")
        say(f"  the quickstart answers ({time.monotonic() - began:.0f} s)\n")
    except BaseException:
        standing.remove(BASE)
        raise
    status()
    what_next(hosts)


def scaled(hosts: Hosts, name: str) -> Path:
    """The quickstart's Deployment with a pod for each host."""
    found = hosts.api.get("deployment", name, "-n", "shop")
    wanted = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {**found["spec"], "replicas": REPLICAS},
    }
    file = BASE / f"{name}.json"
    file.write_text(json.dumps(wanted))
    return file


def write_kubeconfig(hosts: Hosts) -> None:
    """For hosts without an API of their own: through the first server."""
    first = hosts.servers[0]
    url = f"https://{first.host.address}:6443"
    file = BASE / "kubeconfig.yaml"
    file.write_text(first.meshkube("kubeconfig", "--server", url).stdout)
    file.chmod(0o600)


def down() -> None:
    if standing.remove(BASE):
        say("the lab is gone: no process, namespace, container or file of it is left")
    else:
        say("there is no lab")


def status() -> None:
    hosts = the_lab()
    for node in hosts.nodes:
        state = "off" if not node.on else "frozen" if node.frozen else "on"
        etcd = ", etcd" if node.member else ""
        say(f"  {node.name:24} {node.host.address:14} {node.kind}{etcd}, {state}")
    say(f"  {hosts.client.name:24} {hosts.client.address:14} a client, no node")
    ready = hosts.conditions()
    say(f"  Ready: {sum(value == 'True' for value in ready.values())} of {len(hosts.nodes)}")


def what_next(hosts: Hosts) -> None:
    address = hosts.nodes[-1].host.address
    say(f"""
What to type next (h1 is the first host; without a host it is meant; `client` is none of the nodes):
  {ENTER} h1                       # a shell on that host, with its KUBECONFIG and DOCKER_HOST
  {ENTER} kubectl get nodes -o wide
  {ENTER} client curl -H 'Host: shop.example' http://{address}/user
  scripts/lab kill h2                     # the power of a host fails; scripts/lab revive h2
  scripts/lab cut h1 h3                   # no packet passes between two; scripts/lab heal
  scripts/lab freeze h1                   # its daemon stands still; scripts/lab thaw h1
  scripts/lab status
  make lab-down                           # removes it all""")


def enter(*arguments: str) -> None:
    """Replaces this process by a command, or a shell, on a host."""
    hosts = the_lab()
    host, command, kubeconfig = hosts.nodes[0].host, list(arguments), ""
    names = {"client": hosts.client, hosts.client.name: hosts.client}
    for node in hosts.nodes:
        names[node.name] = names[node.name.removeprefix(f"{BASE.name}-")] = node.host
    if command and command[0] in names:
        host = names[command.pop(0)]
    own = host.directory / "meshkube/kubeconfig.yaml"
    kubeconfig = str(own if own.exists() else BASE / "kubeconfig.yaml")
    environment = {
        **os.environ,
        "KUBECONFIG": kubeconfig,
        "DOCKER_HOST": host.docker_socket,
        "PATH": f"{ROOT}/.venv/bin:{os.environ['PATH']}",
        "PS1": f"{host.name}# ",
    }
    line = host.command(*(command or ["bash", "--norc"]))
    os.execvpe(line[0], line, environment)


def kill(name: str) -> None:
    hosts = the_lab()
    node = node_of(hosts, name)
    node.power_off()
    standing.save(hosts, BASE)
    say(f"{node.name} is off")


def revive(name: str) -> None:
    hosts = the_lab()
    node = node_of(hosts, name)
    if node.on:
        raise LabError(f"{node.name} is on")
    hosts.revive(node)
    standing.save(hosts, BASE)
    say(f"{node.name} is on again")


def cut(one: str, other: str) -> None:
    hosts = the_lab()
    hosts.cut(node_of(hosts, one), node_of(hosts, other))
    standing.save(hosts, BASE)


def heal() -> None:
    hosts = the_lab()
    hosts.switch.set_faults()
    hosts.faults = []
    standing.save(hosts, BASE)


def freeze(name: str) -> None:
    _signal(name, "-STOP", frozen=True)


def thaw(name: str) -> None:
    _signal(name, "-CONT", frozen=False)


def _signal(name: str, signal: str, *, frozen: bool) -> None:
    hosts = the_lab()
    node = node_of(hosts, name)
    for pid in run("ip", "netns", "pids", node.name).stdout.split():
        if f"--data-dir={node.data_dir}" in Path(f"/proc/{pid}/cmdline").read_text():
            run("kill", signal, pid)
    node.frozen = frozen
    standing.save(hosts, BASE)


COMMANDS: dict[str, Callable[..., None]] = {
    "up": up,
    "down": down,
    "status": status,
    "enter": enter,
    "kill": kill,
    "revive": revive,
    "cut": cut,
    "heal": heal,
    "freeze": freeze,
    "thaw": thaw,
}


def main() -> int:
    name, *arguments = sys.argv[1:] or ["up"]
    if name not in COMMANDS:
        print(f"lab: {name} is none of {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    try:
        COMMANDS[name](*arguments)
    except (LabError, RuntimeError, TimeoutError, TypeError) as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
