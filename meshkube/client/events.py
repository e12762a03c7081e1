"""Events about objects, as `kubectl describe` shows them: recorded at once, sent in the background.

The same event seen again counts up instead of filling the store; many alike are combined; an
object that spams is limited. The rules and numbers are those of client-go's event correlator.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeVar

from meshkube.api import kinds, meta
from meshkube.api.errors import ApiError
from meshkube.api.types import Object
from meshkube.client.base import Client
from meshkube.clock import Clock, SystemClock

log = logging.getLogger(__name__)

Type = Literal["Normal", "Warning"]

KEPT = 4096
"""Entries of each memory of past events."""
COMBINE_AFTER = 10
"""Distinct messages of one reason about one object before they are combined."""
COMBINE_WINDOW = 600.0
BURST = 25
REFILL = 1 / 300.0
"""Events a second that one object earns back after its burst."""
WAITING = 5000
"""Events waiting to be sent; more are dropped."""
AT_ONCE = 32
"""Events sent side by side, where nothing else is said."""
MESSAGE_LIMIT = 1024
ATTEMPTS = 6

V = TypeVar("V")


class _Memory(OrderedDict[Any, V]):
    """A mapping that forgets what was used longest ago."""

    def recall(self, key: Any, fresh: V) -> V:
        value = self.setdefault(key, fresh)
        self.move_to_end(key)
        if len(self) > KEPT:
            self.popitem(last=False)
        return value


@dataclass(slots=True)
class _Alike:
    messages: set[str] = field(default_factory=set)
    last: float = 0.0


@dataclass(slots=True)
class _Allowance:
    tokens: float = float(BURST)
    last: float = 0.0


@dataclass(slots=True)
class _Sent:
    name: str = ""
    count: int = 0
    first: str = ""


class Write(NamedTuple):
    """What to do for one event: create `event`, or where `again`, raise the count of `name`."""

    key: tuple[str, ...]
    event: Object
    again: bool


class Correlator:
    """Which recorded events become which writes. Pure: times are arguments."""

    def __init__(self) -> None:
        self._alike: _Memory[_Alike] = _Memory()
        self._allowances: _Memory[_Allowance] = _Memory()
        self._sent: _Memory[_Sent] = _Memory()

    def correlate(self, event: Object, now: float) -> Write | None:
        """The write for `event` at `now` (seconds on any steady counter), or None where its object
        has used up its allowance."""
        subject = event["involvedObject"]
        who = tuple(str(subject.get(part) or "") for part in ("kind", "namespace", "name", "uid"))
        group = (*who, subject.get("fieldPath", ""), event["type"], event["reason"])
        combined = self._combines(group, event["message"], now)
        if combined:
            event["message"] = f"(combined from similar events): {event['message']}"
        if not self._allowed(who, now):
            return None
        # All that is combined is one event: it shows the last message.
        key = (*group, "" if combined else event["message"])
        sent = self._sent.recall(key, _Sent())
        again = sent.count > 0
        if not again:
            sent.name, sent.first = event["metadata"]["name"], event["firstTimestamp"]
        sent.count += 1
        event["metadata"]["name"] = sent.name
        event["count"], event["firstTimestamp"] = sent.count, sent.first
        return Write(key, event, again)

    def created(self, key: tuple[str, ...], name: str) -> None:
        """The event of this key now lives under `name`."""
        sent = self._sent.get(key)
        if sent is not None:
            sent.name = name

    def forget(self, key: tuple[str, ...]) -> None:
        """The event of this key could not be sent, or is gone from the store."""
        self._sent.pop(key, None)

    def _combines(self, group: tuple[str, ...], message: str, now: float) -> bool:
        alike = self._alike.recall(group, _Alike(last=now))
        if now - alike.last > COMBINE_WINDOW:
            alike.messages.clear()
        alike.last = now
        alike.messages.add(message)
        if len(alike.messages) < COMBINE_AFTER:
            return False
        alike.messages.pop()
        return True

    def _allowed(self, who: tuple[str, ...], now: float) -> bool:
        allowance = self._allowances.recall(who, _Allowance(last=now))
        earned = (now - allowance.last) * REFILL
        allowance.tokens = min(BURST, allowance.tokens + earned)
        allowance.last = now
        if allowance.tokens < 1:
            return False
        allowance.tokens -= 1
        return True


class EventRecorder:
    """Records Events of one component (`deployment-controller`, `kubelet`) on one host.

    `event` never blocks and never raises for want of an API; run `run` in a TaskGroup to send.
    """

    def __init__(
        self,
        client: Client,
        component: str,
        host: str = "",
        clock: Clock | None = None,
        at_once: int = AT_ONCE,
    ) -> None:
        """`at_once`: Events sent side by side; what else the client does waits for these."""
        self._client = client
        self._at_once = at_once
        self._clock = clock or SystemClock()
        self._component = component
        self._host = host
        self._correlator = Correlator()
        self._waiting: deque[Object] = deque()
        self._wake = asyncio.Event()
        self.dropped = 0
        """Events lost because too many waited."""

    def named(self, component: str) -> EventRecorder:
        """The same recorder (one queue, one `run`) speaking for another component."""
        other = EventRecorder.__new__(EventRecorder)
        other.__dict__.update(self.__dict__)
        other._component = component
        return other

    def event(
        self,
        obj: Mapping[str, Any],
        type: Type,
        reason: str,
        message: str,
        *,
        field_path: str = "",
    ) -> None:
        """Records what happened to `obj` (which has `apiVersion` and `kind`, or is an object
        reference). `field_path` as in `spec.containers{web}`."""
        if len(self._waiting) >= WAITING:
            self._dropped(reason)
            return
        self._waiting.append(self._new(_reference(obj, field_path), type, reason, message))
        self._wake.set()

    def _dropped(self, reason: str) -> None:
        self.dropped += 1
        if self.dropped & (self.dropped - 1) == 0:
            log.warning("events dropped", extra={"so_far": self.dropped, "reason": reason})

    def _new(self, subject: Object, type: Type, reason: str, message: str) -> Object:
        now = meta.timestamp(self._clock.now())
        source = {"component": self._component}
        if self._host:
            source["host"] = self._host
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "name": f"{subject.get('name') or 'unknown'}.{time.time_ns():x}",
                "namespace": subject.get("namespace") or "default",
            },
            "involvedObject": subject,
            "type": type,
            "reason": reason,
            "message": message[:MESSAGE_LIMIT],
            "source": source,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
            "eventTime": None,
            "reportingComponent": self._component,
            "reportingInstance": self._host,
        }

    async def run(self) -> None:
        """Sends what is recorded, in order, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self.flush()

    async def flush(self) -> None:
        """Sends what waits now."""
        while self._waiting:
            async with asyncio.TaskGroup() as group:
                for write in self._next_writes():
                    group.create_task(self._deliver(write))

    def _next_writes(self) -> list[Write]:
        """Some writes, at most one for each key: of several the last counts."""
        writes: dict[tuple[str, ...], Write] = {}
        while self._waiting and len(writes) < self._at_once:
            write = self._correlator.correlate(self._waiting.popleft(), self._clock.monotonic())
            if write is not None:
                before = writes.get(write.key)
                again = before.again if before else write.again
                writes[write.key] = write._replace(again=again)
        return list(writes.values())

    async def _deliver(self, write: Write) -> None:
        for attempt in range(ATTEMPTS):
            try:
                await self._send(write)
                return
            except ApiError as error:
                if error.code < 500 and error.code != 429:
                    # Its namespace is going away, or it is refused: nobody will read it.
                    log.debug("event refused", extra={"error": error.message})
                    break
                await self._clock.sleep(min(0.5 * 2**attempt, 10.0))
        self._correlator.forget(write.key)

    async def _send(self, write: Write) -> None:
        event = write.event
        if write.again:
            change = {name: event[name] for name in ("count", "lastTimestamp", "message")}
            name, space = event["metadata"]["name"], event["metadata"]["namespace"]
            try:
                await self._client.patch(kinds.EVENT, name, change, space, type="merge")
                return
            except ApiError as error:
                if error.code != 404:
                    raise
            # It has expired: the next one is its successor.
            event["metadata"]["name"] = f"{name.rpartition('.')[0]}.{time.time_ns():x}"
        created = await self._client.create(kinds.EVENT, event, event["metadata"]["namespace"])
        self._correlator.created(write.key, meta.name(created))


def _reference(obj: Mapping[str, Any], field_path: str) -> Object:
    if "metadata" not in obj:
        reference = dict(obj)
    else:
        reference = {
            "apiVersion": obj.get("apiVersion"),
            "kind": obj.get("kind"),
            "namespace": meta.namespace(obj),
            "name": meta.name(obj),
            "uid": meta.uid(obj),
            "resourceVersion": meta.resource_version(obj),
        }
    if field_path:
        reference["fieldPath"] = field_path
    return {key: value for key, value in reference.items() if value}
