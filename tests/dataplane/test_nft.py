"""Scripts as the kernel takes them, read back as it holds them."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Iterator

import pytest

from meshkube.dataplane import libnft, netlink, rules, script, snapshot
from meshkube.dataplane.libnft import Command, Library, Nft, NftError
from meshkube.dataplane.rules import Ruleset, Table
from meshkube.dataplane.services import Backend, Family, Front, Frontend, Frontends, Settings
from tests.lab.host import Host, lab
from tests.lab.pods import inside

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("nft"), reason="needs root and nft"),
]

SETTINGS = Settings(
    node_name="h1",
    pod_cidrs=("10.42.0.0/16", "fd00:42::/56"),
    service_cidrs=("10.43.0.0/16", "fd00:43::/112"),
    skip=frozenset({"10.43.0.10", "fd00:43::a"}),
)


_FAMILIES: tuple[tuple[Family, str, str], ...] = (
    (4, "10.43.0.", "10.42.0."),
    (6, "fd00:43::", "fd00:42::"),
)


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with lab(1) as (made,), inside(made.name):
        yield made


@pytest.fixture(params=[Library, Command])
def nft(request: pytest.FixtureRequest, host: Host) -> Iterator[Nft]:
    made: Nft = request.param()
    yield made
    if made.table(script.TABLE) is not None:
        made.run(f"delete table {script.TABLE}")


def ruleset(*sizes: int) -> Ruleset:
    """One Service for each size, of every protocol, in both families and with node ports."""
    table = Table()
    for number, size in enumerate(sizes, 1):
        for protocol in (6, 17, 132):
            found = [
                Frontend(front, backends, sticky=60 * (number % 2))
                for family, service, pod in _FAMILIES
                for backends in [tuple(Backend(f"{pod}{n + 1}", 80) for n in range(size))]
                for front in (
                    Front(family, f"{service}{number}", protocol, 80),
                    Front(family, "", protocol, 30000 + number),
                )
            ]
            members = {("outsiders4", "192.0.2.1"), ("hairpins6", "fd00:42::1 . fd00:42::1")}
            table.put(f"ns/{number}-{protocol}", Frontends(tuple(found), frozenset(members)))
    return table.ruleset


def held(nft: Nft) -> Ruleset:
    return snapshot.ruleset(nft.table(script.TABLE) or ())


def complete(classes: Iterable[str]) -> None:
    """As the shell does: what nft cannot write."""
    if rest := script.netlink_rules(classes):
        netlink.add_rules(rest)


@pytest.mark.parametrize("sizes", [(), (0,), (1, 2, 3, 0), (17,)])
def test_the_kernel_holds_what_was_loaded(nft: Nft, sizes: tuple[int, ...]) -> None:
    wanted = ruleset(*sizes)
    for _ in range(2):
        nft.run(script.load(wanted, SETTINGS))
        complete(wanted)
        assert held(nft) == wanted
        items = nft.table(script.TABLE, elements=False)
        assert snapshot.shape(items or ()) == script.shape(wanted, SETTINGS)


def test_the_kernel_follows_changes(nft: Nft) -> None:
    now = ruleset()
    nft.run(script.load(now, SETTINGS))
    for sizes in ((1, 2), (2, 1), (0, 3), (3,), (), (2, 2, 2)):
        wanted = ruleset(*sizes)
        change = rules.diff(now, wanted)
        nft.run(script.change(change))
        complete(change.classes_added)
        now = wanted
        assert held(nft) == wanted
        items = nft.table(script.TABLE, elements=False)
        assert snapshot.shape(items or ()) == script.shape(wanted, SETTINGS)


def test_a_refused_script_changes_nothing_and_says_why(nft: Nft) -> None:
    wanted = ruleset(2)
    nft.run(script.load(wanted, SETTINGS))
    believed = {**wanted, "refused_services4": {"10.43.9.9 . 6 . 80": ""}}
    bad = rules.diff(believed, ruleset(2, 3))
    with pytest.raises(NftError, match="No such file"):
        nft.run(script.change(bad))
    assert held(nft) == wanted


def test_a_table_that_is_not_there_is_none(nft: Nft) -> None:
    assert nft.table(script.TABLE) is None
    assert nft.table(script.TABLE, elements=False) is None


def test_each_transaction_is_one_generation(nft: Nft) -> None:
    generations = netlink.Generations()
    before = generations.now()
    nft.run(script.load(ruleset(1, 2, 3), SETTINGS))
    assert generations.now() == before + 1
    nft.run(script.change(rules.diff(ruleset(1, 2, 3), ruleset(3, 4))))
    assert generations.now() == before + 2
    generations.close()


def test_the_library_is_preferred(host: Host) -> None:
    assert isinstance(libnft.find(), Library)


def test_a_user_without_the_right_is_told_so(host: Host) -> None:
    program = """
import asyncio, os
from meshkube.dataplane.nftables import NftKernel
from meshkube.dataplane.services import Settings
os.setuid(65534)
settings = Settings(node_name="h", pod_cidrs=(), service_cidrs=())
asyncio.run(NftKernel().open(settings, ""))
"""
    done = host.run(sys.executable, "-c", program, check=False)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("meshkube.dataplane.kernel.KernelError: nftables cannot be used on this")
    assert "Operation not permitted" in last
