"""The host's log files over HTTP."""

from __future__ import annotations

from pathlib import Path

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from meshkube.node.host_logs import HostLogs


async def test_files_are_listed_and_read_and_links_lead_nowhere_else(tmp_path: Path) -> None:
    logs = tmp_path / "log"
    (logs / "old").mkdir(parents=True)
    (logs / "syslog").write_text("up\n")
    (tmp_path / "shadow").write_text("secret")
    (logs / "away").symlink_to(tmp_path / "shadow")
    application = web.Application()
    HostLogs(logs).add_routes(application.router)
    async with TestClient(TestServer(application)) as client:
        listed = await client.get("/logs/")
        assert listed.status == 200
        text = await listed.text()
        assert ">syslog<" in text
        assert ">old/<" in text
        assert await (await client.get("/logs/syslog")).text() == "up\n"
        for path in ("/logs/away", "/logs/..%2fshadow", "/logs/none"):
            answer = await client.get(path)
            assert answer.status in (403, 404), path
            assert "secret" not in await answer.text()
