"""Images from other nodes: what one of them has, another gets from it, with no registry between."""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp

from meshkube.api import kinds, meta
from meshkube.api.errors import ApiError
from meshkube.api.nodes import is_ready, node_url
from meshkube.api.types import Object
from meshkube.client.base import Client
from meshkube.node.docker_convert import normalized
from meshkube.node.runtime import RuntimeFailure

log = logging.getLogger(__name__)

ID_HEADER = "X-Image-Id"
# Nodes that are asked though their status does not name the image: it lists the largest only, and
# a minute late.
ASKED_BESIDES = 8
CONNECT_SECONDS = 3.0
# Without the API there is the registry still.
LIST_SECONDS = 5.0
SILENCE_SECONDS = 30.0
AT_ONCE = 2
"""Archives that come in at the same time."""

Load = Callable[[AsyncIterator[bytes], str], Awaitable[None]]
"""Takes an archive and the id that the image in it must have. Raises `RuntimeFailure`."""


class ImagePeers:
    """The other nodes, with `client` to find them and the node's own certificate in `tls`."""

    def __init__(self, client: Client, tls: ssl.SSLContext, node_name: str) -> None:
        self._client = client
        self._tls = tls
        self._node_name = node_name
        self._places = asyncio.Semaphore(AT_ONCE)

    async def fetch(self, reference: str, load: Load) -> str:
        """The name of the node that the image came from; empty where none has it."""
        if "@" in reference:
            # An archive does not keep the digest by which a registry knows an image.
            return ""
        async with self._places:
            nodes = await self._candidates(reference)
            if not nodes:
                return ""
            connector = aiohttp.TCPConnector(ssl=self._tls)
            timeout = aiohttp.ClientTimeout(
                total=None, sock_connect=CONNECT_SECONDS, sock_read=SILENCE_SECONDS
            )
            async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
                for node in nodes:
                    if await self._tried(session, node, reference, load):
                        return meta.name(node)
        return ""

    async def _candidates(self, reference: str) -> list[Object]:
        try:
            async with asyncio.timeout(LIST_SECONDS):
                nodes = (await self._client.list(kinds.NODE, resource_version="0")).items
        except (ApiError, OSError, TimeoutError) as error:
            log.debug("no list of nodes", extra={"reason": str(error)})
            return []
        return candidates(nodes, self._node_name, reference)

    async def _tried(
        self, session: aiohttp.ClientSession, node: Object, reference: str, load: Load
    ) -> bool:
        try:
            url = f"{node_url(node)}/images/archive"
            async with session.get(url, params={"name": normalized(reference)}) as response:
                if response.status != 200:
                    return False
                await load(response.content.iter_any(), response.headers.get(ID_HEADER, ""))
                return True
        except (ApiError, aiohttp.ClientError, TimeoutError, OSError, RuntimeFailure) as error:
            log.warning(
                "image not taken from another node",
                extra={"image": reference, "node": meta.name(node), "reason": str(error)},
            )
            return False


def candidates(nodes: list[Object], own: str, reference: str) -> list[Object]:
    """Which nodes to ask, in order: those whose status names the image, then a few more. Pure but
    for the order, which is drawn so that not all ask the same one."""
    others = [node for node in nodes if meta.name(node) != own and is_ready(node)]
    random.shuffle(others)
    having = [node for node in others if has_image(node, reference)]
    besides = [node for node in others if node not in having]
    return having + besides[:ASKED_BESIDES]


def has_image(node: Object, reference: str) -> bool:
    """Whether the Node's status names the image."""
    wanted = normalized(reference)
    images = (node.get("status") or {}).get("images") or ()
    return any(wanted in (image.get("names") or ()) for image in images)
