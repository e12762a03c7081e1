"""`meshkube kubeconfig`."""

from __future__ import annotations

import argparse

import yaml

from meshkube.cli.main import UsageError
from meshkube.cli.session import add_connection_arguments, kubeconfig_path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`--server URL`."""
    add_connection_arguments(parser)
    parser.add_argument("--server", default="", metavar="URL", help="for use from another host")


def run(args: argparse.Namespace) -> int:
    """Prints the admin kubeconfig, with another server URL where one is given."""
    path = kubeconfig_path(args)
    try:
        content = yaml.safe_load(path.read_text())
        if args.server:
            for cluster in content["clusters"]:
                cluster["cluster"]["server"] = args.server
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise UsageError(f"{path}: is no readable kubeconfig: {error}") from None
    print(yaml.safe_dump(content, sort_keys=False), end="")
    return 0
