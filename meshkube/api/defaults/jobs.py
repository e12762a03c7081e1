"""Defaults of Jobs and CronJobs."""

from __future__ import annotations

from typing import Final

from meshkube.api.defaults.pods import POD_TEMPLATE
from meshkube.api.defaults.rules import Row, under
from meshkube.api.defaults.workloads import labels_of_template
from meshkube.api.types import Object

NO_LIMIT: Final = 2**31 - 1


def _counts(spec: Object) -> None:
    """One pod that completes, unless either number says otherwise."""
    if spec.get("completions") is None and spec.get("parallelism") is None:
        spec["completions"] = 1
    if spec.get("parallelism") is None:
        spec["parallelism"] = 1
    if spec.get("backoffLimit") is None:
        spec["backoffLimit"] = 6 if spec.get("backoffLimitPerIndex") is None else NO_LIMIT


def _replacement(spec: Object) -> None:
    if spec.get("podReplacementPolicy") is None:
        failed = spec.get("podFailurePolicy") is not None
        spec["podReplacementPolicy"] = "Failed" if failed else "TerminatingOrFailed"


_SPEC: Final[list[Row]] = [
    ("", _counts),
    ("", _replacement),
    ("completionMode", "NonIndexed"),
    ("suspend", False),
    ("podFailurePolicy.rules[].onPodConditions[].status", "True"),
    ("template", {}),
    *under("template", POD_TEMPLATE),
]

JOB: Final[list[Row]] = [
    ("", labels_of_template),
    ("spec", {}),
    *under("spec", _SPEC),
    ("spec.manualSelector", False),
]

# The Job of a template is a Job's spec without being one: what is only a Job's is left out.
CRON_JOB: Final[list[Row]] = [
    ("spec", {}),
    ("spec.concurrencyPolicy", "Allow"),
    ("spec.suspend", False),
    ("spec.successfulJobsHistoryLimit", 3),
    ("spec.failedJobsHistoryLimit", 1),
    ("spec.jobTemplate", {}),
    ("spec.jobTemplate.metadata", {}),
    ("spec.jobTemplate.spec", {}),
    ("spec.jobTemplate.spec.template", {}),
    *under("spec.jobTemplate.spec.template", POD_TEMPLATE),
]
