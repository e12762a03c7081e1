"""What the API server itself fills in of Jobs and DaemonSets. Pure; objects are private.

Source: Kubernetes' REST strategies of `batch/jobs` and `apps/daemonsets`.
"""

from __future__ import annotations

from meshkube.api import meta
from meshkube.api.types import Object

GENERATION = "deprecated.daemonset.template.generation"
_NAME_LABELS = ("job-name", "batch.kubernetes.io/job-name")
_UID_LABELS = ("controller-uid", "batch.kubernetes.io/controller-uid")


def new_job(job: Object) -> None:
    """A Job selects its pods by its uid, unless it says that it brings its own selector."""
    spec = job.setdefault("spec", {})
    if spec.get("manualSelector"):
        return
    template = _part(spec, "template")
    labels = _part(_part(template, "metadata"), "labels")
    for label in _NAME_LABELS:
        labels.setdefault(label, meta.name(job))
    for label in _UID_LABELS:
        labels.setdefault(label, meta.uid(job))
    _part(_part(spec, "selector"), "matchLabels").setdefault(_UID_LABELS[1], meta.uid(job))


def _part(obj: Object, field: str) -> Object:
    if obj.get(field) is None:
        obj[field] = {}
    part: Object = obj[field]
    return part


def new_daemon_set(daemon_set: Object) -> None:
    """Its templates are counted."""
    _part(daemon_set["metadata"], "annotations")[GENERATION] = "1"


def changed_daemon_set(daemon_set: Object, old: Object) -> None:
    before = meta.annotations(old).get(GENERATION) or "1"
    same = daemon_set["spec"].get("template") == old["spec"].get("template")
    number = int(before) + (not same) if before.isdigit() else 1
    _part(daemon_set["metadata"], "annotations")[GENERATION] = str(number)
