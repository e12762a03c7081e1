"""Fields that say the same as others: Kubernetes keeps both, and makes them agree."""

from __future__ import annotations

import base64

from meshkube.api.types import Object


def string_data(secret: Object) -> None:
    """`stringData` is only written: it becomes part of `data`."""
    text = secret.pop("stringData", None)
    if text:
        data = secret.get("data")
        secret["data"] = data = {} if data is None else data
        for key, value in text.items():
            data[key] = base64.b64encode(value.encode()).decode()


def service_account(spec: Object) -> None:
    """The old name `serviceAccount` of a pod's `serviceAccountName`."""
    name = spec.get("serviceAccountName") or spec.get("serviceAccount")
    if name:
        spec["serviceAccountName"] = spec["serviceAccount"] = name


def pod_ips(status: Object) -> None:
    """`podIP` is the first of `podIPs`."""
    first, all_ = status.get("podIP"), status.get("podIPs")
    if first and (not all_ or all_[0].get("ip") != first):
        status["podIPs"] = [{"ip": first}]
    elif all_ and not first:
        status["podIP"] = all_[0].get("ip")


def pod_cidrs(spec: Object) -> None:
    """`podCIDR` is the first of `podCIDRs`."""
    first, all_ = spec.get("podCIDR"), spec.get("podCIDRs")
    if first and (not all_ or all_[0] != first):
        spec["podCIDRs"] = [first]
    elif all_ and not first:
        spec["podCIDR"] = all_[0]
