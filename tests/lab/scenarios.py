"""Bad days of a cluster, each as a short story. What each leaves broken, `Hosts.heal` and a revival
of what was switched off put right; what must hold then is in `checks`.

`hosts` are three servers on an etcd member each, and agents; `chance` decides all that is left to
it, so that a story can be told again word for word.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from glob import glob

from tests.lab.hosts import Hosts
from tests.lab.members import Member
from tests.lab.node import Node
from tests.lab.shell import wait_for

Scenario = Callable[[Hosts, random.Random], str]
"""Makes things go wrong, and says in a few words what happened."""

TO_NEXT_LEADER = 30.0
LIBFAKETIME = "/usr/lib/*/faketime/libfaketime.so.1"


class Skipped(Exception):
    """This machine cannot play it, and why."""


def _next_leader(hosts: Hosts, old: Node, since: float) -> str:
    wait_for(lambda: hosts.leader() not in (None, old), TO_NEXT_LEADER, "the next leader")
    return f"{hosts.leader()} follows {old} after {time.monotonic() - since:.1f} s"


def _members(hosts: Hosts) -> list[Member]:
    return [member for member in hosts.members if member.process is not None]


def leader_cut_from_etcd(hosts: Hosts, chance: random.Random) -> str:
    """The leader's daemon reaches no etcd member any more; the members reach each other."""
    old = hosts.wait_for_leader()
    since = time.monotonic()
    old.cut_from_store()
    said = _next_leader(hosts, old, since)
    time.sleep(chance.uniform(0, 3))
    old.heal_store()
    return said


def leader_partitioned(hosts: Hosts, chance: random.Random) -> str:
    """The leader's host, with its etcd member, is alone on its side of the network."""
    old = hosts.wait_for_leader()
    since = time.monotonic()
    hosts.cut(old)
    said = _next_leader(hosts, old, since)
    time.sleep(chance.uniform(0, 3))
    return said


def leader_killed(hosts: Hosts, chance: random.Random) -> str:
    """The leader's host loses its power."""
    time.sleep(chance.uniform(0, 1))
    old = hosts.wait_for_leader()
    since = time.monotonic()
    old.power_off()
    return _next_leader(hosts, old, since)


def leader_frozen(hosts: Hosts, chance: random.Random) -> str:
    """The leader stands still in the middle of its work, and goes on with it when it wakes."""
    time.sleep(chance.uniform(0, 1))
    old = hosts.wait_for_leader()
    since = time.monotonic()
    old.freeze()
    said = _next_leader(hosts, old, since)
    time.sleep(chance.uniform(0, 2))
    old.thaw()
    return said


def leader_naps(hosts: Hosts, chance: random.Random) -> str:
    """It stands still for about as long as its lease lasts: sometimes it still leads, and sometimes
    not."""
    old = hosts.wait_for_leader()
    nap = chance.uniform(1.0, 3.0)
    old.freeze()
    time.sleep(nap)
    old.thaw()
    return f"{old} slept {nap:.1f} s"


def host_killed(hosts: Hosts, chance: random.Random) -> str:
    """Any host loses its power."""
    dead = chance.choice(hosts.nodes)
    dead.power_off()
    time.sleep(chance.uniform(1, 6))
    return f"{dead} was off"


def etcd_member_killed(hosts: Hosts, chance: random.Random) -> str:
    """One etcd member ends, for a while; most often the daemon beside it used that one."""
    member = chance.choice(_members(hosts))
    member.kill()
    time.sleep(chance.uniform(0.5, 4))
    member.start(hosts.members)
    return f"the member of {member.host.name} was away"


def quorum_lost(hosts: Hosts, chance: random.Random) -> str:
    """Two of three members end: nothing can be written until one is back."""
    killed = chance.sample(_members(hosts), 2)
    for member in killed:
        member.kill()
    time.sleep(chance.uniform(1, 6))
    for member in killed:
        member.start(hosts.members)
    since = time.monotonic()
    wait_for(lambda: hosts.leader() is not None, 60, "a leader after the quorum is back")
    return f"led again {time.monotonic() - since:.1f} s after the quorum was back"


def link_cut(hosts: Hosts, chance: random.Random) -> str:
    """Two hosts do not reach each other; all others reach both."""
    one, other = chance.sample(hosts.nodes, 2)
    hosts.cut(one, other)
    time.sleep(chance.uniform(1, 6))
    return f"{one} and {other} apart"


def link_flaps(hosts: Hosts, chance: random.Random) -> str:
    """The leader's link comes and goes."""
    old = hosts.wait_for_leader()
    for _ in range(5):
        hosts.cut(old)
        time.sleep(chance.uniform(0.2, 1.5))
        hosts.heal()
        time.sleep(chance.uniform(0.2, 1.0))
    return f"the link of {old}, five times"


def slow_link(hosts: Hosts, chance: random.Random) -> str:
    """The leader's packets take long."""
    old, delay = hosts.wait_for_leader(), chance.randint(20, 80)
    hosts.switch.delay(old.host.number, delay, jitter=delay // 4)
    time.sleep(chance.uniform(3, 6))
    return f"{delay} ms each way for {old}"


def lossy_link(hosts: Hosts, chance: random.Random) -> str:
    """A share of the packets of one server's host is lost."""
    node, percent = chance.choice(hosts.servers), chance.randint(5, 25)
    hosts.lose(percent, node)
    time.sleep(chance.uniform(3, 6))
    return f"{percent} % of the packets of {node}"


def clock_ahead(hosts: Hosts, chance: random.Random) -> str:
    """A server's clock is wrong by up to a minute, either way; it may come to lead."""
    library = glob(LIBFAKETIME)
    if not library:
        raise Skipped("the package faketime is missing")
    node, seconds = chance.choice(hosts.servers), chance.choice((-60, -20, 20, 60))
    node.stop()
    node.launch(env={"LD_PRELOAD": library[0], "FAKETIME": f"{seconds:+d}s",
                     "FAKETIME_DONT_FAKE_MONOTONIC": "1"})  # fmt: skip
    node.wait_ready()
    for other in hosts.servers:
        if other is not node:
            other.stop()
            wait_for(lambda: hosts.leader() is not None, 30, "a leader")
            other.up()
    said = f"{seconds:+d} s for {node}, led by {hosts.wait_for_leader()}"
    node.stop()
    node.up()
    return said


SCENARIOS: dict[str, Scenario] = {
    story.__name__.replace("_", "-"): story
    for story in (
        leader_cut_from_etcd, leader_partitioned, leader_killed, leader_frozen, leader_naps,
        host_killed, etcd_member_killed, quorum_lost, link_cut, link_flaps, slow_link, lossy_link,
        clock_ahead,
    )
}  # fmt: skip
