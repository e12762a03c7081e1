"""Load from a lab host, and what came of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tests.lab.host import Host
from tests.lab.switch import ROOT


@dataclass(frozen=True, slots=True)
class Outcome:
    """One request: when it was sent (steady clock), how long it took, and the pod or the error."""

    at: float
    url: str
    took: float
    pod: str
    error: str


class Traffic:
    """Requests to each of `urls` in turn while the `with` block runs, `rate` a second in all.
    `limit` is how long one may take, in seconds."""

    _count = 0

    def __init__(
        self, host: Host, urls: Sequence[str], *, name: str = "shop.example", rate: float = 20,
        limit: float = 10,
    ) -> None:  # fmt: skip
        Traffic._count += 1
        self.host = host
        self.urls = list(urls)
        self.limit = limit
        self._log = f"traffic-{Traffic._count}.log"
        self._command = (
            sys.executable, "-m", "tests.lab.load",
            f"--rate={rate}", f"--host={name}", f"--limit={limit}", *urls,
        )  # fmt: skip

    def __enter__(self) -> Traffic:
        self._process = self.host.start(*self._command, log=self._log, cwd=ROOT)
        return self

    def __exit__(self, *_: object) -> None:
        # What is under way is waited for: it counts too.
        self._process.terminate()
        self._process.wait(self.limit + 10)
        if self._process in self.host.processes:
            self.host.processes.remove(self._process)

    def outcomes(self) -> list[Outcome]:
        """In the order in which they were sent."""
        file = self.host.directory / self._log
        lines = file.read_text().splitlines() if file.exists() else []
        found = []
        for line in lines:
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            found.append(
                Outcome(
                    entry["at"], entry["url"], entry["took"], entry.get("pod", ""),
                    entry.get("error", ""),
                )
            )  # fmt: skip
        return sorted(found, key=lambda outcome: outcome.at)

    def failed(self, since: float = 0.0, urls: Iterable[str] = ()) -> list[Outcome]:
        """Those that failed of the ones sent after `since` (steady clock)."""
        wanted = set(urls)
        return [
            outcome
            for outcome in self.outcomes()
            if outcome.error and outcome.at >= since and (not wanted or outcome.url in wanted)
        ]

    def pods(self, since: float = 0.0) -> set[str]:
        """The pods that have answered requests sent after `since`."""
        return {one.pod for one in self.outcomes() if one.pod and one.at >= since}
