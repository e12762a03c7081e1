"""IP families of Services: which a Service has, by its policy and those of the cluster.

Pure. Source: Kubernetes document "IPv4/IPv6 dual-stack".
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from meshkube.api import errors, kinds, meta
from meshkube.api.errors import ApiError, FieldError
from meshkube.api.types import Object

SINGLE, PREFER, REQUIRE = "SingleStack", "PreferDualStack", "RequireDualStack"
_OTHER = {"IPv4": "IPv6", "IPv6": "IPv4"}


def family_of(address: str) -> str:
    """`IPv4` or `IPv6`; empty for what is no address."""
    try:
        return f"IPv{ipaddress.ip_address(address).version}"
    except ValueError:
        return ""


def settle(service: Object, cluster: Sequence[str]) -> list[str]:
    """Fills in policy and families, in place, and returns the families. `cluster`: those that the
    cluster has, the first one first. Raises `ApiError` 422."""
    spec = service["spec"]
    addresses = [each for each in spec.get("clusterIPs") or () if each != "None"]
    families = list(spec.get("ipFamilies") or ())
    families += [family_of(each) for each in addresses[len(families) :] if family_of(each)]
    policy = spec.get("ipFamilyPolicy") or (REQUIRE if len(families) > 1 else SINGLE)
    if policy == REQUIRE and len(cluster) < 2:
        why = "this cluster is not configured for dual-stack services"
        raise _refused(service, "spec.ipFamilyPolicy", f'"{policy}": {why}')
    if policy == SINGLE and len(families) > 1:
        shown = ", ".join(f'"{family}"' for family in families)
        why = "may not hold 2 values when `ipFamilyPolicy` is `SingleStack`"
        raise _refused(service, "spec.ipFamilies", f"[{shown}]: {why}")
    for index, family in enumerate(families):
        if family in _OTHER and family not in cluster:
            why = "not configured on this cluster"
            raise _refused(service, f"spec.ipFamilies[{index}]", f'"{family}": {why}')
    families = families or [cluster[0]]
    if policy != SINGLE and len(cluster) > 1 and len(families) == 1:
        families.append(_OTHER[families[0]])
    spec["ipFamilyPolicy"], spec["ipFamilies"] = policy, families
    return families


def follow_policy(new: Object, old: Object) -> None:
    """Of an update, in place: a Service made single-stack lets go of its second family by itself.
    Both are specs."""
    if new.get("ipFamilyPolicy") != SINGLE or old.get("ipFamilyPolicy") in (SINGLE, None):
        return
    for name in ("clusterIPs", "ipFamilies"):
        if new.get(name) and new[name] == old.get(name):
            new[name] = new[name][:1]


def _refused(service: Object, path: str, message: str) -> ApiError:
    fault = FieldError(path, "FieldValueInvalid", f"Invalid value: {message}")
    return errors.invalid("", kinds.SERVICE.kind, meta.name(service), [fault])
