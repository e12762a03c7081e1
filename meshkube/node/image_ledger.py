"""What this node remembers of its images, and which of them may go when the disk fills up. Pure;
times are seconds since the epoch, as the ledger outlives the process.

Docker is not ours alone. Only what meshkube brought here or ran is ever taken away: what somebody
pulled or built on this host and no pod used stays. Source: Kubernetes documentation, "Garbage
Collection", "Container image lifecycle".
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from meshkube.node.runtime import LocalImage

# No pull brings back what came out of an archive or was built here: a day without use, then.
KEPT_LOCAL: Final = 86_400.0
# A list of images may be older than the last of them.
NEW: Final = 60.0
PINNED: Final = ("io.cri-containerd.pinned", "meshkube.io/pinned")
"""Labels of images that always stay: `pinned` or `true`."""


@dataclass(slots=True)
class Line:
    """One image."""

    since: float
    used: float
    pulled: bool = False
    """A registry gave it, and could again."""
    private: bool = False
    """It was pulled with a credential: other nodes do not get it from here."""


@dataclass(slots=True)
class Ledger:
    """By image id."""

    lines: dict[str, Line] = field(default_factory=dict)

    def note(self, id: str, now: float) -> None:
        """The image has come, or is used."""
        line = self.lines.setdefault(id, Line(now, now))
        line.used = max(line.used, now)

    def note_pull(self, id: str, now: float, *, private: bool) -> None:
        """A registry gave it; `private`: to somebody whom it knows."""
        self.note(id, now)
        self.lines[id].pulled = True
        self.lines[id].private = private

    def use(self, ids: Iterable[str], now: float) -> None:
        """Containers have these."""
        for id in ids:
            self.note(id, now)

    def follow(self, present: Collection[str], now: float) -> None:
        """Forgets images that are gone, but for those that only just came."""
        for id in self.lines.keys() - set(present):
            if now - self.lines[id].used > NEW:
                del self.lines[id]

    def is_private(self, id: str) -> bool:
        line = self.lines.get(id)
        return line is not None and line.private

    def victims(
        self,
        images: Iterable[LocalImage],
        in_use: Collection[str],
        now: float,
        minimum_age: float,
    ) -> list[LocalImage]:
        """The images that may go, in the order in which they do: what was used longest ago first,
        what a registry could not give again last."""

        def may_go(image: LocalImage) -> bool:
            line = self.lines.get(image.id)
            if line is None or image.id in in_use or image.pinned:
                return False
            patience = minimum_age if line.pulled else max(minimum_age, KEPT_LOCAL)
            return now - line.since >= minimum_age and now - line.used >= patience

        def order(image: LocalImage) -> tuple[bool, float, float]:
            line = self.lines[image.id]
            return not line.pulled, line.used, line.since

        return sorted(filter(may_go, images), key=order)

    def essence(self) -> frozenset[tuple[str, bool, bool]]:
        """All but the times: who forgets this forgets something that matters."""
        return frozenset((id, line.pulled, line.private) for id, line in self.lines.items())

    def dump(self) -> bytes:
        """For `load`."""
        return orjson.dumps(self.lines)


def load(content: bytes, now: float) -> Ledger:
    """What `dump` wrote; nothing, where it cannot be read: then every image is as new. Times that
    lie ahead, as after a clock was set back, become `now`."""
    try:
        found = orjson.loads(content)
        return Ledger({str(id): _line(line, now) for id, line in found.items()})
    except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError, ValueError):
        return Ledger()


def _line(line: Mapping[str, Any], now: float) -> Line:
    since, used = float(line["since"]), float(line["used"])
    return Line(
        min(since, now), min(used, now), bool(line.get("pulled")), bool(line.get("private"))
    )


def to_free(capacity: int, available: int, high: int, low: int) -> int:
    """Bytes to free: none below `high` percent of use (100 is never reached), else down to `low`
    percent."""
    if capacity <= 0 or high >= 100:
        return 0
    used = capacity - available
    if used * 100 < high * capacity:
        return 0
    return max(0, used - low * capacity // 100)
