"""nft scripts: the table's fixed part, its classes, and changes of elements.

Pure. Each script is one transaction: the kernel takes all of it or nothing. Written for nft 1.0.6
(Debian 12) and later: keys by `typeof`, numbers where a host may have no names.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple, TypeVar

from meshkube.dataplane import memory_rule
from meshkube.dataplane.rules import Change, Ruleset, is_class, is_memory
from meshkube.dataplane.services import PROTOCOLS, Family, Settings, family_of

T = TypeVar("T")

TABLE = "inet meshkube"

_L4 = "meta l4proto { 6, 17, 132 }"
_IP: dict[Family, str] = {4: "ip", 6: "ip6"}
_LOOPBACK: dict[Family, str] = {4: "127.0.0.0/8", 6: "::1"}

# Before Docker's own address translation (-100) and filters (0): see docs/dataplane.md.
_NAT, _FILTER, _GUARD = -105, -10, -110

_MOST_CLIENTS = 262144
"""How many clients with affinity a node remembers; more are spread anew with each connection."""

Affinities = Mapping[str, "Affinity"]
"""`client . front` -> whom it keeps to."""


class Affinity(NamedTuple):
    """What the kernel remembers of one client of one front. Times in seconds."""

    backend: str
    timeout: int
    expires: int


def load(ruleset: Ruleset, settings: Settings, kept: Affinities | None = None) -> str:
    """The whole table in place of whatever is there, without a moment of no rules. `kept`: clients
    that stay with their backends."""
    families = settings.families
    lines = [f"add table {TABLE}", f"delete table {TABLE}", f"table {TABLE} {{"]
    for family in families:
        lines += _sets(family)
    lines += _guarding(families)
    lines += _translation(settings)
    lines += _refusals(settings)
    lines += _remembering(families)
    lines += ["chain postrouting {", "type nat hook postrouting priority 100;"]
    lines += ["ct status dnat jump remember", 'oifname "lo" return']
    for family in families:
        lines += _masquerading(family, settings)
    lines += ["}", "}"]
    for name in sorted(filter(is_class, ruleset)):
        lines += _class(name)
    # What picks a backend comes before what leads to it.
    for name in sorted(ruleset, key=lambda name: (not is_class(name), name)):
        lines.append(_add(name, ruleset[name]))
    for name, clients in _by_map(kept or {}).items():
        lines.append(_add(name, {_timed(key, to): to.backend for key, to in clients.items()}))
    return "\n".join(lines) + "\n"


def release(gone: Mapping[str, str]) -> str:
    """Forgets clients, whom each is bound to given: `client . front` -> backend. One that the
    kernel has forgotten by itself meanwhile is none the worse."""
    lines = []
    for name, clients in _by_map(gone).items():
        lines.append(_add(name, clients))
        lines.append(f"delete element {TABLE} {name} {{ {', '.join(clients)} }}\n")
    return "\n".join(lines)


def _by_map(clients: Mapping[str, T]) -> dict[str, dict[str, T]]:
    found: dict[str, dict[str, T]] = {}
    for key, value in clients.items():
        family = family_of(key.split(" . ", 1)[0])
        found.setdefault(f"affinity{family}", {})[key] = value
    return found


def change(change: Change) -> str:
    """One transaction of elements, and of the classes that they begin or end."""
    lines: list[str] = []
    for name in change.classes_added:
        lines += _class(name)
    for name, elements in change.deleted.items():
        lines.append(f"delete element {TABLE} {name} {{ {', '.join(elements)} }}")
    for name, added in change.added.items():
        lines.append(_add(name, added))
    for name in change.classes_deleted:
        lines += [f"delete chain {TABLE} {chain}" for chain in _chains(name)]
        lines.append(f"delete {'set' if is_memory(name) else 'map'} {TABLE} {name}")
    return "\n".join(lines) + "\n"


def shape(ruleset: Iterable[str], settings: Settings) -> dict[str, int]:
    """How many rules each chain of the loaded table has: what a repair compares with."""
    families = settings.families
    rules = {
        "sources": 1 + len(families),
        "prerouting": 2,
        "output": 1,
        "outside": 1 + 2 * len(families),
        "services": 2 * len(families),
        "input": 1,
        "forward": 1,
        "local": 1,
        "unavailable": 3 * len(families),
        "refuse": 2,
        "remembering": 1,
        "remember": 2 * len(PROTOCOLS) * len(families),
        "postrouting": 2 + sum(len(_masquerading(family, settings)) for family in families),
    }
    for name in filter(is_class, ruleset):
        for chain in _chains(name):
            rules[chain] = _rules_in(name, chain)
    return rules


def _rules_in(name: str, chain: str) -> int:
    if is_memory(name):
        return 1 if by_netlink(name) else len(PROTOCOLS)
    return 2 if chain.startswith("sticky") else 1


def _timed(key: str, to: Affinity) -> str:
    return f"{key} timeout {to.timeout}s expires {max(to.expires, 1)}s"


def by_netlink(name: str) -> bool:
    """Whether the one rule of a class is for `memory_rule` to write."""
    return name.startswith("remember6")


def netlink_rules(classes: Iterable[str]) -> list[bytes]:
    """What the scripts that make these classes leave out."""
    table = TABLE.split()[1]
    return [
        memory_rule.rule(table, name, "affinity6", int(name.rpartition("_")[2]))
        for name in classes
        if is_memory(name) and by_netlink(name)
    ]


def _add(name: str, elements: Mapping[str, str]) -> str:
    content = ", ".join(
        f"{element} : {value}" if value else element for element, value in elements.items()
    )
    return f"add element {TABLE} {name} {{ {content} }}"


def _sets(family: Family) -> Iterator[str]:
    address = f"ipv{family}_addr"
    front = f"{address} . inet_proto . inet_service"
    port = "inet_proto . inet_service"
    yield f"map services{family} {{ type {front} : verdict; }}"
    yield f"map nodeports{family} {{ type {port} : verdict; }}"
    yield f"map outside_services{family} {{ type {front} : verdict; }}"
    yield f"map outside_nodeports{family} {{ type {port} : verdict; }}"
    yield f"set guarded{family} {{ type {front}; }}"
    yield f"set allowed{family} {{ type {front} . {address}; flags interval; }}"
    yield f"set refused_services{family} {{ type {front}; }}"
    yield f"set refused_nodeports{family} {{ type {port}; }}"
    yield f"set hairpins{family} {{ type {address} . {address}; }}"
    yield f"set outsiders{family} {{ type {address}; }}"
    yield f"set nodes{family} {{ type {address}; }}"
    yield f"map remember_services{family} {{ type {front} : verdict; }}"
    yield f"map remember_nodeports{family} {{ type {port} : verdict; }}"
    yield f"map affinity{family} {{ type {address} . {front} : {address} . inet_service;"
    yield f"flags dynamic, timeout; size {_MOST_CLIENTS}; }}"


def _guarding(families: Iterable[Family]) -> Iterator[str]:
    yield "chain sources {"
    yield f"type filter hook prerouting priority {_GUARD}; ct state != new return"
    for family in families:
        front = _front(family)
        source = f"{_IP[family]} saddr"
        yield f"{front} @guarded{family} {front} . {source} != @allowed{family} drop"
    yield "}"


def _translation(settings: Settings) -> Iterator[str]:
    hook = f"type nat hook prerouting priority {_NAT};"
    yield f"chain prerouting {{ {hook} jump outside; jump services; }}"
    yield f"chain output {{ type nat hook output priority {_NAT}; jump services; }}"
    # Pods of other nodes chose this one by its node port: who has no endpoint does not answer them.
    yield f'chain outside {{ iifname "{settings.bridge}" return'
    for family in settings.families:
        yield f"{_front(family)} vmap @outside_services{family}"
        yield f"{_this_host(family)} {_port()} vmap @outside_nodeports{family}"
    yield "}"
    yield "chain services {"
    for family in settings.families:
        yield f"{_front(family)} vmap @services{family}"
        yield f"{_this_host(family)} {_port()} vmap @nodeports{family}"
    yield "}"


def _refusals(settings: Settings) -> Iterator[str]:
    for chain, hook in (("input", "input"), ("forward", "forward"), ("local", "output")):
        yield f"chain {chain} {{"
        yield f"type filter hook {hook} priority {_FILTER}; ct state new jump unavailable; }}"
    yield "chain unavailable {"
    for family in settings.families:
        yield f"{_front(family)} @refused_services{family} goto refuse"
        yield f"{_this_host(family)} {_port()} @refused_nodeports{family} goto refuse"
        # What is still for a Service address by now has no Service: better a clear no than silence.
        services = _cidrs(settings.service_cidrs, family)
        skipped = sorted(a for a in settings.skip | settings.local if family_of(a) == family)
        but = f"{_IP[family]} daddr != {{ {', '.join(skipped)} }} " if skipped else ""
        yield f"{_IP[family]} daddr {services} {but}goto refuse"
    yield "}"
    yield "chain refuse {"
    yield "meta l4proto 6 reject with tcp reset"
    yield "reject with icmpx type port-unreachable"
    yield "}"


def _remembering(families: Iterable[Family]) -> Iterator[str]:
    """Where a new connection has its backend: what its client is bound to from now on."""
    yield "chain remember {"
    for family in families:
        for protocol in PROTOCOLS.values():
            where = f"meta l4proto {protocol} ct original {_IP[family]} daddr . meta l4proto"
            yield f"{where} . ct original proto-dst vmap @remember_services{family}"
            # nft takes a port of connection tracking for one only beside its protocol.
            port = f"meta l4proto {protocol} meta l4proto . ct original proto-dst"
            yield f"{port} vmap @remember_nodeports{family}"
    yield "}"
    yield "chain remembering { type nat hook input priority 100; ct status dnat jump remember; }"


def _masquerading(family: Family, settings: Settings) -> list[str]:
    ip, bridge = _IP[family], f'oifname != "{settings.bridge}"'
    pods = _cidrs(settings.pod_cidrs, family)
    cluster = _cidrs(settings.pod_cidrs + settings.service_cidrs, family)
    hide = "masquerade fully-random"
    through = f"ct status dnat {ip} saddr != {pods} {bridge} {ip} daddr"
    # Else the answer of a pod of the same bridge takes the short way back, past the translation.
    same = f'ct status dnat {ip} saddr {pods} oifname "{settings.bridge}" {hide}'
    return [
        *([] if settings.bridged else [same]),
        # Every node knows the way back to every other.
        f"ct status dnat fib saddr type local {ip} saddr @nodes{family} return",
        # A pod that reaches itself would answer itself directly, past the translation.
        f"ct status dnat {ip} saddr . {ip} daddr @hairpins{family} {hide}",
        # From outside to a backend elsewhere: its answer has to come back through this host.
        f"{through} {pods} {hide}",
        f"{through} @outsiders{family} {hide}",
        # So has that to a pod of another host, which would answer it directly.
        f'ct status dnat iifname != "{settings.bridge}" {bridge} {ip} saddr {pods} {hide}',
        # What pods send out of the cluster: nobody there knows the way back to a pod.
        f"{ip} saddr {pods} {bridge} {ip} daddr != {cluster} {ip} daddr != @nodes{family} {hide}",
    ]


def _class(name: str) -> Iterator[str]:
    """The map of one number of backends, and the two ways to pick one in it."""
    kind, _, count = name.rpartition("_")
    if is_memory(name):
        yield from _memory(name, count)
        return
    family: Family = 6 if kind.endswith("6") else 4
    ip = _IP[family]
    front = _port() if "nodeports" in kind else _front(family)
    random = f"numgen random mod {count}"
    yield f"add map {TABLE} {name} {{ typeof {front} . {random} : {ip} daddr . th dport; }}"
    spread, sticky = f"spread_{name}", f"sticky_{name}"
    for chain in (spread, sticky):
        yield f"add chain {TABLE} {chain}"
        if chain == sticky:
            bound = f"{ip} saddr . {_front(family)} map @affinity{family}"
            yield f"add rule {TABLE} {chain} {_L4} dnat {ip} to {bound}"
        yield f"add rule {TABLE} {chain} {_L4} dnat {ip} to {front} . {random} map @{name}"


def _memory(name: str, seconds: str) -> Iterator[str]:
    """Fronts whose clients are forgotten after as many seconds, and how they are remembered."""
    family: Family = 6 if name.startswith("remember6") else 4
    yield f"add set {TABLE} {name} {{ type ipv{family}_addr . inet_proto . inet_service; }}"
    yield f"add chain {TABLE} {name}"
    if by_netlink(name):
        return
    ip, original = _IP[family], f"ct original {_IP[family]}"
    key = f"{original} saddr . {original} daddr . meta l4proto . ct original proto-dst"
    for protocol in PROTOCOLS.values():
        bound = f"{{ {key} timeout {seconds}s : {ip} daddr . th dport }}"
        yield f"add rule {TABLE} {name} meta l4proto {protocol} update @affinity{family} {bound}"


def _chains(name: str) -> tuple[str, ...]:
    return (name,) if is_memory(name) else (f"spread_{name}", f"sticky_{name}")


def _front(family: Family) -> str:
    return f"{_IP[family]} daddr . {_port()}"


def _port() -> str:
    return "meta l4proto . th dport"


def _this_host(family: Family) -> str:
    guard = f"{_IP[family]} daddr != {_LOOPBACK[family]}"
    return f"{guard} fib daddr type local"


def _cidrs(cidrs: Iterable[str], family: Family) -> str:
    return "{ " + ", ".join(cidr for cidr in cidrs if family_of(cidr) == family) + " }"
