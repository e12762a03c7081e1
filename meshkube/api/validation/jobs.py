"""Jobs and CronJobs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from meshkube.api import schedules
from meshkube.api.selectors import from_label_selector
from meshkube.api.types import JSON, Object
from meshkube.api.validation import formats
from meshkube.api.validation.faults import (
    IMMUTABLE,
    NOT_NEGATIVE,
    Faults,
    Shown,
    at,
    child,
    duplicate,
    go_map,
    invalid,
    item,
    not_supported,
    required,
    too_long,
    too_many,
    without_value,
)
from meshkube.api.validation.ingresses import domain_prefixed_path
from meshkube.api.validation.pods import validate_template
from meshkube.api.validation.selectors import label_key, validate_label_selector
from meshkube.api.validation.workloads import selector_shown

_MOST: Final = 100_000
"""Pods of an indexed Job at once, and failed indexes."""
_MOST_OF_MANY: Final = 10_000
_ACTIONS: Final = ("Count", "FailIndex", "FailJob", "Ignore")
_OPERATORS: Final = ("In", "NotIn")
_STATUSES: Final = ("False", "True", "Unknown")
_LABELS: Final = (
    ("controller-uid", "uid"),
    ("job-name", "name"),
    ("batch.kubernetes.io/controller-uid", "uid"),
    ("batch.kubernetes.io/job-name", "name"),
)
_LONGEST_CRON_JOB: Final = 52


def _spec(obj: Object) -> Object:
    return obj.get("spec") or {}


def _list_shown(names: Sequence[str]) -> str:
    return "[" + " ".join(f'"{name}"' for name in names) + "]"


def validate_job(job: Object) -> Faults:
    spec = _spec(job)
    name = (job.get("metadata") or {}).get("name") or ""
    faults = _generated(job) + _job_spec(spec, "spec") + _selector(spec)
    completions = spec.get("completions") or 0
    if spec.get("completionMode") == "Indexed" and completions > 0:
        host = f"{name}-{completions - 1}"
        if formats.dns_label(host):
            detail = f"will not able to create pod with invalid DNS label: {host}"
            faults.append(invalid("metadata.name", name, detail))
    return faults


def validate_job_update(job: Object, old: Object) -> Faults:
    spec, before = _spec(job), _spec(old)
    faults = _generated(job) + _job_spec(spec, "spec") + _selector(spec)
    faults += _completions(spec, before)
    if spec.get("selector") != before.get("selector"):
        faults.append(invalid("spec.selector", selector_shown(spec.get("selector")), IMMUTABLE))
    if _fixed(spec, old) != _fixed(before, old):
        faults.append(invalid("spec.template", Shown("core.PodTemplateSpec"), IMMUTABLE))
    for field in (
        "completionMode",
        "podFailurePolicy",
        "backoffLimitPerIndex",
        "managedBy",
        "successPolicy",
    ):
        if spec.get(field) != before.get(field):
            faults.append(invalid(f"spec.{field}", _value_shown(spec.get(field)), IMMUTABLE))
    return faults


def _value_shown(value: JSON) -> JSON:
    return Shown("batch") if isinstance(value, dict) else value


def _fixed(spec: Object, old: Object) -> Object:
    """The part of the template that may not change: a Job that never started may still be told
    where to run."""
    template = spec.get("template") or {}
    if not _spec(old).get("suspend") or (old.get("status") or {}).get("startTime"):
        return template
    pod = dict(template.get("spec") or {})
    for field in ("nodeSelector", "tolerations", "schedulingGates"):
        pod.pop(field, None)
    affinity = {k: v for k, v in (pod.pop("affinity", None) or {}).items() if k != "nodeAffinity"}
    return {"spec": {**pod, "affinity": affinity}}


def _completions(spec: Object, before: Object) -> Faults:
    now, then = spec.get("completions"), before.get("completions")
    if now == then:
        return []
    if spec.get("completionMode") != "Indexed":
        return [invalid("spec.completions", now, IMMUTABLE)]
    if now is None or now == spec.get("parallelism"):
        return []
    return [
        invalid("spec.completions", now, "can only be modified in tandem with spec.parallelism")
    ]


def _generated(job: Object) -> Faults:
    """The labels and the selector that the API server made."""
    spec, metadata = _spec(job), job.get("metadata") or {}
    if spec.get("manualSelector") or spec.get("selector") is None:
        return []
    faults: Faults = []
    if not metadata.get("uid"):
        faults.append(required("metadata.uid"))
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
    path = "spec.template.metadata.labels"
    for label, field in _LABELS:
        wanted = metadata.get(field) or ""
        if label not in labels:
            faults.append(required(at(path, label), f"must be '{wanted}'"))
        elif labels[label] != wanted:
            faults.append(invalid(at(path, label), go_map(labels), f"must be '{wanted}'"))
    expected = {label: metadata.get(field) or "" for label, field in _LABELS}
    selector = spec["selector"]
    usable = not validate_label_selector(selector, "")
    if usable and not from_label_selector(selector).matches(expected):
        detail = "`selector` not auto-generated"
        faults.append(invalid("spec.selector", selector_shown(selector), detail))
    return faults


def _selector(spec: Object) -> Faults:
    selector = spec.get("selector")
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels")
    if selector is None:
        faults = [required("spec.selector")]
    else:
        faults = validate_label_selector(selector, "spec.selector")
        if faults:
            return faults
    if selector is None or not from_label_selector(selector).matches(labels or {}):
        shown = Shown("map[string]string(nil)") if labels is None else go_map(labels)
        detail = "`selector` does not match template `labels`"
        faults.append(invalid("spec.template.metadata.labels", shown, detail))
    return faults


def _job_spec(spec: Object, path: str) -> Faults:
    """All but the selector, of a Job or of the template of one."""
    faults = [
        invalid(child(path, field), spec[field], NOT_NEGATIVE)
        for field in (
            "parallelism",
            "completions",
            "activeDeadlineSeconds",
            "backoffLimit",
            "ttlSecondsAfterFinished",
            "backoffLimitPerIndex",
            "maxFailedIndexes",
        )
        if (spec.get(field) or 0) < 0
    ]
    if spec.get("maxFailedIndexes") is not None and spec.get("backoffLimitPerIndex") is None:
        place = child(path, "backoffLimitPerIndex")
        faults.append(required(place, "when maxFailedIndexes is specified"))
    manager = spec.get("managedBy")
    if manager is not None:
        faults += _managed_by(manager, child(path, "managedBy"))
    faults += _mode(spec, path)
    if spec.get("podFailurePolicy") is not None:
        faults += _failure_policy(spec, child(path, "podFailurePolicy"))
    faults += _success_policy(spec, child(path, "successPolicy"))
    faults += _replacement(spec, child(path, "podReplacementPolicy"))
    faults += validate_template(spec.get("template") or {}, child(path, "template"))
    return faults + _restart_policy(spec, child(path, "template.spec.restartPolicy"))


def _managed_by(manager: str, path: str) -> Faults:
    faults = domain_prefixed_path(path, manager)
    return [*faults, too_long(path, 63)] if len(manager) > 63 else faults


def _mode(spec: Object, path: str) -> Faults:
    mode = spec.get("completionMode")
    faults: Faults = []
    if mode not in (None, "NonIndexed", "Indexed"):
        faults.append(not_supported(child(path, "completionMode"), mode, ("NonIndexed", "Indexed")))
    if mode == "Indexed":
        return _indexed(spec, path)
    if mode in (None, "NonIndexed"):
        for field in ("backoffLimitPerIndex", "maxFailedIndexes"):
            if spec.get(field) is not None:
                detail = "requires indexed completion mode"
                faults.append(invalid(child(path, field), spec[field], detail))
    return faults


def _indexed(spec: Object, path: str) -> Faults:
    completions, parallelism = spec.get("completions"), spec.get("parallelism")
    failed = spec.get("maxFailedIndexes")
    faults: Faults = []
    if completions is None:
        faults.append(required(child(path, "completions"), "when completion mode is Indexed"))
    if (parallelism or 0) > _MOST:
        detail = f"must be less than or equal to {_MOST} when completion mode is Indexed"
        faults.append(invalid(child(path, "parallelism"), parallelism, detail))
    place = child(path, "maxFailedIndexes")
    if completions is not None and failed is not None and failed > completions:
        faults.append(invalid(place, failed, "must be less than or equal to completions"))
    if (failed or 0) > _MOST:
        faults.append(invalid(place, failed, f"must be less than or equal to {_MOST}"))
    if (completions or 0) <= _MOST or spec.get("backoffLimitPerIndex") is None:
        return faults
    if failed is None:
        detail = f"must be specified when completions is above {_MOST}"
        faults.append(required(place, detail))
    for field in ("parallelism", "maxFailedIndexes"):
        if (spec.get(field) or 0) > _MOST_OF_MANY:
            detail = (
                f"must be less than or equal to {_MOST_OF_MANY} when completions are above"
                f" {_MOST} and used with backoff limit per index"
            )
            faults.append(invalid(child(path, field), spec[field], detail))
    return faults


def _replacement(spec: Object, path: str) -> Faults:
    policy = spec.get("podReplacementPolicy")
    both = (
        ("Failed",)
        if spec.get("podFailurePolicy") is not None
        else (
            "Failed",
            "TerminatingOrFailed",
        )
    )
    return [] if policy is None or policy in both else [not_supported(path, policy, both)]


def _restart_policy(spec: Object, path: str) -> Faults:
    policy = ((spec.get("template") or {}).get("spec") or {}).get("restartPolicy") or ""
    if policy in ("", "Always"):
        return [required(path, 'valid values: "OnFailure", "Never"')]
    if policy not in ("OnFailure", "Never"):
        return [not_supported(path, policy, ("OnFailure", "Never"))]
    if spec.get("podFailurePolicy") is not None and policy != "Never":
        return [
            invalid(path, policy, 'only "Never" is supported when podFailurePolicy is specified')
        ]
    return []


def _failure_policy(spec: Object, path: str) -> Faults:
    rules = spec["podFailurePolicy"].get("rules") or ()
    faults = [too_many(child(path, "rules"), len(rules), 20)] if len(rules) > 20 else []
    for index, rule in enumerate(rules):
        faults += _failure_rule(spec, rule, item(child(path, "rules"), index))
    return faults


def _failure_rule(spec: Object, rule: Object, path: str) -> Faults:
    action, place = rule.get("action") or "", child(path, "action")
    faults: Faults = []
    if not action:
        faults.append(required(place, f"valid values: {_list_shown(_ACTIONS)}"))
    elif action == "FailIndex":
        if spec.get("backoffLimitPerIndex") is None:
            detail = "requires the backoffLimitPerIndex to be set"
            faults.append(invalid(place, action, detail))
    elif action not in _ACTIONS:
        faults.append(not_supported(place, action, _ACTIONS))
    codes, conditions = rule.get("onExitCodes"), rule.get("onPodConditions")
    if codes is not None:
        faults += _exit_codes(spec, codes, child(path, "onExitCodes"))
    for index, pattern in enumerate(conditions or ()):
        faults += _pattern(pattern, item(child(path, "onPodConditions"), index))
    if (codes is not None) == bool(conditions):
        word = "both" if conditions else "one of"
        end = "not supported" if conditions else "required"
        detail = f"specifying {word} OnExitCodes and OnPodConditions is {end}"
        faults.append(without_value(path, detail))
    return faults


def _exit_codes(spec: Object, codes: Object, path: str) -> Faults:
    operator, values = codes.get("operator") or "", codes.get("values") or []
    faults: Faults = []
    if not operator:
        detail = f"valid values: {_list_shown(_OPERATORS)}"
        faults.append(required(child(path, "operator"), detail))
    elif operator not in _OPERATORS:
        faults.append(not_supported(child(path, "operator"), operator, _OPERATORS))
    name = codes.get("containerName")
    pod = (spec.get("template") or {}).get("spec") or {}
    containers = [*(pod.get("containers") or ()), *(pod.get("initContainers") or ())]
    if name is not None and name not in {c.get("name") for c in containers}:
        detail = "must be one of the container or initContainer names in the pod template"
        faults.append(invalid(child(path, "containerName"), name, detail))
    place = child(path, "values")
    if not values:
        shown = _numbers_shown(codes.get("values"))
        faults.append(invalid(place, shown, "at least one value is required"))
    elif len(values) > 255:
        faults.append(too_many(place, len(values), 255))
    for index, value in enumerate(values):
        if operator == "In" and value == 0:
            detail = "must not be 0 for the In operator"
            faults.append(invalid(item(place, index), value, detail))
        if value in values[:index]:
            faults.append(duplicate(item(place, index), value))
    if values != sorted(values):
        faults.append(invalid(place, _numbers_shown(values), "must be ordered"))
    return faults


def _numbers_shown(values: Sequence[int] | None) -> Shown:
    inside = "(nil)" if values is None else "{" + ", ".join(map(str, values)) + "}"
    return Shown(f"[]int32{inside}")


def _pattern(pattern: Object, path: str) -> Faults:
    status = pattern.get("status") or ""
    faults = label_key(child(path, "type"), pattern.get("type") or "")
    if not status:
        detail = f"valid values: {_list_shown(_STATUSES)}"
        faults.append(required(child(path, "status"), detail))
    elif status not in _STATUSES:
        faults.append(not_supported(child(path, "status"), status, _STATUSES))
    return faults


def _success_policy(spec: Object, path: str) -> Faults:
    policy = spec.get("successPolicy")
    if policy is None:
        return []
    if spec.get("completionMode") != "Indexed":
        return [invalid(path, Shown("batch.SuccessPolicy"), "requires indexed completion mode")]
    rules, place = policy.get("rules") or (), child(path, "rules")
    faults: Faults = []
    if not rules:
        detail = "at least one rules must be specified when the successPolicy is specified"
        faults.append(required(place, detail))
    if len(rules) > 20:
        faults.append(too_many(place, len(rules), 20))
    completions = spec.get("completions") or 0
    for index, rule in enumerate(rules):
        faults += _success_rule(rule, completions, item(place, index))
    return faults


def _success_rule(rule: Object, completions: int, path: str) -> Faults:
    text, count = rule.get("succeededIndexes"), rule.get("succeededCount")
    faults: Faults = []
    if text is None and count is None:
        detail = "at least one of succeededCount or succeededIndexes must be specified"
        faults.append(required(path, detail))
    total = 0
    if text is not None:
        try:
            total = count_indexes(text, completions)
        except ValueError as error:
            detail = f"error parsing succeededIndexes: {error}"
            faults.append(invalid(child(path, "succeededIndexes"), text, detail))
    if count is None:
        return faults
    place = child(path, "succeededCount")
    if count < 0:
        faults.append(invalid(place, count, NOT_NEGATIVE))
    least = "must be less than or equal to"
    if count > completions:
        detail = f"{least} {completions} (the number of specified completions)"
        faults.append(invalid(place, count, detail))
    if text is not None and count > total:
        where = "indexes in the specified succeededIndexes field"
        faults.append(invalid(place, count, f"{least} {total} (the number of {where})"))
    return faults


def count_indexes(text: str, completions: int) -> int:
    """How many indexes `0-2,5` names. Raises `ValueError`."""
    last, total = -1, 0
    for part in text.split(",") if text else ():
        first, end = _interval(part, completions)
        if last >= first:
            raise ValueError(f"non-increasing order, previous: {last}, current: {first}")
        total, last = total + end - first + 1, end
    return total


def _interval(text: str, completions: int) -> tuple[int, int]:
    parts = text.split("-")
    if len(parts) > 2:
        raise ValueError(
            f'the fragment "{text}" violates the requirement that an index interval can have at'
            " most two parts separated by '-'"
        )
    numbers = [_index(part, completions) for part in parts]
    if len(numbers) == 2 and numbers[0] >= numbers[1]:
        raise ValueError(f"non-increasing order, previous: {numbers[0]}, current: {numbers[1]}")
    return numbers[0], numbers[-1]


def _index(text: str, completions: int) -> int:
    if not text.isdigit():
        raise ValueError(f'cannot convert string to integer for index: "{text}"')
    if int(text) >= completions:
        raise ValueError(f'too large index: "{text}"')
    return int(text)


def validate_cron_job(cron_job: Object) -> Faults:
    name = (cron_job.get("metadata") or {}).get("name") or ""
    faults = _cron_spec(_spec(cron_job), None)
    if len(name) > _LONGEST_CRON_JOB:
        detail = f"must be no more than {_LONGEST_CRON_JOB} characters"
        faults.append(invalid("metadata.name", name, detail))
    return faults


def validate_cron_job_update(cron_job: Object, old: Object) -> Faults:
    return _cron_spec(_spec(cron_job), _spec(old))


def _cron_spec(spec: Object, before: Object | None) -> Faults:
    schedule, zone = spec.get("schedule") or "", spec.get("timeZone")
    faults = _schedule(schedule, zone, before) if schedule else [required("spec.schedule")]
    if (spec.get("startingDeadlineSeconds") or 0) < 0:
        value = spec["startingDeadlineSeconds"]
        faults.append(invalid("spec.startingDeadlineSeconds", value, NOT_NEGATIVE))
    if zone is not None and (before is None or before.get("timeZone") != zone):
        faults += _zone(zone)
    policy = spec.get("concurrencyPolicy") or ""
    policies = ("Allow", "Forbid", "Replace")
    if not policy:
        faults.append(required("spec.concurrencyPolicy"))
    elif policy not in policies:
        faults.append(not_supported("spec.concurrencyPolicy", policy, policies))
    job = (spec.get("jobTemplate") or {}).get("spec") or {}
    path = "spec.jobTemplate.spec"
    faults += _job_spec(job, path)
    if job.get("selector") is not None:
        shown = selector_shown(job["selector"])
        faults.append(invalid(f"{path}.selector", shown, "`selector` will be auto-generated"))
    if job.get("manualSelector"):
        faults.append(not_supported(f"{path}.manualSelector", True, ("nil", "false")))
    for field in ("successfulJobsHistoryLimit", "failedJobsHistoryLimit"):
        if (spec.get(field) or 0) < 0:
            faults.append(invalid(f"spec.{field}", spec[field], NOT_NEGATIVE))
    return faults


def _schedule(schedule: str, zone: str | None, before: Object | None) -> Faults:
    path = "spec.schedule"
    faults: Faults = []
    try:
        schedules.parse(schedule)
    except ValueError as error:
        faults.append(invalid(path, schedule, str(error)))
    if "TZ" not in schedule:
        return faults
    kept = before is not None and "TZ" in (before.get("schedule") or "")
    if not kept:
        detail = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
        faults.append(invalid(path, schedule, detail))
    elif zone is not None:
        detail = "cannot use both timeZone field and TZ or CRON_TZ in schedule"
        faults.append(invalid(path, schedule, detail))
    return faults


def _zone(zone: str) -> Faults:
    path = "spec.timeZone"
    if not zone:
        return [invalid(path, zone, "timeZone must be nil or non-empty string")]
    faults: Faults = []
    if zone.lower() == "local":
        detail = (
            "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"
        )
        faults.append(invalid(path, zone, detail))
    try:
        schedules.time_zone(zone)
    except ValueError as error:
        faults.append(invalid(path, zone, str(error)))
    return faults
