"""`meshkube ingress`: the ingress alone, for any Kubernetes API."""

from __future__ import annotations

import argparse
from dataclasses import fields

from meshkube import log
from meshkube.cli import server, session
from meshkube.config import Config
from meshkube.daemon import process

SETTINGS = frozenset({"node_ip", "log_format", "log_level"}) | {
    field.name for field in fields(Config) if field.name.startswith("ingress_")
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`--kubeconfig`, and the settings that concern the ingress."""
    parser.add_argument("--kubeconfig", metavar="FILE", help="how to reach the API")
    server.add_only(parser, SETTINGS)


def run(args: argparse.Namespace) -> int:
    """Serves every Ingress of class `meshkube` until SIGTERM or SIGINT."""
    chosen = server.settings(args)
    log.set_up(chosen.log_format, chosen.log_level.upper())  # type: ignore[arg-type]
    from meshkube.daemon import alone

    kubeconfig = session.kubeconfig_path(args)
    return process.run_alone(chosen, alone.serve(kubeconfig, alone.ingress))
