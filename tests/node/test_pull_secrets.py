"""Where a pod's credentials come from, and who is told when they change."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from meshkube.api import kinds
from meshkube.node.pull_secrets import PullSecrets
from meshkube.node.references import References
from tests.lab.registry import secret
from tests.node.world import pod
from tests.support.api import running_api


async def test_secrets_come_before_the_node_and_changes_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "config.json"
    asks = pod("a", imagePullSecrets=[{"name": "one"}, {"name": "two"}, {"name": "odd"}])
    asks["metadata"]["uid"] = "u"
    changed = asyncio.Event()
    async with running_api(tmp_path / "api") as client, asyncio.TaskGroup() as group:
        found = PullSecrets(References(client, group), (file, tmp_path / "absent"))
        await client.create(kinds.SECRET, secret("two", ("r.example", "me", "second")))
        opaque = {**secret("odd", ("r.example", "me", "odd")), "type": "Opaque"}
        await client.create(kinds.SECRET, opaque)
        keyring = await found.of(asks, changed.set)
        assert keyring.missing == ("one",)
        assert [entry.credential.password for entry in keyring.entries] == ["second"]

        changed.clear()
        await client.create(kinds.SECRET, secret("one", ("r.example", "me", "first")))
        await asyncio.wait_for(changed.wait(), 10)
        auths = {"r.example": {"username": "node", "password": "third"}}
        await asyncio.to_thread(file.write_text, json.dumps({"auths": auths}))
        keyring = await found.of(asks, changed.set)
        assert keyring.missing == ()
        passwords = [entry.credential.password for entry in keyring.entries]
        assert passwords == ["first", "second", "third"]

        # A file that is broken keeps nobody from the rest, and is not quoted.
        await asyncio.to_thread(file.write_text, "hunter2")
        assert len((await found.of(asks, changed.set)).entries) == 2
        assert "registry credentials not read" in caplog.text
        assert "hunter2" not in caplog.text
        found.release("u")
