"""`meshkube doctor`."""

from __future__ import annotations

import argparse

from meshkube import doctor
from meshkube.cli import server
from meshkube.daemon import is_running


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of `meshkube server`: its settings are what is checked."""
    server.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Prints each check and what to do; returns 1 where something is missing."""
    config = server.settings(args)
    findings = doctor.examine(config, running=is_running(config.data_dir))
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        print(f"{'ok ' if finding.ok else 'BAD'}  {finding.name.ljust(width)}  {finding.detail}")
        if not finding.ok:
            print(f"     {' ' * width}  -> {finding.remedy}")
    bad = sum(not finding.ok for finding in findings)
    print(f"{bad} of {len(findings)} need attention" if bad else "this host is ready")
    return 1 if bad else 0
