"""All authorizers in their order: the superusers, a node on its own, then RBAC."""

from __future__ import annotations

from meshkube.api.types import Object
from meshkube.control.auth import node
from meshkube.control.auth.attributes import Attributes, denied
from meshkube.control.auth.node import NodeGraph
from meshkube.control.auth.rbac import Decision, Rbac
from meshkube.control.auth.rules import Rule
from meshkube.control.auth.users import MASTERS, User

_EVERYTHING: list[Rule] = [
    {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]},
    {"verbs": ["*"], "nonResourceURLs": ["*"]},
]


class Authorizer:
    """Decides; `rbac` and `graph` are kept current by whoever watches roles, bindings and pods."""

    def __init__(self) -> None:
        self.rbac = Rbac()
        self.graph = NodeGraph()

    def decide(self, asked: Attributes) -> Decision:
        user = asked.user
        if MASTERS in user.groups:
            return Decision(True)
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


def objects_follow(
    authorizer: Authorizer, kind: str, old: Object | None, new: Object | None
) -> None:
    """Tells of one change of a stored Role, ClusterRole, binding or Pod."""
    rbac, graph = authorizer.rbac, authorizer.graph
    put, remove = {
        "Role": (rbac.set_role, rbac.remove_role),
        "ClusterRole": (rbac.set_role, rbac.remove_role),
        "RoleBinding": (rbac.set_binding, rbac.remove_binding),
        "ClusterRoleBinding": (rbac.set_binding, rbac.remove_binding),
        "Pod": (graph.set_pod, graph.remove_pod),
    }[kind]
    if new is not None:
        put(new)
    elif old is not None:
        remove(old)
