"""What a write may ask for beside the object itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from meshkube.api.kinds import Kind
from meshkube.api.types import Object
from meshkube.client.base import Propagation
from meshkube.control.auth.users import User
from meshkube.control.fence import Fence

META = "meta.k8s.io/v1"
FieldValidation = Literal["Strict", "Warn", "Ignore"]


def _stay() -> None:
    """Nobody waits for the place of this request."""


@dataclass(slots=True)
class WriteOptions:
    """Of create, update and patch."""

    dry_run: bool = False
    field_manager: str = "unknown"
    field_validation: FieldValidation = "Ignore"
    force: bool = False
    """Of an apply: take fields over from other managers."""
    applied: bool = False
    """An apply: the object brings its managedFields."""
    warnings: list[str] = field(default_factory=list)
    """Filled by the write: what the client should be told."""
    user: User | None = None
    """Who writes; None: the server itself."""
    fence: Fence | None = None
    """The term that this is written in, where a leader writes."""
    long: bool = False
    """The body is so big that checking it takes long: it is done aside from the loop."""
    named: Kind | None = None
    """The kind that the request names, where that is not the kind that is stored."""
    duplicates: tuple[str, ...] = ()
    """What the body says twice, in words: `duplicate field "spec.replicas"`."""
    leave: Callable[[], None] = _stay
    """Gives back the request's place among those under way (`fairness`)."""

    def shown(self, kind: str) -> Object:
        """As `CreateOptions`, `UpdateOptions` or `PatchOptions`: what webhooks are told."""
        shown: Object = {"kind": kind, "apiVersion": META, "fieldManager": self.field_manager}
        if self.field_validation != "Ignore":
            shown["fieldValidation"] = self.field_validation
        if self.dry_run:
            shown["dryRun"] = ["All"]
        if self.force:
            shown["force"] = True
        return shown


@dataclass(frozen=True, slots=True)
class DeleteOptions:
    """Of delete, as `meta/v1 DeleteOptions`."""

    propagation: Propagation | None = None
    grace_period: int | None = None
    """Seconds."""
    uid: str = ""
    resource_version: str = ""
    dry_run: bool = False
    user: User | None = None
    """Who deletes; None: the server itself."""
    fence: Fence | None = None
    """The term that this is deleted in, where a leader deletes."""
    named: Kind | None = None
    """The kind that the request names, where that is not the kind that is stored."""
    warnings: list[str] = field(default_factory=list)
    """Filled by the deletion: what the client should be told."""
    leave: Callable[[], None] = _stay
    """Gives back the request's place among those under way (`fairness`)."""

    def shown(self) -> Object:
        """As `DeleteOptions`: what webhooks are told."""
        shown: Object = {"kind": "DeleteOptions", "apiVersion": META}
        preconditions = {"uid": self.uid, "resourceVersion": self.resource_version}
        found = {
            "gracePeriodSeconds": self.grace_period,
            "propagationPolicy": self.propagation,
            "preconditions": {key: value for key, value in preconditions.items() if value} or None,
            "dryRun": ["All"] if self.dry_run else None,
        }
        return shown | {key: value for key, value in found.items() if value is not None}

    @classmethod
    def of(cls, body: Object, dry_run: bool = False, user: User | None = None) -> DeleteOptions:
        """From a DeleteOptions object."""
        preconditions = body.get("preconditions") or {}
        propagation = body.get("propagationPolicy")
        if propagation is None and body.get("orphanDependents") is not None:
            propagation = "Orphan" if body["orphanDependents"] else "Background"
        return cls(
            propagation=propagation,
            grace_period=body.get("gracePeriodSeconds"),
            uid=preconditions.get("uid") or "",
            resource_version=preconditions.get("resourceVersion") or "",
            dry_run=dry_run or bool(body.get("dryRun")),
            user=user,
        )
