"""`meshkube reset`."""

from __future__ import annotations

import argparse

from meshkube.cli import server
from meshkube.cli.main import UsageError
from meshkube.config import adopt
from meshkube.joining import cluster
from meshkube.reset import reset


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of `meshkube server`, to find what it made, and `--yes`."""
    server.add_arguments(parser)
    parser.add_argument("--yes", action="store_true", help="really do it")


def run(args: argparse.Namespace) -> int:
    """Removes every trace from this host; the cluster's objects are gone with it."""
    if not args.yes:
        raise UsageError("this removes the cluster and all its objects; say --yes to do it")
    said = False
    chosen = server.settings(args)
    # A host that has joined took these from its cluster, not from its own settings.
    chosen = adopt(chosen, cluster.kept(chosen.data_dir))
    for line in reset(chosen):
        said = True
        print(line)
    if not said:
        print("nothing to remove")
    return 0
