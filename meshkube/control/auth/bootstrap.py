"""What the bearer of a join token may do: what its one purpose needs, and nothing else. Pure."""

from __future__ import annotations

from meshkube.api import kinds
from meshkube.api.types import Object
from meshkube.control.auth.attributes import Attributes
from meshkube.control.auth.users import BOOTSTRAP_AGENTS, BOOTSTRAP_SERVERS

BUNDLE_PATH = "/meshkube/v1/server"
_REQUEST = kinds.CERTIFICATE_SIGNING_REQUEST


class Requests:
    """Who made each certificate request."""

    def __init__(self) -> None:
        self._makers: dict[str, str] = {}

    def put(self, request: Object) -> None:
        maker = (request.get("spec") or {}).get("username") or ""
        self._makers[request["metadata"]["name"]] = maker

    def remove(self, request: Object) -> None:
        self._makers.pop(request["metadata"]["name"], None)

    def clear(self) -> None:
        self._makers.clear()

    def made_by(self, user: str, name: str) -> bool:
        return bool(name) and self._makers.get(name) == user


def decide(asked: Attributes, requests: Requests) -> bool:
    """An agent's token makes and reads a certificate request of its own; a server's fetches what a
    server needs."""
    groups = asked.user.groups
    if BOOTSTRAP_AGENTS in groups:
        if (asked.group, asked.resource) != (_REQUEST.group, _REQUEST.plural) or asked.subresource:
            return False
        own = requests.made_by(asked.user.name, asked.name)
        return asked.verb == "create" or (asked.verb == "get" and own)
    return BOOTSTRAP_SERVERS in groups and asked.verb == "get" and asked.path == BUNDLE_PATH
