"""Leader election on a Lease: one of many works, and the next one follows within seconds.

Clocks of hosts are never compared. A contender counts a lease's duration on its own steady clock
from the moment it *saw* the last renewal (as client-go does); the leader counts from before it
*sent* that renewal, and stops its work well before the duration has passed. So work of two leaders
never overlaps, as long as steady clocks run at nearly the same speed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

from meshkube.api import kinds, meta
from meshkube.api.errors import ApiError
from meshkube.api.types import Object
from meshkube.client.base import Client
from meshkube.client.events import EventRecorder
from meshkube.clock import Clock
from meshkube.control.fence import Fence

log = logging.getLogger(__name__)

REQUEST_LIMIT = 5.0
"""Seconds after which a contender no longer waits for an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Seconds. A killed leader is followed after at most `duration + poll`."""

    duration: int = 2
    """How long a lease holds without renewal: whole seconds, as the Lease says it."""
    give_up: float = 1.4
    """The leader stops this long after its last good renewal was sent; the rest of the duration is
    for its work to end."""
    renew: float = 0.6
    retry: float = 0.1
    """Between tries of a renewal that failed."""
    poll: float = 0.3
    """Between a contender's looks at the lease."""

    def __post_init__(self) -> None:
        if not 0 < self.renew < self.give_up < self.duration:
            raise ValueError("lease timing: renew < give_up < duration must hold")


class Sighting:
    """What a contender has seen of a lease, and when, on its own steady clock."""

    def __init__(self) -> None:
        self._renewal: tuple[str, str] | None = None
        self._at = 0.0

    def see(self, lease: Object, now: float) -> None:
        spec = lease.get("spec") or {}
        renewal = (str(spec.get("holderIdentity") or ""), str(spec.get("renewTime") or ""))
        if renewal != self._renewal:
            self._renewal, self._at = renewal, now

    def free_in(self, lease: Object, me: str, now: float, duration: float) -> float:
        """Seconds until `me` may take the lease: 0 when it has no holder, or `me` is it."""
        spec = lease.get("spec") or {}
        if spec.get("holderIdentity") in (None, "", me):
            return 0.0
        # The holder's word counts: it may run with other settings than ours.
        held = float(spec.get("leaseDurationSeconds") or duration)
        return max(0.0, self._at + held - now)


def claim(lease: Object | None, name: str, namespace: str, me: str, now: datetime,
          duration: int, *, anew: bool = False) -> Object:  # fmt: skip
    """The lease as `me` takes or renews it. `lease` is the current one, or None. `anew`: a term
    begins even where `me` holds it, since that is what a process before this one left."""
    claimed: Object = meta.copy(lease) if lease else {
        "apiVersion": kinds.LEASE.api_version,
        "kind": kinds.LEASE.kind,
        "metadata": {"name": name, "namespace": namespace},
    }  # fmt: skip
    spec = claimed.setdefault("spec", {})
    moment = meta.micro_timestamp(now)
    if anew or spec.get("holderIdentity") != me:
        spec["leaseTransitions"] = int(spec.get("leaseTransitions") or 0) + (1 if lease else 0)
        spec["acquireTime"] = moment
    spec |= {"holderIdentity": me, "leaseDurationSeconds": duration, "renewTime": moment}
    return claimed


def release(lease: Object, now: datetime) -> Object:
    """The lease with no holder, for the next to take at once."""
    released = meta.copy(lease)
    released["spec"] |= {
        "holderIdentity": "",
        "leaseDurationSeconds": 1,
        "renewTime": meta.micro_timestamp(now),
    }
    return released


class LeadershipLost(Exception):
    """Ends a term: the lease could not be renewed in time, or another holds it."""


