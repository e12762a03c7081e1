"""The parts of an image's name. Pure. Source: the reference grammar of the OCI distribution
specification and of Docker, which also says what a name without a registry means."""

from __future__ import annotations

import re
from dataclasses import dataclass

HUB = "docker.io"
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?")
_PATH = re.compile(rf"{_PART}(?:/{_PART})*")
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}")
_ID = re.compile(r"[0-9a-f]{64}")
LONGEST = 255


@dataclass(frozen=True, slots=True)
class ImageName:
    """`registry/path:tag@digest`, with the registry and path that a short name stands for."""

    registry: str
    """Host, and port where one is named: `docker.io`, `registry.example:5000`."""
    path: str
    tag: str
    digest: str

    @property
    def repository(self) -> str:
        return f"{self.registry}/{self.path}"

    @property
    def short(self) -> str:
        """The repository as Docker writes it: what is its own bears no registry."""
        if self.registry != HUB:
            return self.repository
        return self.path.removeprefix("library/")

    @property
    def full(self) -> str:
        """With all that was left out; `latest` where it names neither tag nor digest."""
        if self.digest:
            return f"{self.repository}@{self.digest}"
        return f"{self.repository}:{self.tag or 'latest'}"


def parse(reference: str) -> ImageName:
    """Raises `ValueError` for what is no image's name."""
    rest, at, digest = reference.partition("@")
    if at and not _DIGEST.fullmatch(digest):
        raise ValueError("invalid reference format")
    rest, tag = _tag(rest)
    registry, path = _registry(rest)
    if path != path.lower():
        raise ValueError("repository name must be lowercase")
    if not (_HOST.fullmatch(registry) and _PATH.fullmatch(path)) or _ID.fullmatch(rest):
        raise ValueError("invalid reference format")
    if len(path) > LONGEST:
        raise ValueError(f"repository name must not be more than {LONGEST} characters")
    return ImageName(registry, path, tag, digest)


def _tag(text: str) -> tuple[str, str]:
    name, colon, tag = text.rpartition(":")
    if not colon or "/" in tag:
        # The colon of a port.
        return text, ""
    if not _TAG.fullmatch(tag):
        raise ValueError("invalid reference format")
    return name, tag


def _registry(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    names_host = "." in first or ":" in first or first == "localhost" or first != first.lower()
    if slash and names_host:
        if first in ("index.docker.io", HUB):
            return HUB, rest if "/" in rest else f"library/{rest}"
        return first, rest
    return HUB, name if slash else f"library/{name}"
