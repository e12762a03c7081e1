"""`meshkube server`: the daemon of a host that holds a control plane."""

from __future__ import annotations

import argparse
import os
from dataclasses import fields
from pathlib import Path

from meshkube import config, daemon, log


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One flag for each field of Config, and `--config`."""
    parser.add_argument("--config", type=Path, metavar="FILE", help="a YAML file of these settings")
    for setting in fields(config.Config):
        parser.add_argument(
            "--" + setting.name.replace("_", "-"),
            dest=setting.name,
            metavar="VALUE",
            help=setting.metadata["help"],
        )


def run(args: argparse.Namespace) -> int:
    """Runs until SIGTERM or SIGINT; workloads keep running afterwards."""
    flags = {setting.name: getattr(args, setting.name) for setting in fields(config.Config)}
    settings = config.load(flags, os.environ, args.config)
    log.set_up(settings.log_format, settings.log_level.upper())
    return daemon.main(settings)
