"""The scripts that bring in what is missing: what they say to one who may not."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOBODY = 65534


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become nobody")
def test_without_the_right_to_install_the_exact_command_is_said():
    # By standard input: nobody may not be able to read this checkout.
    done = subprocess.run(
        ["bash", "-s", "--", "no-such-package", "bash"],
        input=(ROOT / "scripts/need").read_text(),
        capture_output=True,
        text=True,
        check=False,
        user=NOBODY,
        cwd="/",
    )
    assert done.returncode == 1
    assert "apt-get install -y --no-install-recommends no-such-package\n" in done.stderr


def test_what_is_there_is_not_installed_again():
    done = subprocess.run(
        [str(ROOT / "scripts/need"), "bash"], capture_output=True, text=True, check=True
    )
    assert done.stdout == ""


SCRIPTS = sorted(path for path in (ROOT / "scripts").iterdir() if path.is_file())


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_every_shell_script_parses(script: Path):
    if script.read_bytes().startswith(b"#!/usr/bin/env bash"):
        subprocess.run(["bash", "-n", str(script)], check=True)
