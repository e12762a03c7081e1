"""Between the Runtime's terms and the Docker Engine API's: names, labels, bodies. Pure.

Everything an agent must know to adopt a container is in its labels, all under `meshkube.io/`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from meshkube.node.image_names import ImageName
from meshkube.node.registry_auth import Credential
from meshkube.node.runtime import SANDBOX, ContainerSpec, Limits, Mount, PodRef, Record, SandboxSpec

NETWORK = "meshkube"
GATEWAY_IMAGE = "meshkube/gateway:1"
GATEWAY_NAME = "mk_gateway"
BRIDGE = "meshkube0"

PREFIX = "meshkube.io/"
POD_NAME = PREFIX + "pod-name"
POD_NAMESPACE = PREFIX + "pod-namespace"
POD_UID = PREFIX + "pod-uid"
CONTAINER = PREFIX + "container-name"
ATTEMPT = PREFIX + "attempt"
SANDBOX_ID = PREFIX + "sandbox-id"
SPEC_HASH = PREFIX + "spec-hash"
BACKOFF = PREFIX + "backoff-seconds"
GRACE = PREFIX + "grace-period-seconds"
MEMORY_REQUEST = PREFIX + "memory-request"
IMAGE = PREFIX + "image"
GATEWAY = PREFIX + "gateway"
IMAGE_DIGEST = PREFIX + "image-digest"

# Small enough to keep `docker ps` quick, large enough for `kubectl logs --previous`.
LOG_CONFIG = {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}}

# The first Docker Engine API (Docker 28) that blocks routes to unpublished ports.
GATEWAY_MODE_API = (1, 48)

_MTU, _DEFAULT_MTU = "com.docker.network.driver.mtu", 1500


def container_name(pod: PodRef, name: str, attempt: int) -> str:
    """`mk_<container>_<pod>_<namespace>_<uid>`, and `_<attempt>` from the second on."""
    parts = ["mk", name, pod.name, pod.namespace, pod.uid]
    if attempt:
        parts.append(str(attempt))
    return "_".join(parts)


def sandbox_body(spec: SandboxSpec, image: str, lowest_oom_score: int = -1000) -> dict[str, Any]:
    """The request body that creates a sandbox. No score is set below `lowest_oom_score`."""
    host: dict[str, Any] = {
        "NetworkMode": "host" if spec.host_network else NETWORK,
        "IpcMode": "host" if spec.host_ipc else "shareable",
        "OomScoreAdj": max(-998, lowest_oom_score),
        "CpuShares": 2,
        "LogConfig": {"Type": "none"},
        "SecurityOpt": ["no-new-privileges"],
        "RestartPolicy": {"Name": "no"},
    }
    if spec.host_pid:
        host["PidMode"] = "host"
    if spec.handler:
        host["Runtime"] = spec.handler
    if spec.sysctls:
        host["Sysctls"] = dict(spec.sysctls)
    body: dict[str, Any] = {
        "Image": image,
        "Labels": {
            **_pod_labels(spec.pod, SANDBOX, spec.attempt),
            GRACE: str(spec.grace_period),
        },
        "HostConfig": host,
    }
    if not spec.host_network:
        body["Hostname"] = spec.hostname
        bindings: dict[str, list[dict[str, str]]] = {}
        for port in spec.ports:
            inside = f"{port.pod_port}/{port.protocol.lower()}"
            outside = {"HostIp": port.address, "HostPort": str(port.port)}
            bindings.setdefault(inside, []).append(outside)
        body["ExposedPorts"] = {inside: {} for inside in bindings}
        host["PortBindings"] = bindings
    return body


def container_body(spec: ContainerSpec, lowest_oom_score: int = -1000) -> dict[str, Any]:
    """The request body that creates a container in a sandbox."""
    body: dict[str, Any] = {
        "Image": spec.image_id or spec.image,
        "Env": [f"{name}={value}" for name, value in spec.env],
        "Labels": {
            **_pod_labels(spec.pod, spec.name, spec.attempt),
            SANDBOX_ID: spec.sandbox_id,
            SPEC_HASH: spec.spec_hash,
            BACKOFF: f"{spec.backoff:g}",
            GRACE: str(spec.grace_period),
            MEMORY_REQUEST: str(spec.resources.memory_request),
            IMAGE: spec.image,
            **({IMAGE_DIGEST: spec.image_digest} if spec.image_digest else {}),
        },
        "Tty": spec.tty,
        "OpenStdin": spec.stdin,
        "StdinOnce": spec.stdin_once,
        # The pod's own probes say what is healthy.
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": _host_config(spec, lowest_oom_score),
    }
    if spec.command is not None:
        body["Entrypoint"] = list(spec.command)
        # Kubernetes: a command without arguments drops the image's arguments too.
        body["Cmd"] = []
    if spec.args is not None:
        body["Cmd"] = list(spec.args)
    if spec.working_dir:
        body["WorkingDir"] = spec.working_dir
    if spec.security.user:
        body["User"] = spec.security.user
    if spec.stop_signal:
        body["StopSignal"] = spec.stop_signal
    return body


def _host_config(spec: ContainerSpec, lowest_oom_score: int) -> dict[str, Any]:
    joined = f"container:{spec.sandbox_id}"
    limits, security = spec.resources, spec.security
    host: dict[str, Any] = {
        "NetworkMode": "host" if spec.host_network else joined,
        "IpcMode": "host" if spec.host_ipc else joined,
        "Mounts": [
            {
                "Type": "bind",
                "Source": mount.source,
                "Target": mount.target,
                "ReadOnly": mount.read_only,
                **_propagation(mount),
            }
            for mount in spec.mounts
        ],
        "LogConfig": LOG_CONFIG,
        "RestartPolicy": {"Name": "no"},
        "OomScoreAdj": max(limits.oom_score_adj, lowest_oom_score),
        "CpuShares": limits.limits.cpu_shares,
        "Privileged": security.privileged,
        "ReadonlyRootfs": security.read_only_root,
    }
    if spec.handler:
        host["Runtime"] = spec.handler
    if spec.host_pid:
        host["PidMode"] = "host"
    elif spec.share_pid:
        host["PidMode"] = joined
    elif spec.pid_of:
        host["PidMode"] = f"container:{spec.pid_of}"
    if limits.limits.cpu_quota:
        host["CpuQuota"], host["CpuPeriod"] = limits.limits.cpu_quota, limits.cpu_period
    if limits.limits.memory:
        # Equal to the limit: no swap on top of it.
        host["Memory"] = host["MemorySwap"] = limits.limits.memory
    if security.groups:
        host["GroupAdd"] = list(security.groups)
    if security.add_capabilities:
        host["CapAdd"] = list(security.add_capabilities)
    if security.drop_capabilities:
        host["CapDrop"] = list(security.drop_capabilities)
    options = list(security.options)
    if security.no_new_privileges:
        options.append("no-new-privileges")
    if options:
        host["SecurityOpt"] = options
    return host


def limits_body(limits: Limits, period: int) -> dict[str, Any]:
    """The request body that changes what a container may use; what is 0 stays as it is."""
    body: dict[str, Any] = {"CpuShares": limits.cpu_shares}
    if limits.cpu_quota:
        body["CpuQuota"], body["CpuPeriod"] = limits.cpu_quota, period
    if limits.memory:
        body["Memory"] = body["MemorySwap"] = limits.memory
    return body


def _limits(host: Mapping[str, Any]) -> Limits:
    found = (int(host.get(name) or 0) for name in ("CpuShares", "CpuQuota", "Memory"))
    return Limits(*found)


def _propagation(mount: Mount) -> dict[str, Any]:
    """Without a word Docker takes `rprivate`, or `rslave` for what holds its own directory, such
    as `/`; told `rprivate`, it would refuse that."""
    if mount.propagation == "rprivate":
        return {}
    return {"BindOptions": {"Propagation": mount.propagation}}


def _pod_labels(pod: PodRef, name: str, attempt: int) -> dict[str, str]:
    return {
        POD_NAME: pod.name,
        POD_NAMESPACE: pod.namespace,
        POD_UID: pod.uid,
        CONTAINER: name,
        ATTEMPT: str(attempt),
    }


def network_mtu(network: Mapping[str, Any]) -> int:
    """The MTU of a network as Docker describes it."""
    return int((network.get("Options") or {}).get(_MTU) or _DEFAULT_MTU)


def network_body(
    cidrs: Sequence[str],
    api_version: tuple[int, int],
    mtu: int = 0,
    *,
    masquerade: bool = False,
    services: str = "",
) -> dict[str, Any]:
    """The request body that creates the pods' network. `mtu` 0: Docker's own choice. `services`:
    a network that is on its link, too."""
    options = {
        "com.docker.network.bridge.name": BRIDGE,
        # What leaves the cluster is masqueraded by the dataplane, where it has the right; pods see
        # each other's addresses.
        "com.docker.network.bridge.enable_ip_masquerade": str(masquerade).lower(),
    }
    if mtu not in (0, _DEFAULT_MTU):
        options[_MTU] = str(mtu)
    if api_version >= GATEWAY_MODE_API:
        options["com.docker.network.bridge.gateway_mode_ipv4"] = "nat-unprotected"
    return {
        "Name": NETWORK,
        "Driver": "bridge",
        "CheckDuplicate": True,
        "EnableIPv6": any(":" in cidr for cidr in cidrs),
        "IPAM": {"Driver": "default", "Config": [_range(cidr, services) for cidr in cidrs]},
        "Options": options,
        "Labels": {PREFIX + "pod-cidr": ",".join(cidrs)},
    }


def _range(cidr: str, services: str) -> dict[str, str]:
    """Pods' addresses are out of `cidr` either way, and so is the host's."""
    pods = ipaddress.ip_network(cidr)
    if not services or pods.version != ipaddress.ip_network(services).version:
        return {"Subnet": cidr}
    return {
        "Subnet": str(spanning(cidr, services)),
        "IPRange": cidr,
        "Gateway": str(pods[1]),
    }


def spanning(one: str, other: str) -> ipaddress.IPv4Network:
    """The smallest network that holds both."""
    found, held = ipaddress.IPv4Network(one), ipaddress.IPv4Network(other)
    while not held.subnet_of(found):
        found = found.supernet()
    return found


def subnets(network: Mapping[str, Any]) -> list[str]:
    """The addresses of a network, and those that its containers have."""
    found = (network.get("IPAM") or {}).get("Config") or ()
    return [" ".join(filter(None, (item.get("Subnet"), item.get("IPRange")))) for item in found]


def gateway_body(image: str, directory: str, target: str) -> dict[str, Any]:
    """The request body of the gateway's container, which may change its own network and no more.
    `directory` of the host is its `target`."""
    return {
        "Image": image,
        "Labels": {GATEWAY: "services"},
        "HostConfig": {
            "NetworkMode": NETWORK,
            "AutoRemove": True,
            "ReadonlyRootfs": True,
            "CapDrop": ["ALL"],
            "CapAdd": ["NET_ADMIN"],
            "SecurityOpt": ["no-new-privileges"],
            # Its sockets are bound by a process without rights.
            "Sysctls": {"net.ipv4.ip_unprivileged_port_start": "0"},
            "LogConfig": LOG_CONFIG,
            "Mounts": [{"Type": "bind", "Source": directory, "Target": target}],
        },
    }


def record(inspected: Mapping[str, Any]) -> Record | None:
    """What `GET /containers/ID/json` says; None where the container is not ours."""
    labels: Mapping[str, str] = inspected["Config"].get("Labels") or {}
    if POD_UID not in labels or CONTAINER not in labels:
        return None
    state = inspected["State"]
    created = _time(inspected["Created"])
    assert created is not None
    finished = _time(state.get("FinishedAt"))
    status = state_of(state.get("Status"))
    error = str(state.get("Error") or "")
    started = _time(state.get("StartedAt"))
    if status == "created" and error:
        # It was started and could not be: Docker calls that "created" still.
        status, finished, started = "exited", finished or created, started or created
    return Record(
        id=inspected["Id"],
        pod=PodRef(labels.get(POD_NAMESPACE, ""), labels.get(POD_NAME, ""), labels[POD_UID]),
        name=labels[CONTAINER],
        attempt=_number(labels.get(ATTEMPT)),
        state=status,
        created=created,
        started=started,
        finished=finished,
        exit_code=int(state.get("ExitCode") or 0),
        oom_killed=bool(state.get("OOMKilled")),
        error=error,
        image=labels.get(IMAGE, ""),
        image_id=str(inspected.get("Image") or ""),
        image_digest=labels.get(IMAGE_DIGEST, ""),
        spec_hash=labels.get(SPEC_HASH, ""),
        sandbox_id=labels.get(SANDBOX_ID, ""),
        backoff=float(labels.get(BACKOFF) or 0),
        grace_period=_number(labels.get(GRACE), 30),
        address=_address(inspected, "IPAddress"),
        second_address=_address(inspected, "GlobalIPv6Address"),
        limits=_limits(inspected.get("HostConfig") or {}),
        memory_request=_number(labels[MEMORY_REQUEST]) if MEMORY_REQUEST in labels else None,
        pid=int(state.get("Pid") or 0),
        layer=str(((inspected.get("GraphDriver") or {}).get("Data") or {}).get("UpperDir") or ""),
        log_file=str(inspected.get("LogPath") or ""),
    )


def state_of(status: Any) -> Literal["created", "running", "exited"]:
    """A record's state, from Docker's word for it."""
    if status in ("running", "paused", "restarting"):
        return "running"
    return "created" if status == "created" else "exited"


def _address(inspected: Mapping[str, Any], field: str) -> str:
    networks = (inspected.get("NetworkSettings") or {}).get("Networks") or {}
    return str((networks.get(NETWORK) or {}).get(field) or "")


def _number(text: str | None, otherwise: int = 0) -> int:
    return int(text) if text and text.isdigit() else otherwise


# HTTP's answers for a server that is away, as Docker quotes them.
_DOWN = re.compile(r"unexpected (?:HTTP )?status(?: code)?:? (?:.*: )?50[234]\b")
_FRACTION = re.compile(r"\.(\d{1,6})\d*")


def _time(text: Any) -> datetime | None:
    """RFC 3339 with nanoseconds; the zero time is None."""
    if not text or str(text).startswith("0001-"):
        return None
    short = _FRACTION.sub(lambda match: "." + match[1].ljust(6, "0"), str(text))
    return datetime.fromisoformat(short).astimezone(UTC)


def digest_of(name: ImageName | None, digests: Sequence[str]) -> str:
    """Of the digests that an image is known by, the one of the repository that was asked for."""
    for digest in digests:
        repository = digest.partition("@")[0]
        if name is not None and repository in (name.repository, name.short):
            return digest
    return digests[0] if digests else ""


def auth(name: ImageName, credential: Credential) -> dict[str, str]:
    """What Docker is told about who pulls the image."""
    if credential.identity_token:
        return {"identitytoken": credential.identity_token, "serveraddress": name.registry}
    return {
        "username": credential.username,
        "password": credential.password,
        "serveraddress": name.registry,
    }


def is_down(message: str) -> bool:
    """Whether a failed pull says that the registry itself cannot serve now."""
    return _DOWN.search(message) is not None


def normalized(reference: str) -> str:
    """An image's name as Docker takes it: with a tag or digest (`latest` where it names none)."""
    last = reference.rpartition("/")[2]
    if "@" in last or ":" in last:
        return reference
    return reference + ":latest"
