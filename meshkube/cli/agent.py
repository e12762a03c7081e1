"""`meshkube agent`: the daemon of a host that holds no control plane."""

from __future__ import annotations

import argparse

from meshkube import config, log
from meshkube.cli import server
from meshkube.daemon import process


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One flag for each setting of an agent, and `--config`."""
    server.add_settings(parser, config.SERVER_ONLY)


def run(args: argparse.Namespace) -> int:
    """Runs until SIGTERM or SIGINT; workloads keep running afterwards."""
    chosen = server.settings(args)
    log.set_up(chosen.log_format, chosen.log_level.upper())  # type: ignore[arg-type]
    from meshkube.daemon import agent

    return process.run(chosen, agent.serve)
