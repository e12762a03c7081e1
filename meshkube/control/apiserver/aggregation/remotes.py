"""Which groups and versions other servers answer for: what APIServices say, read. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from meshkube.api import kinds, meta
from meshkube.api.custom.definition import priority
from meshkube.api.types import Object

GroupVersion = tuple[str, str]
_MEASURED = frozenset((kind.group, kind.version) for kind in kinds.MEASURED)
_OWN = frozenset((kind.group, kind.version) for kind in kinds.KINDS) - _MEASURED
"""What nobody else may answer for."""


@dataclass(frozen=True, slots=True)
class Remote:
    """One group and version that the Service `namespace/service` answers for on `port`.

    `bundle` is base64 of the PEM certificates that its own must come from; `skips`: any will do.
    `refused` says why it is not to be asked, and is empty where it may be.
    """

    name: str
    group: str
    version: str
    namespace: str
    service: str
    port: int
    bundle: str = ""
    skips: bool = False
    group_priority: int = 0
    version_priority: int = 0
    refused: str = ""

    @property
    def path(self) -> str:
        return f"/apis/{self.group}/{self.version}"


def read(api: Object) -> Remote | None:
    """What an APIService says; None where this server itself answers."""
    spec = api.get("spec") or {}
    service = spec.get("service")
    group, version = str(spec.get("group") or ""), str(spec.get("version") or "")
    if not service or not group or (group, version) in _OWN:
        return None
    return Remote(
        name=meta.name(api),
        group=group,
        version=version,
        namespace=str(service.get("namespace") or ""),
        service=str(service.get("name") or ""),
        port=int(service.get("port") or 443),
        bundle=str(spec.get("caBundle") or ""),
        skips=bool(spec.get("insecureSkipTLSVerify")),
        group_priority=int(spec.get("groupPriorityMinimum") or 0),
        version_priority=int(spec.get("versionPriority") or 0),
        refused=_refused(api),
    )


def _refused(api: Object) -> str:
    for condition in (api.get("status") or {}).get("conditions") or ():
        if condition.get("type") == "Available" and condition.get("status") == "False":
            return str(condition.get("message") or condition.get("reason") or "not available")
    return ""


class Remotes:
    """All of them, by group; the preferred group and version first."""

    def __init__(self, api_services: Iterable[Object] = ()) -> None:
        found = [remote for one in api_services if (remote := read(one)) is not None]
        self._by_version = {(one.group, one.version): one for one in found}
        groups: dict[str, list[Remote]] = {}
        for one in sorted(found, key=_order):
            groups.setdefault(one.group, []).append(one)
        highest = {
            name: max(one.group_priority for one in members) for name, members in groups.items()
        }
        self.groups = {
            name: groups[name] for name in sorted(groups, key=lambda name: (-highest[name], name))
        }

    def __bool__(self) -> bool:
        return bool(self._by_version)

    def __iter__(self) -> Iterator[Remote]:
        return iter(self._by_version.values())

    def get(self, group: str, version: str) -> Remote | None:
        return self._by_version.get((group, version))

    def of(self, path: str) -> Remote | None:
        """Who answers for a request path at or below `/apis/GROUP/VERSION`, or for its schema
        (`/openapi/v3/apis/GROUP/VERSION`)."""
        parts = path.removeprefix("/openapi/v3").split("/", 4)
        if len(parts) < 4 or parts[1] != "apis":
            return None
        return self._by_version.get((parts[2], parts[3]))


def _order(remote: Remote) -> tuple[object, ...]:
    return -remote.version_priority, priority(remote.version), remote.version
