"""`meshkube server`: the daemon of a host that holds a control plane."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from meshkube import config, log
from meshkube.daemon import process


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One flag for each setting of a server, and `--config`."""
    add_settings(parser, config.AGENT_ONLY)


def add_settings(parser: argparse.ArgumentParser, without: frozenset[str]) -> None:
    """A flag for each setting but these, and `--config`."""
    parser.add_argument("--config", type=Path, metavar="FILE", help="a YAML file of these settings")
    for setting in config.settings(without):
        if "secret" in setting.metadata:
            continue
        parser.add_argument(
            "--" + setting.name.replace("_", "-"),
            dest=setting.name,
            metavar="VALUE",
            help=setting.metadata["help"],
        )


def add_only(parser: argparse.ArgumentParser, names: frozenset[str]) -> None:
    """A flag for each of these settings, and `--config`."""
    add_settings(parser, frozenset(one.name for one in config.settings()) - names)


def settings(args: argparse.Namespace) -> config.Config:
    """The Config of these arguments, the environment and `--config`. Raises `ConfigError`."""
    flags = {setting.name: getattr(args, setting.name, None) for setting in config.settings()}
    return config.load(flags, os.environ, args.config)


def run(args: argparse.Namespace) -> int:
    """Runs until SIGTERM or SIGINT; workloads keep running afterwards."""
    chosen = settings(args)
    log.set_up(chosen.log_format, chosen.log_level.upper())  # type: ignore[arg-type]
    from meshkube.daemon import server

    return process.run(chosen, server.serve)
