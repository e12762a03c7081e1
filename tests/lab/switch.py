"""The lab's switch: a bridge in a namespace of its own, with a port for each host.

What goes wrong between hosts goes wrong here, as on a real network: hosts notice only that nothing
comes. A fault is about two ports, either way; the whole set is loaded into nftables at once.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import DEVNULL, Popen

from tests.lab.shell import run, wait_for

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Fault:
    """Packets between two hosts (numbers of their ports) that are lost: `percent` of them, of
    those to TCP port `port` of the second one and back, or of all where it is 0."""

    one: int
    other: int
    percent: int = 100
    port: int = 0


def ruleset(faults: Iterable[Fault]) -> str:
    """The faults as one `nft -f` script that replaces whatever was loaded before."""
    lines = ["table bridge faults", "delete table bridge faults", "table bridge faults {"]
    lines += ["chain forward {", "type filter hook forward priority 0;"]
    for fault in faults:
        # A reject would tell the sender; a broken link does not.
        lost = "drop" if fault.percent >= 100 else f"numgen random mod 100 < {fault.percent} drop"
        there, back = f"tcp dport {fault.port} ", f"tcp sport {fault.port} "
        if not fault.port:
            there = back = ""
        lines.append(f'iifname "{port(fault.one)}" oifname "{port(fault.other)}" {there}{lost}')
        lines.append(f'iifname "{port(fault.other)}" oifname "{port(fault.one)}" {back}{lost}')
    return "\n".join([*lines, "}", "}", ""])


def port(number: int) -> str:
    """The name of a host's port."""
    return f"p{number}"


@dataclass
class Switch:
    """Namespace `name`; the bridge has address `10.250.<network>.1`, hosts have .11, .12, ..."""

    name: str
    network: int
    faults: list[Fault] = field(default_factory=list)
    delays: dict[int, Popen[bytes]] = field(default_factory=dict)

    def create(self) -> None:
        run("ip", "netns", "add", self.name)
        self.run("ip", "link", "add", "br0", "type", "bridge")
        self.run("ip", "addr", "add", f"10.250.{self.network}.1/24", "dev", "br0")
        self.run("ip", "link", "set", "br0", "up")

    def run(self, *command: str, stdin: str | None = None) -> None:
        run("nsenter", f"--net=/run/netns/{self.name}", *command, stdin=stdin)

    def attach(self, namespace: str, number: int) -> str:
        """Gives a namespace `eth0` at the port of that number; returns the address. The MAC address
        is always the same, as that of a host that was switched off and on again."""
        address = f"10.250.{self.network}.{10 + number}"
        mac = f"02:6d:6b:{self.network:02x}:00:{number:02x}"
        enter = ("nsenter", f"--net=/run/netns/{namespace}", "ip")
        run("ip", "link", "add", port(number), "netns", self.name, "type", "veth",
            "peer", "name", "eth0", "netns", namespace)  # fmt: skip
        self.run("ip", "link", "set", port(number), "master", self._bridge(number), "up")
        run(*enter, "link", "set", "lo", "up")
        run(*enter, "addr", "add", f"{address}/24", "dev", "eth0")
        run(*enter, "link", "set", "eth0", "address", mac, "up")
        run(*enter, "route", "add", "default", "via", f"10.250.{self.network}.1")
        return address

    def detach(self, number: int) -> None:
        """Pulls the plug: from here on nothing of the host is heard."""
        run("nsenter", f"--net=/run/netns/{self.name}", "ip", "link", "delete", port(number),
            check=False)  # fmt: skip

    def set_faults(self, *faults: Fault) -> None:
        """These, and no others."""
        self.faults = list(faults)
        self.run("nft", "-f", "-", stdin=ruleset(self.faults))

    # Delay: the kernels here have no netem, so frames wait in a process between two taps.

    def delay(self, number: int, milliseconds: int, jitter: int = 0) -> None:
        """Every frame of that host's link takes this much longer, each way."""
        self.undelay(number)
        inner, outer = f"in{number}", f"out{number}"
        wire = Popen(
            ["nsenter", f"--net=/run/netns/{self.name}", sys.executable, "-m", "tests.lab.wire",
             inner, outer, str(milliseconds), str(jitter)],
            cwd=ROOT, stdin=DEVNULL, stdout=DEVNULL, start_new_session=True,
        )  # fmt: skip
        self.delays[number] = wire
        wait_for(lambda: self._has(outer), 10, "the delaying wire")
        bridge = f"slow{number}"
        self.run("ip", "link", "add", bridge, "type", "bridge")
        self.run("ip", "link", "set", bridge, "up")
        self.run("ip", "link", "set", inner, "master", bridge, "up")
        self.run("ip", "link", "set", outer, "master", "br0", "up")
        self.run("ip", "link", "set", port(number), "master", bridge)

    def undelay(self, number: int) -> None:
        wire = self.delays.pop(number, None)
        if wire is None:
            return
        run("nsenter", f"--net=/run/netns/{self.name}", "ip", "link", "set", port(number),
            "master", "br0", check=False)  # fmt: skip
        wire.kill()
        wire.wait()
        self.run("ip", "link", "delete", f"slow{number}")

    def _bridge(self, number: int) -> str:
        return f"slow{number}" if number in self.delays else "br0"

    def _has(self, link: str) -> bool:
        show = ("nsenter", f"--net=/run/netns/{self.name}", "ip", "link", "show", link)
        return run(*show, check=False).returncode == 0

    def close(self) -> None:
        for number in list(self.delays):
            self.undelay(number)
        run("ip", "netns", "delete", self.name, check=False)
