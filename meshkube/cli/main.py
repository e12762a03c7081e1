"""Reads the command line and calls the command."""

from __future__ import annotations

import sys


def main(arguments: list[str] | None = None) -> int:
    """Runs `meshkube ARGUMENTS`; returns the exit code."""
    print("meshkube: no command yet", file=sys.stderr)
    return 2