class Election:
    """Runs `work` while this contender holds the Lease. `identity` is one per data directory: a
    restarted process with the same one takes its own lease back at once. The `fence` holds the
    term meanwhile: who writes through it writes as the leader, or not at all."""

    def __init__(
        self,
        *,
        client: Client,
        identity: str,
        clock: Clock,
        events: EventRecorder,
        name: str = "meshkube",
        namespace: str = "kube-system",
        timing: Timing | None = None,
        fence: Fence | None = None,
    ) -> None:
        self._client = client
        self._fence = fence or Fence()
        self._identity = identity
        self._clock = clock
        self._events = events
        self._name = name
        self._namespace = namespace
        self._timing = timing or Timing()
        self._lease: Object | None = None
        self._uid = ""
        self._renewed = 0.0
        self.leading = False

    async def run(self, work: Callable[[], Awaitable[None]]) -> None:
        """Contends until cancelled, then gives the lease back. A failure of `work` ends the term
        and is raised; losing the lease only ends the term."""
        while True:
            await self._acquire()
            self._announce("became leader")
            try:
                await self._term(work)
            finally:
                self.leading = False
                log.info("stopped leading", extra={"identity": self._identity})
                self._announce("stopped leading")
            _heed_cancellation()

    async def _acquire(self) -> None:
        sighting = Sighting()
        self._lease = None
        while True:
            wait = self._timing.poll
            try:
                async with asyncio.timeout(REQUEST_LIMIT):
                    lease = await self._current()
                    wait = self._free_in(sighting, lease)
                    if wait == 0.0:
                        await self._claim(lease, anew=True)
                        return
            except (ApiError, TimeoutError) as error:
                log.debug("no lease yet", extra={"error": str(error)})
                wait = self._timing.poll
            await self._clock.sleep(min(wait, self._timing.poll))

    def _free_in(self, sighting: Sighting, lease: Object | None) -> float:
        if lease is None:
            return 0.0
        now = self._clock.monotonic()
        sighting.see(lease, now)
        return sighting.free_in(lease, self._identity, now, self._timing.duration)

    async def _current(self) -> Object | None:
        try:
            return await self._client.get(kinds.LEASE, self._name, self._namespace)
        except ApiError as error:
            if error.code == 404:
                return None
            raise

    async def _claim(self, lease: Object | None, *, anew: bool = False) -> None:
        """Takes or renews; the term's time counts from before the request."""
        sent = self._clock.monotonic()
        wanted = claim(
            lease, self._name, self._namespace, self._identity, self._clock.now(),
            self._timing.duration, anew=anew,
        )  # fmt: skip
        if lease is None:
            self._lease = await self._client.create(kinds.LEASE, wanted)
        else:
            self._lease = await self._client.update(kinds.LEASE, wanted)
        self._fence.hold(self._lease)
        self._uid = meta.uid(self._lease)
        self._renewed = sent

    async def _term(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            # The claim itself may have taken longer than the lease lasts.
            self._check()
            self.leading = True
            log.info("became leader", extra={"identity": self._identity})
            async with asyncio.TaskGroup() as group:
                group.create_task(self._watchdog())
                group.create_task(self._renew())
                await work()
                raise LeadershipLost("the work has ended")
        except* LeadershipLost as lost:
            log.warning("leadership lost", extra={"reason": str(lost.exceptions[0])})
        finally:
            self._fence.drop()
            await self._give_back()

    @property
    def _ends(self) -> float:
        return self._renewed + self._timing.give_up

    def _check(self) -> None:
        if self._clock.monotonic() >= self._ends:
            raise LeadershipLost(f"no renewal within {self._timing.give_up} s")

    async def _watchdog(self) -> None:
        """Ends the term in time, whatever a renewal in flight still waits for."""
        while True:
            await self._clock.sleep(max(self._ends - self._clock.monotonic(), 0.0))
            self._check()

    async def _renew(self) -> None:
        while True:
            await self._clock.sleep(self._timing.renew)
            while not await self._renewed_once():
                await self._clock.sleep(self._timing.retry)

    async def _renewed_once(self) -> bool:
        try:
            await self._claim(self._lease)
            return True
        except ApiError as error:
            log.warning("lease not renewed", extra={"error": error.message})
            if error.code in (404, 409):
                await self._look_again()
            return False

    async def _look_again(self) -> None:
        """Somebody wrote the lease, or an earlier write of ours went through unseen."""
        try:
            lease = await self._current()
        except ApiError:
            return
        holder = ((lease or {}).get("spec") or {}).get("holderIdentity")
        if holder and holder != self._identity:
            raise LeadershipLost(f"{holder} holds the lease")
        self._lease = lease

    async def _give_back(self) -> None:
        """Best effort: who cannot reach the API lets the lease run out."""
        lease, self._lease = self._lease, None
        if lease is None:
            return
        try:
            async with asyncio.timeout(self._timing.duration):
                await self._release(lease)
        except (ApiError, TimeoutError) as error:
            log.debug("lease not given back", extra={"error": str(error)})

    async def _release(self, lease: Object) -> None:
        try:
            await self._client.update(kinds.LEASE, release(lease, self._clock.now()))
        except ApiError as error:
            current = await self._current() if error.code == 409 else None
            if current is None or current["spec"].get("holderIdentity") != self._identity:
                raise
            # A renewal cut short by the stop went through all the same.
            await self._client.update(kinds.LEASE, release(current, self._clock.now()))

    def _announce(self, what: str) -> None:
        self._events.event(
            {
                "apiVersion": kinds.LEASE.api_version,
                "kind": kinds.LEASE.kind,
                "namespace": self._namespace,
                "name": self._name,
                "uid": self._uid,
            },
            "Normal",
            "LeaderElection",
            f"{self._identity} {what}",
        )


def _heed_cancellation() -> None:
    """A TaskGroup that fails while it is cancelled raises only the failure (before Python 3.13)."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
