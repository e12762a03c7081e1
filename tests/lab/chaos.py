"""Bad days in a row on one cluster, each followed by a look at what must hold.

    python -m tests.lab.chaos --seed 7 --runs 20 --only leader-cut-from-etcd

A run is told by its seed, so one that failed can be told again alone. Prints a line a run; fails
with the first that broke something, and shows the daemons' last words.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Sequence

from tests.lab import checks
from tests.lab.churn import Churn, deployment
from tests.lab.hosts import QUICK, Hosts, running_hosts
from tests.lab.scenarios import SCENARIOS, Skipped

FLAGS = (*QUICK, "--default-toleration-seconds=3")


def play(hosts: Hosts, name: str, seed: str) -> str:
    """One scenario under churn, healed and checked. Returns what happened."""
    with Churn(hosts, f"{name}-{seed.replace('/', '-')}", seed) as churn:
        said = SCENARIOS[name](hosts, random.Random(f"{name}/{seed}"))
        time.sleep(0.5)
        hosts.heal()
        for node in hosts.nodes:
            if not node.on:
                hosts.revive(node)
        checks.settled(hosts)
    checks.replicas_are(hosts, "churn")
    missing = churn.missing()
    assert not missing, f"acknowledged and lost: {sorted(missing)[:5]}"
    report = checks.no_two_leaders_wrote(hosts)
    return (
        f"{said}; {len(churn.acknowledged)} writes kept, {churn.refused} refused; "
        f"{report['leader_writes']} of leaders, each in its term"
    )


def last_words(hosts: Hosts, lines: int = 15) -> str:
    """The end of each daemon's log."""
    found = []
    for node in hosts.nodes:
        tail = node.log.splitlines()[-lines:]
        found += [f"--- {node}", *tail]
    return "\n".join(found)


def run(names: Sequence[str], seed: str, runs: int) -> int:
    """Plays each of the scenarios `runs` times; returns how many runs failed (at most one)."""
    print(f"chaos: seed {seed}, {runs} run(s) of each of {len(names)} scenarios", flush=True)
    with running_hosts(*FLAGS, agents=1) as hosts:
        hosts.apply(deployment())
        for number in range(runs):
            for name in names:
                began = time.monotonic()
                label = f"{name:22} run {number + 1:2}"
                try:
                    said = play(hosts, name, f"{seed}/{number}")
                except Skipped as why:
                    print(f"{label}  skipped: {why}", flush=True)
                    continue
                except (AssertionError, TimeoutError, RuntimeError) as error:
                    print(f"{label}  FAILED: {error}\n{last_words(hosts)}", flush=True)
                    print(f"again: make chaos SEED={seed} RUNS={number + 1} ONLY={name}")
                    return 1
                print(f"{label}  {time.monotonic() - began:5.1f} s  {said}", flush=True)
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--seed", default="")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--only", default="", help="scenarios, with commas")
    args = parser.parse_args()
    names = [name for name in args.only.split(",") if name] or list(SCENARIOS)
    unknown = [name for name in names if name not in SCENARIOS]
    if unknown:
        parser.error(f"{unknown[0]} is none of {', '.join(SCENARIOS)}")
    seed = args.seed or str(random.SystemRandom().randrange(10**6))
    return run(names, seed, args.runs)


if __name__ == "__main__":
    sys.exit(main())
