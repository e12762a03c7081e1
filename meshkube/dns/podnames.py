"""Names of pods by their address: `10-42-0-5.default.pod.cluster.local`. Pure.

Nothing is kept for each pod: the answer is in the name. Source: Kubernetes documentation, "DNS for
Services and Pods"; the modes are those of CoreDNS.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Container

from meshkube.dns import names
from meshkube.dns.records import AAAA, A
from meshkube.dns.settings import PodMode


class PodNames:
    """What exists below `pod.<domain>`."""

    def __init__(self, domain: str) -> None:
        self.apex = names.encode(f"pod.{domain}")
        self.mode: PodMode = "insecure"
        """`insecure` believes every address in a namespace that exists; `verified` only those in
        `addresses`; `disabled` has no names."""
        self.namespaces: Container[str] | None = None
        """None while they are not known: then each is taken to exist."""
        self.addresses: Container[tuple[str, str]] = ()
        """(namespace, address) of each pod: what `verified` goes by."""

    def find(self, name: bytes) -> dict[int, list[bytes]] | None:
        """The records at a name in wire form: empty where it only exists, None where it does
        not."""
        if self.mode == "disabled" or not names.within(name, self.apex):
            return None
        if name == self.apex:
            return {}
        labels = names.decode(name[: -len(self.apex)] + b"\0").split(".")
        *host, namespace = labels
        if len(host) > 1 or (self.namespaces is not None and namespace not in self.namespaces):
            return None
        if not host:
            return {}
        return self._pod(namespace, host[0])

    def _pod(self, namespace: str, label: str) -> dict[int, list[bytes]] | None:
        address = label.replace("-", "." if label.count("-") == 3 and "--" not in label else ":")
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return None
        if self.mode == "verified" and (namespace, str(parsed)) not in self.addresses:
            return None
        return {A if parsed.version == 4 else AAAA: [parsed.packed]}
