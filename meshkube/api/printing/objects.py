"""Namespaces, configuration, accounts, events and leases."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from meshkube.api import kinds, meta
from meshkube.api.printing.ages import age, since
from meshkube.api.printing.columns import AGE, NAME, Column, Printer, wide
from meshkube.api.types import Object


def _namespace(namespace: Object, now: datetime) -> list[Any]:
    phase = (namespace.get("status") or {}).get("phase") or ""
    return [meta.name(namespace), phase, age(namespace, now)]


def _config_map(config_map: Object, now: datetime) -> list[Any]:
    entries = len(config_map.get("data") or ()) + len(config_map.get("binaryData") or ())
    return [meta.name(config_map), entries, age(config_map, now)]


def _secret(secret: Object, now: datetime) -> list[Any]:
    entries = len(secret.get("data") or ())
    return [meta.name(secret), secret.get("type") or "", entries, age(secret, now)]


def _service_account(account: Object, now: datetime) -> list[Any]:
    return [meta.name(account), len(account.get("secrets") or ()), age(account, now)]


def _lease(lease: Object, now: datetime) -> list[Any]:
    holder = (lease.get("spec") or {}).get("holderIdentity") or ""
    return [meta.name(lease), holder, age(lease, now)]


_EVENT = (
    Column("Last Seen", "How long ago this was last seen."),
    Column("Type", "Normal or Warning."),
    Column("Reason", "Why this happened, in one word."),
    Column("Object", "What this is about."),
    wide("Subobject", "Which part of the object this is about."),
    wide("Source", "What reported this."),
    Column("Message", "What happened."),
    wide("First Seen", "How long ago this was first seen."),
    wide("Count", "How often this was seen."),
    Column("Name", "The name of the event.", format="name", priority=1),
)


def _core_event(event: Object, now: datetime) -> list[Any]:
    source = event.get("source") or {}
    return _event(
        event,
        now,
        involved=event.get("involvedObject") or {},
        source=(
            source.get("component") or event.get("reportingComponent") or "",
            source.get("host") or event.get("reportingInstance") or "",
        ),
        seen=(event.get("firstTimestamp"), event.get("lastTimestamp"), event.get("count")),
        message=event.get("message") or "",
    )


def _new_event(event: Object, now: datetime) -> list[Any]:
    """An event of the group events.k8s.io: the same, under newer names."""
    old = event.get("deprecatedSource") or {}
    return _event(
        event,
        now,
        involved=event.get("regarding") or {},
        source=(
            old.get("component") or event.get("reportingController") or "",
            old.get("host") or event.get("reportingInstance") or "",
        ),
        seen=(
            event.get("deprecatedFirstTimestamp"),
            event.get("deprecatedLastTimestamp"),
            event.get("deprecatedCount"),
        ),
        message=event.get("note") or "",
    )


def _event(
    event: Object,
    now: datetime,
    *,
    involved: Object,
    source: tuple[str, str],
    seen: tuple[str | None, str | None, int | None],
    message: str,
) -> list[Any]:
    first_seen = since(seen[0] or event.get("eventTime"), now)
    last_seen = since(seen[1], now) if seen[1] else first_seen
    count = seen[2] or 1
    if (series := event.get("series")) is not None:
        last_seen = since(series.get("lastObservedTime"), now)
        count = series.get("count") or count
    kind = str(involved.get("kind") or "").lower()
    return [
        last_seen,
        event.get("type") or "",
        event.get("reason") or "",
        f"{kind}/{involved['name']}" if involved.get("name") else kind,
        involved.get("fieldPath") or "",
        ", ".join(filter(None, source)),
        message.strip(),
        first_seen,
        count,
        meta.name(event),
    ]


PRINTERS = {
    kinds.NAMESPACE: Printer(
        (NAME, Column("Status", "Active, or Terminating while it is emptied."), AGE), _namespace
    ),
    kinds.CONFIG_MAP: Printer((NAME, Column("Data", "How many entries it has."), AGE), _config_map),
    kinds.SECRET: Printer(
        (
            NAME,
            Column("Type", "What the secret is for."),
            Column("Data", "How many entries it has."),
            AGE,
        ),
        _secret,
    ),
    kinds.SERVICE_ACCOUNT: Printer(
        (NAME, Column("Secrets", "How many secrets it may use."), AGE), _service_account
    ),
    kinds.LEASE: Printer((NAME, Column("Holder", "Who holds the lease."), AGE), _lease),
    kinds.EVENT: Printer(_EVENT, _core_event),
    kinds.EVENTS_EVENT: Printer(_EVENT, _new_event),
}
