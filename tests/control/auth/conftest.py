"""A served API, and ways to ask it as somebody."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from meshkube import pki
from tests.support.api import Served, serving_api
from tests.support.asking import Asker, asking

As = Callable[..., AbstractAsyncContextManager[Asker]]


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving_api(tmp_path) as served:
        yield served


@pytest.fixture
async def ask(served: Served) -> AsyncIterator[Asker]:
    """As the admin."""
    async with asking(served) as asker:
        yield asker


@pytest.fixture
def user(served: Served, tmp_path: Path) -> As:
    """`async with user("alice", "devs") as ask`: with a client certificate; no name: nobody."""

    @contextlib.asynccontextmanager
    async def as_user(name: str = "", *groups: str) -> AsyncIterator[Asker]:
        context = ssl.create_default_context(cafile=str(served.credentials.ca_file))
        if name:
            pair = pki.issue(served.credentials.ca, name, organizations=groups)
            stem = tmp_path / "users" / name.replace(":", "-")
            pki.save(pair, stem)
            context.load_cert_chain(stem.with_suffix(".crt"), stem.with_suffix(".key"))
        async with asking(served, context) as asker:
            yield asker

    return as_user
