"""Ingresses that are not ours: whose they are, for those who wonder why nothing answers. Pure."""

from __future__ import annotations

from meshkube.api import meta
from meshkube.api.types import Object
from meshkube.ingress.rules import CLASS_ANNOTATION, normal_host


class Strangers:
    """Who else has a rule for a host."""

    def __init__(self) -> None:
        self._hosts: dict[str, tuple[str, ...]] = {}
        self._words: dict[str, dict[str, str]] = {}
        """By host and Ingress."""

    def set(self, key: str, ingress: Object | None) -> None:
        """An Ingress that is not ours, as it is now; None: it is gone, or ours."""
        for host in self._hosts.pop(key, ()):
            del self._words[host][key]
            if not self._words[host]:
                del self._words[host]
        if ingress is None:
            return
        rules = (ingress.get("spec") or {}).get("rules") or ()
        hosts = tuple({normal_host(str(rule.get("host") or "")) for rule in rules})
        self._hosts[key] = hosts
        for host in hosts:
            self._words.setdefault(host, {})[key] = _whose(ingress)

    def words(self, host: str) -> str:
        """What is to say of a host that no rule of ours matches; empty where there is nothing."""
        wildcard = f"*.{host.partition('.')[2]}"
        for name in (host, wildcard, ""):
            for key, whose in self._words.get(name, {}).items():
                return f"Ingress {key} has one, and {whose}"
        return ""


def _whose(ingress: Object) -> str:
    spec_class = (ingress.get("spec") or {}).get("ingressClassName")
    name = spec_class or meta.annotations(ingress).get(CLASS_ANNOTATION)
    return f"is of class {name}, which is not served here" if name else "names no class"
