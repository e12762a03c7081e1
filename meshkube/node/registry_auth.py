"""Who we are at a registry: credentials out of pull secrets and Docker's own configuration files,
and which of them are meant for an image. Pure.

Source: Kubernetes documentation, "Images": "Interpretation of config.json"
and "Specifying imagePullSecrets on a Pod".
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import orjson

from meshkube.api.types import Object
from meshkube.node.image_names import HUB, ImageName

# What Docker calls its own registry in a configuration file.
_HUB_KEY = "index.docker.io"
_KEYS = {
    "kubernetes.io/dockerconfigjson": ".dockerconfigjson",
    "kubernetes.io/dockercfg": ".dockercfg",
}


@dataclass(frozen=True, slots=True)
class Credential:
    """What is said to a registry; never printed."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    """In place of a password, where the registry gave one."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A credential, and what it is for: `host[:port][/path]`, its host may hold `*`."""

    pattern: str
    credential: Credential


def of_secret(secret: Object) -> list[Entry]:
    """What a pull secret holds; nothing where it is of another type. Raises `ValueError`."""
    key = _KEYS.get(str(secret.get("type") or ""), "")
    data = (secret.get("data") or {}).get(key)
    if not key or data is None:
        return []
    try:
        content = base64.b64decode(data)
    except binascii.Error:
        raise ValueError(f"{key} is not base64") from None
    return of_config(content)


def of_config(content: bytes) -> list[Entry]:
    """What a `config.json` (`{"auths": {…}}`) or the older `.dockercfg` holds. Raises `ValueError`,
    which tells nothing of the content."""
    try:
        config = orjson.loads(content)
    except orjson.JSONDecodeError:
        raise ValueError("not JSON") from None
    if not isinstance(config, dict):
        raise ValueError("not a mapping of registries")
    auths = config.get("auths", {} if _is_config(config) else config)
    if not isinstance(auths, dict):
        raise ValueError("auths is not a mapping of registries")
    found = [(pattern(str(key)), _credential(value)) for key, value in auths.items()]
    return [Entry(where, credential) for where, credential in found if credential is not None]


def _is_config(config: Mapping[str, Any]) -> bool:
    """A config.json of whatever else Docker keeps there, with no registry in it."""
    return any(key in config for key in ("credsStore", "credHelpers", "HttpHeaders", "proxies"))


def _credential(value: Any) -> Credential | None:
    if not isinstance(value, dict):
        return None
    username, password = str(value.get("username") or ""), str(value.get("password") or "")
    if value.get("auth"):
        try:
            both = base64.b64decode(str(value["auth"])).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise ValueError("an auth in it is not base64") from None
        username, _, password = both.partition(":")
        # Some clients end it with a zero byte.
        password = password.rstrip("\0")
    token = str(value.get("identitytoken") or "")
    return Credential(username, password, token) if username or token else None


def pattern(key: str) -> str:
    """A key of `auths` without what says nothing: the scheme, and the API's version as its path."""
    for scheme in ("https://", "http://"):
        key = key.removeprefix(scheme)
    host, slash, path = key.partition("/")
    for version in ("v1", "v2"):
        if path == version or path.startswith(version + "/"):
            path = path[len(version) + 1 :]
    path = path.rstrip("/")
    return f"{host}/{path}" if slash and path else host


def matching(entries: Iterable[Entry], image: ImageName) -> list[Credential]:
    """Those meant for the image, each once: of each registry the longest path first."""
    fitting = [entry for entry in entries if _matches(entry.pattern, image)]
    fitting.sort(key=lambda entry: len(entry.pattern.partition("/")[2]), reverse=True)
    return list(dict.fromkeys(entry.credential for entry in fitting))


def _matches(wanted: str, image: ImageName) -> bool:
    host, _, path = wanted.partition("/")
    hosts = (HUB, _HUB_KEY) if image.registry == HUB else (image.registry,)
    return any(_same_host(host, one) for one in hosts) and image.path.startswith(path)


def _same_host(wanted: str, host: str) -> bool:
    """Label by label: a `*` stands for (a part of) one label, never for a dot. Ports are equal."""
    name, _, port = wanted.partition(":")
    real, _, real_port = host.partition(":")
    labels, found = name.split("."), real.split(".")
    return (
        port == real_port
        and len(labels) == len(found)
        and all(fnmatchcase(have, want) for want, have in zip(labels, found, strict=True))
    )
