"""Answers as bytes: lists joined from what is encoded already, tables, metadata alone. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import orjson

from meshkube.api.kinds import Kind
from meshkube.api.printing import Include, table
from meshkube.api.types import Object
from meshkube.control.apiserver.cache import Cached, Notice, chunk
from meshkube.control.apiserver.encoding import type_of_item
from meshkube.control.apiserver.negotiation import Accepted
from meshkube.control.apiserver.reading import Listing

INITIAL_END = "k8s.io/initial-events-end"


def list_metadata(listing: Listing) -> Object:
    metadata: Object = {}
    if listing.revision:
        metadata["resourceVersion"] = str(listing.revision)
    if listing.continue_token:
        metadata["continue"] = listing.continue_token
    if listing.remaining:
        metadata["remainingItemCount"] = listing.remaining
    return metadata


def list_parts(kind: Kind, listing: Listing) -> list[bytes | memoryview]:
    """The list as parts to be joined, or sent one after the other; the objects' own bytes.

    As from kube-apiserver, items of built-in kinds leave out the type that the list's kind says.
    """
    head = b'{"kind":"%b","apiVersion":"%b","metadata":%b,"items":[' % (
        kind.list_kind.encode(),
        kind.api_version.encode(),
        orjson.dumps(list_metadata(listing)),
    )
    parts: list[bytes | memoryview] = [head]
    type_ = b"" if kind.definition else type_of_item(kind)
    for item in listing.items:
        raw = item.raw
        if type_ and raw.startswith(type_):
            parts += (b"{", memoryview(raw)[len(type_) :], b",")
        else:
            parts += (raw, b",")
    if listing.items:
        parts.pop()
    return [*parts, b"]}\n"]


def metadata_of(item: Cached, version: str) -> Object:
    """PartialObjectMetadata."""
    return {
        "kind": "PartialObjectMetadata",
        "apiVersion": f"meta.k8s.io/{version}",
        "metadata": item.metadata,
    }


def metadata_list(listing: Listing, version: str) -> Object:
    """PartialObjectMetadataList, without its items."""
    return {
        "kind": "PartialObjectMetadataList",
        "apiVersion": f"meta.k8s.io/{version}",
        "metadata": list_metadata(listing),
    }


def bookmark(kind: Kind, revision: int, initial_end: bool = False) -> bytes:
    """One line of a watch stream that only says how far the watcher has come."""
    metadata: Object = {"resourceVersion": str(revision), "creationTimestamp": None}
    if initial_end:
        metadata["annotations"] = {INITIAL_END: "true"}
    obj = {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": metadata}
    return orjson.dumps({"type": "BOOKMARK", "object": obj}) + b"\n"


def table_bookmark(revision: int, version: str, initial_end: bool = False) -> bytes:
    api_version = f"meta.k8s.io/{version}"
    metadata: Object = {"resourceVersion": str(revision)}
    if initial_end:
        metadata["annotations"] = {INITIAL_END: "true"}
    about = {"kind": "PartialObjectMetadata", "apiVersion": api_version, "metadata": metadata}
    obj = {
        "kind": "Table",
        "apiVersion": api_version,
        "metadata": {"resourceVersion": str(revision)},
        "columnDefinitions": None,
        "rows": [{"cells": [], "object": about}],
    }
    return orjson.dumps({"type": "BOOKMARK", "object": obj}) + b"\n"


class Lines:
    """Turns notices into the lines of one watch stream, in the form the client asked for, each a
    chunk of HTTP/1.1."""

    def __init__(self, kind: Kind, accepted: Accepted, include: Include) -> None:
        self._kind = kind
        self._accepted = accepted
        self._include = include
        self._first = True

    def of(self, notices: Sequence[Notice], now: datetime) -> bytes:
        if self._accepted.form == "object":
            if len(notices) == 1:
                return notices[0].chunk
            return b"".join([notice.chunk for notice in notices])
        return b"".join([chunk(self._line(notice, now)) for notice in notices])

    def _line(self, notice: Notice, now: datetime) -> bytes:
        version = self._accepted.version
        obj: Object
        if self._accepted.form == "metadata":
            obj = metadata_of(notice.cached, version)
        else:
            # Clients keep the columns of the first event.
            obj = table(
                self._kind,
                [notice.cached.object],
                now,
                include_object=self._include,
                headers=self._first,
                metadata={"resourceVersion": str(notice.cached.revision)},
                version=version,
            )
            self._first = False
        return orjson.dumps({"type": notice.type, "object": obj}) + b"\n"

    def bookmark(self, revision: int, initial_end: bool = False) -> bytes:
        if self._accepted.form == "table":
            return chunk(table_bookmark(revision, self._accepted.version, initial_end))
        return chunk(bookmark(self._kind, revision, initial_end))
