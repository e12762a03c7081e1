"""How much one client may ask: rates and requests under way. Pure.

A rate is kept as the time at which a client's allowance would be whole again (the generic cell
rate algorithm): one number a client. The number of clients remembered is bounded; the one that
asked longest ago is forgotten first.
"""

from __future__ import annotations

from collections import OrderedDict

from meshkube.ingress.features import Limits

CLIENTS = 65_536


class Rate:
    """So many requests a second for each client, and so many at once."""

    def __init__(self, per_second: float, burst: int) -> None:
        self._interval = 1.0 / per_second
        self._slack = self._interval * burst
        self._full: OrderedDict[str, float] = OrderedDict()
        """When each client's allowance is whole again, the last to ask at the end."""

    def take(self, client: str, now: float) -> float:
        """Counts a request. Returns 0, or the seconds until the client may ask again."""
        full = max(self._full.get(client, now), now)
        wait = full - now - self._slack
        # One above the burst is the request itself, as with nginx.
        if wait > 1e-9:
            return wait
        self._full[client] = full + self._interval
        self._full.move_to_end(client)
        if len(self._full) > CLIENTS:
            self._full.popitem(last=False)
        return 0.0


class Limiter:
    """The limits of one Ingress, and what its clients have used of them."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._rates = [
            (Rate(count / seconds, count * limits.burst), f"{count} requests a {unit}")
            for count, seconds, unit in ((limits.rps, 1, "second"), (limits.rpm, 60, "minute"))
            if count
        ]
        self._under_way: dict[str, int] = {}

    def refusal(self, client: str, now: float) -> tuple[str, float] | None:
        """Which limit a client's request would break, and the seconds until it may ask again (0:
        nobody knows); None, and the request is counted, where it breaks none."""
        for rate, name in self._rates:
            wait = rate.take(client, now)
            if wait:
                return name, wait
        most = self.limits.connections
        if most and self._under_way.get(client, 0) >= most:
            return f"{most} requests at one time", 0.0
        return None

    def begin(self, client: str) -> None:
        """A request is under way."""
        self._under_way[client] = self._under_way.get(client, 0) + 1

    def end(self, client: str) -> None:
        """It is over."""
        left = self._under_way.get(client, 0) - 1
        if left > 0:
            self._under_way[client] = left
        else:
            self._under_way.pop(client, None)
