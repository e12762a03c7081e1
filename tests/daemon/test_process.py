"""What the process takes from where it was started."""

from __future__ import annotations

import subprocess
import sys

SHOW = """
import resource
from meshkube.config import Config
from meshkube.daemon.process import run_alone

async def serve(config):
    print(*resource.getrlimit(resource.RLIMIT_NOFILE))

resource.setrlimit(resource.RLIMIT_NOFILE, (256, 2048))
run_alone(Config(), serve)
"""


def test_as_many_files_may_be_open_as_the_host_allows():
    done = subprocess.run([sys.executable, "-c", SHOW], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2048", "2048"]
