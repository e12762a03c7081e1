"""What is counted on the hot path: plain integers, one small object a route."""

from __future__ import annotations

from bisect import bisect_left

# Seconds; upper bounds as Prometheus means them (`le`), with +Inf after the last.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class RouteStats:
    """The requests of one route, by status and by time taken."""

    __slots__ = ("codes", "host", "ingress", "path", "seconds", "service", "times")

    def __init__(self, ingress: str, host: str, path: str, service: str) -> None:
        self.ingress = ingress
        self.host = host
        self.path = path
        self.service = service
        self.codes: dict[int, int] = {}
        """Requests by status; 0 counts those whose client went away."""
        self.times = [0] * (len(BUCKETS) + 1)
        self.seconds = 0.0

    def count(self, status: int, seconds: float) -> None:
        """One request answered with `status` (0: never answered) after `seconds`."""
        codes = self.codes
        codes[status] = codes.get(status, 0) + 1
        self.times[bisect_left(BUCKETS, seconds)] += 1
        self.seconds += seconds

    @property
    def classes(self) -> list[int]:
        """Requests by first digit of the status."""
        found = [0] * 10
        for status, count in self.codes.items():
            found[status // 100] += count
        return found
