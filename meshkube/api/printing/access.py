"""Who may do what, who is asked before a write, and which request waits for which."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from meshkube.api import kinds, meta
from meshkube.api.printing.ages import age, human_duration
from meshkube.api.printing.columns import AGE, NAME, NONE, UNKNOWN, UNSET, Column, Printer, wide
from meshkube.api.printing.workloads import selector_cell
from meshkube.api.types import Object

_BINDING = (
    NAME,
    Column("Role", "The role that is given."),
    AGE,
    wide("Users", "Users who have the role."),
    wide("Groups", "Groups whose users have the role."),
    wide("ServiceAccounts", "Service accounts that have the role."),
)


def _binding(binding: Object, now: datetime) -> list[Any]:
    role, named = binding.get("roleRef") or {}, binding.get("subjects") or ()
    accounts = (
        f"{subject.get('namespace') or ''}/{subject.get('name') or ''}"
        for subject in named
        if subject.get("kind") == "ServiceAccount"
    )
    return [
        meta.name(binding),
        f"{role.get('kind') or ''}/{role.get('name') or ''}",
        age(binding, now),
        _names(named, "User"),
        _names(named, "Group"),
        ", ".join(accounts),
    ]


def _names(subjects: Any, kind: str) -> str:
    return ", ".join(each.get("name") or "" for each in subjects if each.get("kind") == kind)


_REQUEST = (
    NAME,
    AGE,
    Column("SignerName", "Who is asked to sign."),
    Column("Requestor", "Who asks."),
    Column("RequestedDuration", "How long the certificate is to be valid."),
    Column("Condition", "Pending, Approved or Denied; Issued where it has been signed."),
)


def _request(request: Object, now: datetime) -> list[Any]:
    spec, seconds = request.get("spec") or {}, (request.get("spec") or {}).get("expirationSeconds")
    return [
        meta.name(request),
        age(request, now),
        spec.get("signerName") or NONE,
        spec.get("username") or "",
        NONE if seconds is None else human_duration(seconds),
        _condition(request.get("status") or {}),
    ]


def _condition(status: Object) -> str:
    held = {condition.get("type") for condition in status.get("conditions") or ()}
    verdict = next((name for name in ("Denied", "Approved") if name in held), "Pending")
    failed = ",Failed" if "Failed" in held else ""
    return verdict + failed + (",Issued" if status.get("certificate") else "")


_WEBHOOKS = (NAME, Column("Webhooks", "How many webhooks there are.", "integer"), AGE)


def _webhooks(configuration: Object, now: datetime) -> list[Any]:
    return [
        meta.name(configuration),
        len(configuration.get("webhooks") or ()),
        age(configuration, now),
    ]


_POLICY = (
    NAME,
    Column("Validations", "How many rules there are.", "integer"),
    Column("ParamKind", "The kind of object that holds the policy's parameters."),
    AGE,
)


def _policy(policy: Object, now: datetime) -> list[Any]:
    spec = policy.get("spec") or {}
    param = spec.get("paramKind")
    return [
        meta.name(policy),
        len(spec.get("validations") or ()),
        f"{param.get('apiVersion') or ''}/{param.get('kind') or ''}" if param else UNSET,
        age(policy, now),
    ]


_POLICY_BINDING = (
    NAME,
    Column("PolicyName", "The policy that is put to use."),
    Column("ParamRef", "The object that holds its parameters."),
    AGE,
)


def _policy_binding(binding: Object, now: datetime) -> list[Any]:
    spec = binding.get("spec") or {}
    return [meta.name(binding), spec.get("policyName") or "", _param(spec), age(binding, now)]


def _param(spec: Object) -> str:
    param = spec.get("paramRef") or {}
    if param.get("name"):
        return f"{param.get('namespace') or '*'}/{param['name']}"
    return selector_cell(param["selector"]) if param.get("selector") is not None else UNSET


_FLOW = (
    NAME,
    Column("PriorityLevel", "The level of its requests."),
    Column("MatchingPrecedence", "Which schema is asked first: the lower number."),
    Column("DistinguisherMethod", "What tells one flow from another."),
    AGE,
    Column("MissingPL", "Whether the level that it names is missing."),
)


def _flow(schema: Object, now: datetime) -> list[Any]:
    spec = schema.get("spec") or {}
    conditions = (schema.get("status") or {}).get("conditions") or ()
    dangling = (held.get("status") for held in conditions if held.get("type") == "Dangling")
    return [
        meta.name(schema),
        (spec.get("priorityLevelConfiguration") or {}).get("name") or "",
        spec.get("matchingPrecedence") or 0,
        (spec.get("distinguisherMethod") or {}).get("type") or NONE,
        age(schema, now),
        next(dangling, None) or "?",
    ]


_LEVEL = (
    NAME,
    Column("Type", "Limited or Exempt."),
    Column("NominalConcurrencyShares", "Its share of the requests that run at once."),
    Column("Queues", "How many queues there are."),
    Column("HandSize", "Among how many queues a flow is spread."),
    Column("QueueLengthLimit", "How many requests may wait in a queue."),
    AGE,
)


def _level(level: Object, now: datetime) -> list[Any]:
    spec = level.get("spec") or {}
    limited = spec.get("limited")
    queuing = ((limited or {}).get("limitResponse") or {}).get("queuing")
    fields = ("queues", "handSize", "queueLengthLimit")
    return [
        meta.name(level),
        spec.get("type") or "",
        NONE if limited is None else limited.get("nominalConcurrencyShares") or 0,
        *(NONE if queuing is None else queuing.get(field) or 0 for field in fields),
        age(level, now),
    ]


_API = (
    NAME,
    Column("Service", "What serves the version; Local: this server."),
    Column("Available", "Whether it does."),
    AGE,
)


def _api(api: Object, now: datetime) -> list[Any]:
    service = (api.get("spec") or {}).get("service")
    where = f"{service.get('namespace')}/{service.get('name')}" if service else "Local"
    conditions = (api.get("status") or {}).get("conditions") or ()
    held: Object = next((one for one in conditions if one.get("type") == "Available"), {})
    shown = held.get("status") or UNKNOWN
    if held and shown != "True":
        shown = f"{shown} ({held.get('reason') or ''})"
    return [meta.name(api), where, shown, age(api, now)]


PRINTERS = {
    kinds.ROLE_BINDING: Printer(_BINDING, _binding),
    kinds.CLUSTER_ROLE_BINDING: Printer(_BINDING, _binding),
    kinds.CERTIFICATE_SIGNING_REQUEST: Printer(_REQUEST, _request),
    kinds.MUTATING_WEBHOOK_CONFIGURATION: Printer(_WEBHOOKS, _webhooks),
    kinds.VALIDATING_WEBHOOK_CONFIGURATION: Printer(_WEBHOOKS, _webhooks),
    kinds.VALIDATING_ADMISSION_POLICY: Printer(_POLICY, _policy),
    kinds.VALIDATING_ADMISSION_POLICY_BINDING: Printer(_POLICY_BINDING, _policy_binding),
    kinds.FLOW_SCHEMA: Printer(_FLOW, _flow),
    kinds.PRIORITY_LEVEL_CONFIGURATION: Printer(_LEVEL, _level),
    kinds.API_SERVICE: Printer(_API, _api),
}
