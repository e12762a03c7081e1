"""The host's own log files, as the kubelet serves them: `kubectl get --raw
/api/v1/nodes/NAME/proxy/logs/`.
"""

from __future__ import annotations

from pathlib import Path

from aiohttp import web

DIRECTORY = Path("/var/log")


class HostLogs:
    """Lists and serves files under `directory`; links that lead out of it are not followed."""

    def __init__(self, directory: Path = DIRECTORY) -> None:
        self._directory = directory

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """A host without such a folder has no such path."""
        if self._directory.is_dir():
            router.add_static("/logs", self._directory, show_index=True)
