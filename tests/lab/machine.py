"""What a machine must have for test hosts with Docker."""

from __future__ import annotations

import os
import shutil

NEEDED = ("dockerd", "docker", "nft", "ip", "nsenter", "busybox", "curl", "dig", "openssl")


def why_not() -> str:
    """Why no cluster can run here; empty where one can."""
    if os.geteuid() != 0:
        return "needs root, for network namespaces and Docker"
    missing = [tool for tool in NEEDED if shutil.which(tool) is None]
    return f"not on this machine: {', '.join(missing)}" if missing else ""
