"""The resource metrics API: this server asks the nodes what they use, and only while somebody wants
to know."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Iterable

import aiohttp
import orjson

from meshkube.api import errors, kinds, meta
from meshkube.api.errors import ApiError
from meshkube.api.kinds import Kind
from meshkube.api.nodes import node_url
from meshkube.api.types import Object
from meshkube.clock import Clock
from meshkube.control.apiserver import measurements
from meshkube.control.apiserver.cache import Cached, Selection
from meshkube.control.apiserver.lookup import Lookup
from meshkube.control.apiserver.measurements import Look
from meshkube.control.apiserver.reading import Listing, Query
from meshkube.control.apiserver.turns import in_turns

log = logging.getLogger(__name__)

RESOLUTION = 15.0
"""Seconds between two looks at each node."""
INTEREST = 60.0
"""Seconds after the last question for which nodes are still asked."""
FIRST_WINDOW = 1.0
"""Seconds between the first two looks, when somebody waits for them."""
ANSWER_SECONDS = 5.0
WAIT_SECONDS = 12.0
NODES_AT_ONCE = 32
_UNANSWERED = (aiohttp.ClientError, TimeoutError, OSError, ApiError)
PATH = "/stats/summary?only_cpu_and_memory=true"


class Metering:
    """Part `metrics`. `tls` is what nodes are reached with; `offer` is told who answers for the
    kinds of `metrics.k8s.io`, and None when nobody does any more."""

    name = "metrics"

    def __init__(
        self,
        *,
        lookup: Lookup,
        tls: ssl.SSLContext,
        clock: Clock,
        offer: Callable[[Metering | None], None],
        resolution: float = RESOLUTION,
    ) -> None:
        self._lookup = lookup
        self._tls = tls
        self._clock = clock
        self._offer = offer
        self._resolution = resolution
        self._last: dict[str, Look] = {}
        self._before: dict[str, Look] = {}
        self._asked = asyncio.Event()
        self._asked_at = 0.0
        self._known = asyncio.Event()

    async def run(self, ready: Callable[[], None]) -> None:
        """See `parts.Part`."""
        connector = aiohttp.TCPConnector(ssl=self._tls, limit=NODES_AT_ONCE)
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
        self._offer(self)
        try:
            async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
                ready()
                while True:
                    await self._asked.wait()
                    await self._follow(session)
        finally:
            self._offer(None)

    async def _follow(self, session: aiohttp.ClientSession) -> None:
        """Looks at the nodes again and again, as long as somebody asks."""
        await self._look(session)
        await self._clock.sleep(FIRST_WINDOW)
        while True:
            await self._look(session)
            self._known.set()
            await self._clock.sleep(self._resolution)
            if self._clock.monotonic() - self._asked_at > max(INTEREST, 2 * self._resolution):
                break
        self._asked.clear()
        self._known.clear()
        self._last, self._before = {}, {}

    async def _look(self, session: aiohttp.ClientSession) -> None:
        nodes = [node for node in self._lookup.all(kinds.NODE) if not _lost(node)]
        found = await asyncio.gather(*(self._ask(session, node) for node in nodes))
        looks = {meta.name(n): one for n, one in zip(nodes, found, strict=True) if one is not None}
        self._before = {name: one for name, one in self._last.items() if name in looks}
        self._last = looks

    async def _ask(self, session: aiohttp.ClientSession, node: Object) -> Look | None:
        try:
            async with session.get(node_url(node) + PATH) as response:
                content = await response.read()
                if response.status != 200:
                    raise ValueError(f"status {response.status}")
            return measurements.look(orjson.loads(content))
        except (*_UNANSWERED, KeyError, ValueError) as error:
            reason = str(error) or type(error).__name__
            log.warning("node not measured", extra={"node": meta.name(node), "reason": reason})
            return None

    async def _current(self) -> None:
        """Notes that somebody asks; waits for the first two looks. Raises `ApiError` 503."""
        self._asked_at = self._clock.monotonic()
        self._asked.set()
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await self._known.wait()
        except TimeoutError:
            raise errors.unavailable("the nodes' metrics are not known yet") from None

    async def get(self, kind: Kind, name: str, namespace: str) -> Cached:
        """Raises `ApiError` 404 or 503."""
        await self._current()
        of = kinds.NODE if kind is kinds.NODE_METRICS else kinds.POD
        found = self._lookup.find(of, name, namespace)
        measured = self._measured(kind, found) if found is not None else None
        if measured is None:
            raise errors.not_found(kind.group, kind.plural, name)
        return measured

    async def list(self, query: Query) -> Listing:
        """Raises `ApiError` 400 or 503."""
        selection = query.selection()
        await self._current()
        found: list[Cached] = []
        async for piece in in_turns(list(self._candidates(query, selection))):
            measured = (self._measured(query.kind, obj) for obj in piece)
            found += [one for one in measured if one is not None and selection.matches(one)]
        return Listing(sorted(found, key=lambda one: one.key), 0)

    def _candidates(self, query: Query, selection: Selection) -> Iterable[Object]:
        if query.kind is kinds.NODE_METRICS:
            found = self._lookup.all(kinds.NODE)
        elif query.namespace:
            found = self._lookup.inside(kinds.POD, query.namespace)
        else:
            found = self._lookup.all(kinds.POD)
        labels = selection.labels
        return found if labels is None else (o for o in found if labels.matches(meta.labels(o)))

    def _measured(self, kind: Kind, obj: Object) -> Cached | None:
        """None where nothing is known."""
        if kind is kinds.NODE_METRICS:
            made = self._of_node(obj)
        else:
            made = self._of_pod(obj)
        return Cached(kind, meta.key(obj), 0, orjson.dumps(made)) if made is not None else None

    def _of_node(self, node: Object) -> Object | None:
        last, before = (looks.get(meta.name(node)) for looks in (self._last, self._before))
        if last is None or last.node is None or before is None:
            return None
        measured = measurements.use(last.node, before.node)
        return measurements.node_metrics(node, measured) if measured is not None else None

    def _of_pod(self, pod: Object) -> Object | None:
        name = str((pod.get("spec") or {}).get("nodeName") or "")
        last, before = self._last.get(name), self._before.get(name)
        if last is None or before is None:
            return None
        key = (meta.namespace(pod), meta.name(pod))
        measured = measurements.use_of_pod(key, last, before)
        return measurements.pod_metrics(pod, measured) if measured else None


def _lost(node: Object) -> bool:
    """Nobody heard of it for a while: asking it would only take time."""
    conditions = (node.get("status") or {}).get("conditions") or ()
    return any(one["type"] == "Ready" and one.get("status") == "Unknown" for one in conditions)
