"""Users as the API knows them, and the names that Kubernetes gives to its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from meshkube.api.types import Object

MASTERS = "system:masters"
AUTHENTICATED = "system:authenticated"
UNAUTHENTICATED = "system:unauthenticated"
NODES = "system:nodes"
BOOTSTRAPPERS = "system:bootstrappers"
BOOTSTRAP_AGENTS = "system:bootstrappers:meshkube:agent"
BOOTSTRAP_SERVERS = "system:bootstrappers:meshkube:server"
NODE_PREFIX = "system:node:"
SERVICE_ACCOUNT_PREFIX = "system:serviceaccount:"
ALL_SERVICE_ACCOUNTS = "system:serviceaccounts"


@dataclass(frozen=True, slots=True)
class User:
    """Who asks. Equal and hashable by name and groups alone: decisions are kept by it."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = field(default="", compare=False)
    extra: Mapping[str, list[str]] = field(default_factory=dict, compare=False)

    @property
    def known(self) -> bool:
        return AUTHENTICATED in self.groups

    @property
    def node(self) -> str:
        """The node that this user is; empty for all others."""
        if NODES in self.groups and self.name.startswith(NODE_PREFIX):
            return self.name[len(NODE_PREFIX) :]
        return ""

    def info(self) -> Object:
        """As `authentication.k8s.io/v1 UserInfo`."""
        found: Object = {"username": self.name}
        if self.uid:
            found["uid"] = self.uid
        if self.groups:
            found["groups"] = list(self.groups)
        if self.extra:
            found["extra"] = {key: list(values) for key, values in self.extra.items()}
        return found


ANONYMOUS = User("system:anonymous", (UNAUTHENTICATED,))


def service_account_name(namespace: str, name: str) -> str:
    """The user name of a service account."""
    return f"{SERVICE_ACCOUNT_PREFIX}{namespace}:{name}"


def service_account_groups(namespace: str) -> tuple[str, ...]:
    return (ALL_SERVICE_ACCOUNTS, f"{ALL_SERVICE_ACCOUNTS}:{namespace}")


def split_service_account(user: str) -> tuple[str, str] | None:
    """`(namespace, name)` of a service account's user name; None for every other name."""
    if not user.startswith(SERVICE_ACCOUNT_PREFIX):
        return None
    namespace, _, name = user[len(SERVICE_ACCOUNT_PREFIX) :].partition(":")
    if not namespace or not name or ":" in name:
        return None
    return namespace, name


def component(name: str) -> User:
    """A part of the cluster itself: service accounts and nodes get their groups."""
    account = split_service_account(name)
    groups: tuple[str, ...] = ()
    if account is not None:
        groups = service_account_groups(account[0])
    elif name.startswith(NODE_PREFIX):
        groups = (NODES,)
    return User(name, (*groups, AUTHENTICATED))
