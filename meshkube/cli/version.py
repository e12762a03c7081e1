"""`meshkube version`."""

from __future__ import annotations

import argparse
import platform

from meshkube import __version__


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None."""


def run(args: argparse.Namespace) -> int:
    """Prints our version and that of Python."""
    print(f"meshkube {__version__} (Python {platform.python_version()})")
    return 0
