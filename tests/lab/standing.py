"""A lab that outlives the command that made it: what `make lab` starts and a person plays with.

Its processes go on by themselves; a file says what there is, so that the next command finds it.
"""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from pathlib import Path

from tests.lab.host import Host
from tests.lab.hosts import Hosts
from tests.lab.node import Node
from tests.lab.shell import run
from tests.lab.switch import Fault, Switch

FILE = "lab.json"


def save(hosts: Hosts, base: Path) -> None:
    """Writes down what there is."""
    switch = hosts.switch
    state = {
        "switch": {"name": switch.name, "network": switch.network},
        "client": _host(hosts.client),
        "nodes": [
            {
                **_host(node.host),
                "kind": node.kind,
                "docker": node.docker,
                "flags": list(node.flags),
                "on": node.on,
                "frozen": node.frozen,
            }
            for node in hosts.nodes
        ],
        "faults": [[f.one, f.other, f.percent, f.port] for f in hosts.faults],
    }
    (base / FILE).write_text(json.dumps(state, indent=1))


def _host(host: Host) -> dict[str, object]:
    return {
        "name": host.name,
        "number": host.number,
        "directory": str(host.directory),
        "address": host.address,
    }


def load(base: Path) -> Hosts | None:
    """The lab that stands, or None. Processes are found by the host they run on."""
    try:
        state = json.loads((base / FILE).read_text())
    except FileNotFoundError:
        return None
    switch = Switch(state["switch"]["name"], state["switch"]["network"])

    def host(entry: dict[str, object]) -> Host:
        made = Host(str(entry["name"]), switch, int(str(entry["number"])),
                    Path(str(entry["directory"])))  # fmt: skip
        made.address = str(entry["address"])
        return made

    nodes = []
    for entry in state["nodes"]:
        node = Node(host(entry), entry["kind"], docker=entry["docker"])
        node.flags = tuple(entry["flags"])
        node.on = node.started = entry["on"]
        node.frozen = entry["frozen"]
        nodes.append(node)
    hosts = Hosts(nodes, host(state["client"]))
    hosts.faults = [Fault(*numbers) for numbers in state["faults"]]
    return hosts


def remove(base: Path) -> bool:
    """Takes away the lab in `base`, and whatever one that broke off left there. False: there was
    none."""
    hosts = load(base)
    if hosts is not None:
        hosts.close()
    found = hosts is not None
    for name in _namespaces(base):
        found = True
        with suppress(RuntimeError):
            run("ip", "netns", "delete", name)
    shutil.rmtree(base, ignore_errors=True)
    return found


def _namespaces(base: Path) -> list[str]:
    """Those that are named after this directory and still there."""
    listed = run("ip", "netns", "list").stdout.splitlines()
    names = [line.split()[0] for line in listed if line.split()]
    return [name for name in names if name.startswith(f"{base.name}-")]
