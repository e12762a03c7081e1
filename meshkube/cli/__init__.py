"""The `meshkube` command: one file per sub-command."""

from meshkube.cli.main import main

__all__ = ["main"]
