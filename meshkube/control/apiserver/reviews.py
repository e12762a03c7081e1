"""Reviews: questions about the asking user, answered on the spot. Pure."""

from __future__ import annotations

from meshkube.api.types import Object
from meshkube.control.apiserver.identity import MASTERS, User


def answer(kind: str, body: Object, user: User) -> Object:
    """The review with its status filled in."""
    return {**body, "metadata": body.get("metadata") or {}, "status": _ANSWERS[kind](user)}


def _access(user: User) -> Object:
    if MASTERS in user.groups:
        return {"allowed": True, "reason": f"{MASTERS} may do everything"}
    return {"allowed": False, "reason": f"only members of {MASTERS} may do anything yet"}


def _rules(user: User) -> Object:
    status: Object = {"resourceRules": [], "nonResourceRules": [], "incomplete": False}
    if MASTERS in user.groups:
        status["resourceRules"] = [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]
        status["nonResourceRules"] = [{"verbs": ["*"], "nonResourceURLs": ["*"]}]
    return status


def _self(user: User) -> Object:
    return {"userInfo": {"username": user.name, "groups": list(user.groups)}}


_ANSWERS = {
    "SelfSubjectAccessReview": _access,
    "SelfSubjectRulesReview": _rules,
    "SelfSubjectReview": _self,
}
