"""Fields of a pod's spec, each checked in a real container."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from meshkube.api import kinds
from tests.lab.host import Host
from tests.node.world import World, container, docker_world, in_host, pod, status_of

pytestmark = [pytest.mark.root, pytest.mark.docker]


def shows(script: str, **more: Any) -> Any:
    """A container that prints, and then waits."""
    return container("c", f"{{ {script}; }} 2>&1; echo done; sleep 1000", **more)


async def printed(world: World, name: str, container: str = "c") -> str:
    await world.until(name, lambda found: "containerID" in status_of(found, container))
    return await world.prints(name, "done", container)


SECCOMP = "grep Seccomp: /proc/self/status"
# Everything but `mkdir`.
PROFILE = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}],
}


def test_what_a_process_may_do(docker_host: Host, tmp_path: Path) -> None:
    def secured(name: str, script: str, **context: Any) -> Any:
        return pod(name, shows(script, securityContext=context))

    async def scenario() -> None:
        async with docker_world(docker_host, tmp_path) as world:
            profiles = world.data / "seccomp/team"
            profiles.mkdir(parents=True)
            (profiles / "no-mkdir.json").write_text(json.dumps(PROFILE))
            local = {"type": "Localhost", "localhostProfile": "team/no-mkdir.json"}
            missing = {"type": "Localhost", "localhostProfile": "nowhere.json"}
            capabilities = {"drop": ["ALL"], "add": ["NET_ADMIN"]}
            pods = [
                secured("default", SECCOMP, seccompProfile={"type": "RuntimeDefault"}),
                secured("free", SECCOMP, seccompProfile={"type": "Unconfined"}),
                secured("local", "mkdir /tmp/x || echo refused", seccompProfile=local),
                secured("missing", "true", seccompProfile=missing),
                secured("caps", "grep CapEff /proc/self/status", capabilities=capabilities),
                secured("meek", "grep NoNewPrivs /proc/self/status",
                        allowPrivilegeEscalation=False),
                pod("mighty", shows("mount -t tmpfs none /tmp && echo mounted",
                                    securityContext={"privileged": True},
                                    readinessProbe={"exec": {"command": ["true"]}})),
            ]  # fmt: skip
            for each in pods:
                await world.create(each)
            assert "Seccomp:\t2" in await printed(world, "default")
            assert "Seccomp:\t0" in await printed(world, "free")
            assert "refused" in await printed(world, "local")
            assert "CapEff:\t0000000000001000" in await printed(world, "caps")
            assert "NoNewPrivs:\t1" in await printed(world, "meek")
            assert "mounted" in await printed(world, "mighty")
            await world.until("mighty", lambda found: status_of(found)["ready"])
            await world.event("missing", "Failed", "cannot load seccomp profile")
            waiting = status_of(await world.pod("missing"))["state"]["waiting"]
            assert waiting["reason"] == "CreateContainerConfigError"

    in_host(docker_host, scenario())


def test_namespaces_names_and_kernel_settings(docker_host: Host, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with docker_world(docker_host, tmp_path) as world:
            shared = [shows("sleep 1; ps"), container("other", "exec sleep 4321")]
            ping = {"name": "net.ipv4.ping_group_range", "value": "0 77"}
            dns = {
                "nameservers": ["192.0.2.53"],
                "searches": ["corp.example"],
                "options": [{"name": "ndots", "value": "2"}, {"name": "rotate"}],
            }
            alias = {"ip": "192.0.2.9", "hostnames": ["far", "far.example"]}
            long = {"subdomain": "s" * 40, "setHostnameAsFQDN": True}
            pods = [
                pod("shared", *shared, shareProcessNamespace=True),
                pod("alone", shows("ps | wc -l")),
                pod("host-pid", shows("ls -d /proc/[0-9]* 2>/dev/null | wc -l"), hostPID=True),
                pod("host-ipc", shows("readlink /proc/self/ns/ipc"), hostIPC=True),
                pod("sysctl", shows("cat /proc/sys/net/ipv4/ping_group_range"),
                    securityContext={"sysctls": [ping]}),
                pod("dns", shows("cat /etc/resolv.conf"), dnsPolicy="None", dnsConfig=dns),
                pod("alias", shows("cat /etc/hosts"), hostAliases=[alias]),
                pod("named", shows("hostname"), hostname="h", subdomain="s"),
                pod("full", shows("hostname"), hostname="h", subdomain="s",
                    setHostnameAsFQDN=True),
                pod("long", shows("hostname"), **long),
            ]  # fmt: skip
            for each in pods:
                await world.create(each)
            assert "sleep 4321" in await printed(world, "shared")
            assert int((await printed(world, "alone")).split()[0]) < 8
            assert int((await printed(world, "host-pid")).split()[0]) > 20
            ours = os.readlink("/proc/self/ns/ipc")
            assert ours in await printed(world, "host-ipc")
            assert "0\t77" in await printed(world, "sysctl")
            assert (await printed(world, "dns")).splitlines()[:3] == [
                "search corp.example",
                "nameserver 192.0.2.53",
                "options ndots:2 rotate",
            ]
            assert "192.0.2.9\tfar\tfar.example" in await printed(world, "alias")
            assert "h\ndone" in await printed(world, "named")
            full = "h.s.default.svc.cluster.local"
            assert f"{full}\ndone" in await printed(world, "full")
            await world.event("long", "FailedCreatePodSandBox", "64 characters is the max")

    in_host(docker_host, scenario())


def test_groups_own_volumes(docker_host: Host, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with docker_world(docker_host, tmp_path) as world:
            script = "touch /v/x; stat -c '%u %g' /v/x; id -G; stat -c '%a' /v"
            mount = [{"name": "v", "mountPath": "/v"}]
            context = {"runAsUser": 1234, "fsGroup": 555, "supplementalGroups": [666]}
            await world.create(
                pod("p", shows(script, volumeMounts=mount), securityContext=context,
                    volumes=[{"name": "v", "emptyDir": {}}])
            )  # fmt: skip
            text = await printed(world, "p")
            assert "1234 555\n" in text
            assert {"555", "666"} <= set(text.splitlines()[1].split())
            assert "2777" in text

    in_host(docker_host, scenario())


def test_last_words(docker_host: Host, tmp_path: Path) -> None:
    def ends(name: str, script: str, **more: Any) -> Any:
        return pod(name, container("c", script, plain=True, **more), restartPolicy="Never")

    async def scenario() -> None:
        async with docker_world(docker_host, tmp_path) as world:
            fallback = {"terminationMessagePolicy": "FallbackToLogsOnError"}
            pods = [
                ends("file", "echo why > /dev/termination-log; exit 3"),
                ends("own", "echo mine > /tmp/last; exit 0", terminationMessagePath="/tmp/last"),
                ends("logs", "echo from the log; exit 1", **fallback),
                ends("both", "echo log; echo file > /dev/termination-log; exit 1", **fallback),
                ends("well", "echo log; exit 0", **fallback),
                ends("plain", "echo log; exit 1"),
            ]
            wanted = ["why\n", "mine\n", "from the log\n", "file\n", None, None]
            for each in pods:
                await world.create(each)
            for each, text in zip(pods, wanted, strict=True):
                name = each["metadata"]["name"]
                found = await world.until(name, lambda pod: "terminated" in status_of(pod)["state"])
                # The end and what was said of it are one piece of news.
                assert status_of(found)["state"]["terminated"].get("message") == text, name

    in_host(docker_host, scenario())


def test_hooks_run_around_a_container(docker_host: Host, tmp_path: Path) -> None:
    def hooked(name: str, script: str, **hooks: Any) -> Any:
        return pod(name, container("c", script, lifecycle=hooks), terminationGracePeriodSeconds=5)

    async def scenario() -> None:
        async with docker_world(docker_host, tmp_path) as world:
            web = "mkdir /tmp/www; echo page > /tmp/www/begun; httpd -f -p 8080 -h /tmp/www"
            command = {"exec": {"command": ["sh", "-c", "echo hooked > /proc/1/fd/1"]}}
            page = {"httpGet": {"path": "/begun", "port": 8080}}
            waits = {"sleep": {"seconds": 1}}
            bad = {"exec": {"command": ["false"]}}
            await world.create(hooked("exec", "sleep 1000", postStart=command))
            await world.create(hooked("http", web, preStop=page))
            await world.create(hooked("sleep", "sleep 1000", postStart=waits, preStop=waits))
            await world.create(hooked("bad", "sleep 1000", postStart=bad))
            await world.running("exec")
            await world.prints("exec", "hooked")
            await world.event("bad", "FailedPostStartHook")
            await world.until("bad", _waits_for_its_hook)
            for name in ("http", "sleep"):
                await world.running(name)
                await world.delete(name)
                await world.gone(name)
                assert await world.events(name, "FailedPreStopHook") == []

    in_host(docker_host, scenario())


def _waits_for_its_hook(pod: Any) -> bool:
    waiting = status_of(pod)["state"].get("waiting") or {}
    return waiting.get("reason") == "PostStartHookError"


def test_a_runtime_class_names_the_engines_runtime(docker_host: Host, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with docker_world(docker_host, tmp_path) as world:
            for name, handler in (("usual", "runc"), ("odd", "no-such-runtime")):
                class_ = {
                    "apiVersion": "node.k8s.io/v1",
                    "kind": "RuntimeClass",
                    "metadata": {"name": name},
                    "handler": handler,
                }
                await world.client.create(kinds.RUNTIME_CLASS, class_)
                await world.create(pod(name, runtimeClassName=name))
            await world.running("usual")
            await world.event("odd", "FailedCreatePodSandBox", "no-such-runtime")

    in_host(docker_host, scenario())


@pytest.mark.parametrize(
    ("spec", "reason", "why"),
    [
        ({"os": {"name": "windows"}}, "PodOSNotSupported", "OS field doesn't match"),
        ({"hostUsers": False}, "UserNamespacesNotSupported", "user namespaces"),
        (
            {"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}},
            "SysctlForbidden",
            'forbidden sysctl: "kernel.msgmax" not allowlisted',
        ),
        (
            {"securityContext": {"supplementalGroupsPolicy": "Strict"}},
            "SupplementalGroupsPolicyNotSupported",
            "Strict is not supported",
        ),
    ],
)
def test_what_docker_cannot_do_is_refused(
    docker_host: Host, tmp_path: Path, spec: dict[str, Any], reason: str, why: str
) -> None:
    async def scenario() -> None:
        async with docker_world(docker_host, tmp_path) as world:
            await world.create(pod("p", **spec))
            found = await world.phase("p", "Failed")
            assert found["status"]["reason"] == reason
            assert why in found["status"]["message"]
            await world.event("p", reason, why)
            assert await world.runtime.list() == []
            await world.delete("p")
            await world.gone("p")

    in_host(docker_host, scenario())
