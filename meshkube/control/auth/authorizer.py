"""All authorizers in their order: the superusers, a node on its own, then RBAC."""

from __future__ import annotations

from collections.abc import Callable

from meshkube.api.kinds import Kind
from meshkube.api.types import Object
from meshkube.control.auth import bootstrap, node
from meshkube.control.auth.attributes import Attributes, denied
from meshkube.control.auth.node import NodeGraph
from meshkube.control.auth.rbac import Decision, Rbac
from meshkube.control.auth.rules import Rule
from meshkube.control.auth.users import BOOTSTRAPPERS, MASTERS, User

_EVERYTHING: list[Rule] = [
    {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]},
    {"verbs": ["*"], "nonResourceURLs": ["*"]},
]
# Whoever watches over this process need not be known to it, and must not wait for roles.
_HEALTH = frozenset({"healthz", "livez", "readyz"})


class Authorizer:
    """Decides; `rbac` and `graph` are kept current by whoever watches roles, bindings, pods and
    volumes."""

    def __init__(self) -> None:
        self.rbac = Rbac()
        self.graph = NodeGraph()
        self.requests = bootstrap.Requests()

    def clear(self) -> None:
        self.rbac.clear()
        self.requests.clear()
        self.graph.clear()

    def decide(self, asked: Attributes) -> Decision:
        if asked.path and asked.path.split("/", 2)[1] in _HEALTH:
            return Decision(True)
        user = asked.user
        if MASTERS in user.groups:
            return Decision(True)
        if BOOTSTRAPPERS in user.groups:
            # Whatever everybody else may: a token that was found must not open more than its door.
            return Decision(bootstrap.decide(asked, self.requests))
        place = user.node
        if place and node.decide(place, asked, self.graph):
            return Decision(True)
        return self.rbac.decide(asked)

    def allows(self, asked: Attributes) -> bool:
        return self.decide(asked).allowed

    def check(self, asked: Attributes) -> None:
        """Raises `ApiError` 403."""
        decision = self.decide(asked)
        if not decision.allowed:
            raise denied(asked, decision.reason)

    def rules_of(self, user: User, namespace: str) -> tuple[list[Rule], str]:
        """What `SelfSubjectRulesReview` shows, and what kept it from being complete."""
        rules, trouble = self.rbac.rules_of(user, namespace)
        if MASTERS in user.groups:
            return [*_EVERYTHING, *rules], trouble
        if user.node:
            return [*node.RULES, *rules], "node authorizer does not support user rule resolution"
        return rules, trouble


def follow(authorizer: Authorizer, kind: Kind, old: Object | None, new: Object | None) -> None:
    """Tells of one change of a stored object that decisions rest on (see `_HANDLERS`)."""
    put, remove = _HANDLERS[kind.kind](authorizer)
    if new is not None:
        put(new)
    elif old is not None:
        remove(old)


_Tell = Callable[[Object], None]
_HANDLERS: dict[str, Callable[[Authorizer], tuple[_Tell, _Tell]]] = {
    "Pod": lambda it: (it.graph.set_pod, it.graph.remove_pod),
    "PersistentVolume": lambda it: (it.graph.set_volume, it.graph.remove_volume),
    "Role": lambda it: (it.rbac.set_role, it.rbac.remove_role),
    "ClusterRole": lambda it: (it.rbac.set_role, it.rbac.remove_role),
    "RoleBinding": lambda it: (it.rbac.set_binding, it.rbac.remove_binding),
    "ClusterRoleBinding": lambda it: (it.rbac.set_binding, it.rbac.remove_binding),
    "CertificateSigningRequest": lambda it: (it.requests.put, it.requests.remove),
}
