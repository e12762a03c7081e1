"""File paths inside volumes and on hosts."""

from __future__ import annotations

from typing import Final

from meshkube.api.types import Object
from meshkube.api.validation.faults import Faults, child, invalid, required

MODE: Final = "must be a number between 0 and 0777 (octal), both inclusive"


def no_backsteps(path: str, value: str) -> Faults:
    if ".." in value.split("/"):
        return [invalid(path, value, "must not contain '..'")]
    return []


def descending(path: str, value: str) -> Faults:
    """A relative path that stays below where it starts."""
    faults: Faults = []
    if value.startswith("/"):
        faults.append(invalid(path, value, "must be a relative path"))
    return faults + no_backsteps(path, value)


def not_reserved(path: str, value: str) -> Faults:
    """A descending path; names that start with two dots belong to the node agent."""
    faults = descending(path, value)
    if value.startswith("..") and not value.startswith("../"):
        faults.append(invalid(path, value, "must not start with '..'"))
    return faults


def file_mode(path: str, mode: int | None) -> Faults:
    if mode is None or 0 <= mode <= 0o777:
        return []
    return [invalid(path, mode, MODE)]


def key_to_path(entry: Object, path: str) -> Faults:
    """One `items` entry of a configMap or secret volume."""
    faults: Faults = []
    if not entry.get("key"):
        faults.append(required(child(path, "key")))
    where = entry.get("path") or ""
    if not where:
        faults.append(required(child(path, "path")))
    faults += not_reserved(child(path, "path"), where)
    return faults + file_mode(child(path, "mode"), entry.get("mode"))
