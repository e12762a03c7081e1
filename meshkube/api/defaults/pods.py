"""Defaults of pods and of pod templates, wherever they stand."""

from __future__ import annotations

import re
from typing import Final

from meshkube.api import quantities
from meshkube.api.defaults.aliases import pod_ips, service_account
from meshkube.api.defaults.rules import IfZero, Row, under
from meshkube.api.types import Object

# A reference with no tag and no digest means `:latest`. One that cannot be read has no tag.
_REFERENCE: Final = re.compile(
    r"(?:[\w.:\[\]-]+/)?[a-z0-9]+(?:[._/-]+[a-z0-9]+)*(?::(?P<tag>\w[\w.-]{0,127}))?(?P<digest>@[\w+.:-]+)?",
    re.ASCII,
)


def pull_policy(image: str) -> str:
    """`Always` for an image whose tag is, or by its absence means, `latest`."""
    match = _REFERENCE.fullmatch(image)
    if match is None:
        return "IfNotPresent"
    tag = match["tag"] or ("" if match["digest"] else "latest")
    return "Always" if tag == "latest" else "IfNotPresent"


def _image_pull_policy(container: Object) -> None:
    if not container.get("imagePullPolicy"):
        container["imagePullPolicy"] = pull_policy(container.get("image") or "")


def _image_volume(volume: Object) -> None:
    image = volume.get("image")
    if image is not None and not image.get("pullPolicy"):
        image["pullPolicy"] = pull_policy(image.get("reference") or "")


def _volume_source(volume: Object) -> None:
    """A volume that says nothing but its name is an emptyDir."""
    if not any(value is not None for key, value in volume.items() if key != "name"):
        volume["emptyDir"] = {}


def whole_milli(resources: Object) -> None:
    """Amounts finer than a thousandth are rounded up to one."""
    for name, amount in resources.items():
        text = str(amount)
        if not text.endswith(("n", "u")) and "." not in text and "e" not in text.lower():
            continue
        thousandths = quantities.milli(text)
        if quantities.parse(text) * 1000 != thousandths:
            resources[name] = quantities.canonical(f"{thousandths}m")


def _requests_from_limits(pod: Object) -> None:
    """Only in a pod, not in a template: what is limited and not requested is requested."""
    spec = pod.get("spec") or {}
    for container in [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]:
        resources = container.get("resources") or {}
        if "limits" in resources:
            requests = resources.get("requests")
            resources["requests"] = {**resources["limits"], **(requests or {})}


def _host_ports(pod: Object) -> None:
    """On the host's network a container's port is the host's port."""
    spec = pod.get("spec") or {}
    if spec.get("hostNetwork"):
        for container in [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]:
            for port in container.get("ports") or ():
                if not port.get("hostPort"):
                    port["hostPort"] = port.get("containerPort") or 0


def _grace(spec: Object) -> None:
    """Less than no time to stop is the least time."""
    if (spec.get("terminationGracePeriodSeconds") or 0) < 0:
        spec["terminationGracePeriodSeconds"] = 1


def _handler(path: str) -> list[Row]:
    return [(f"{path}.httpGet.path", "/"), (f"{path}.httpGet.scheme", "HTTP")]


def _probe(path: str) -> list[Row]:
    return [
        (f"{path}.timeoutSeconds", IfZero(1)),
        (f"{path}.periodSeconds", IfZero(10)),
        (f"{path}.successThreshold", IfZero(1)),
        (f"{path}.failureThreshold", IfZero(3)),
        (f"{path}.grpc.service", ""),
        *_handler(path),
    ]


def _container(path: str) -> list[Row]:
    return [
        (path, _image_pull_policy),
        (f"{path}.terminationMessagePath", "/dev/termination-log"),
        (f"{path}.terminationMessagePolicy", "File"),
        (f"{path}.resources", {}),
        (f"{path}.resources.limits", whole_milli),
        (f"{path}.resources.requests", whole_milli),
        (f"{path}.ports[].protocol", "TCP"),
        (f"{path}.env[].valueFrom.fieldRef.apiVersion", "v1"),
        (f"{path}.env[].valueFrom.resourceFieldRef.divisor", "0"),
        *_probe(f"{path}.livenessProbe"),
        *_probe(f"{path}.readinessProbe"),
        *_probe(f"{path}.startupProbe"),
        *_handler(f"{path}.lifecycle.postStart"),
        *_handler(f"{path}.lifecycle.preStop"),
    ]


_MODE: Final = 0o644

_VOLUMES: Final[list[Row]] = [
    ("volumes[]", _volume_source),
    ("volumes[]", _image_volume),
    ("volumes[].hostPath.type", ""),
    ("volumes[].secret.defaultMode", _MODE),
    ("volumes[].configMap.defaultMode", _MODE),
    ("volumes[].downwardAPI.defaultMode", _MODE),
    ("volumes[].downwardAPI.items[].fieldRef.apiVersion", "v1"),
    ("volumes[].downwardAPI.items[].resourceFieldRef.divisor", "0"),
    ("volumes[].projected.defaultMode", _MODE),
    ("volumes[].projected.sources[].downwardAPI.items[].fieldRef.apiVersion", "v1"),
    ("volumes[].projected.sources[].downwardAPI.items[].resourceFieldRef.divisor", "0"),
    ("volumes[].projected.sources[].serviceAccountToken.expirationSeconds", 3600),
    ("volumes[].iscsi.iscsiInterface", "default"),
    ("volumes[].rbd.pool", "rbd"),
    ("volumes[].rbd.user", "admin"),
    ("volumes[].rbd.keyring", "/etc/ceph/keyring"),
    ("volumes[].azureDisk.cachingMode", "ReadWrite"),
    ("volumes[].azureDisk.fsType", "ext4"),
    ("volumes[].azureDisk.readOnly", False),
    ("volumes[].azureDisk.kind", "Shared"),
    ("volumes[].scaleIO.storageMode", "ThinProvisioned"),
    ("volumes[].scaleIO.fsType", "xfs"),
    ("volumes[].ephemeral.volumeClaimTemplate.spec.volumeMode", "Filesystem"),
]

POD_SPEC: Final[list[Row]] = [
    ("", service_account),
    ("", _grace),
    ("dnsPolicy", "ClusterFirst"),
    ("restartPolicy", "Always"),
    ("securityContext", {}),
    ("terminationGracePeriodSeconds", 30),
    ("schedulerName", "default-scheduler"),
    *_VOLUMES,
    *_container("initContainers[]"),
    *_container("containers[]"),
    *_container("ephemeralContainers[]"),
    ("overhead", whole_milli),
]

POD_TEMPLATE: Final[list[Row]] = [
    ("metadata", {}),
    ("spec", {}),
    *under("spec", POD_SPEC),
]

POD: Final[list[Row]] = [
    ("", _requests_from_limits),
    ("", _host_ports),
    ("spec", {}),
    ("spec.enableServiceLinks", True),
    *under("spec", POD_SPEC),
    ("status", pod_ips),
]
