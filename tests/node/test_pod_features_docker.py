"""What a pod's spec can ask for, on a real Docker Engine."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from meshkube.api import kinds
from meshkube.api.types import Object
from tests.lab.host import Host
from tests.node.world import (
    DNS,
    World,
    condition,
    container,
    docker_world,
    eventually,
    in_host,
    pod,
    status_of,
)

pytestmark = [pytest.mark.root, pytest.mark.docker]


async def config(world: World, kind: str, name: str, data: dict[str, str]) -> Object:
    field = "data" if kind == "ConfigMap" else "stringData"
    row = kinds.CONFIG_MAP if kind == "ConfigMap" else kinds.SECRET
    metadata = {"name": name, "namespace": "default"}
    obj = {"apiVersion": "v1", "kind": kind, "metadata": metadata, field: data}
    return await world.client.create(row, obj)


def test_environment_and_volumes_come_from_the_api(docker_host: Host, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with docker_world(docker_host, tmp_path) as world:
            await config(world, "ConfigMap", "settings", {"color": "red", "size": "9"})
            await config(world, "Secret", "keys", {"token": "s3cret"})
            script = "env; cat /cfg/color; ls -l /sec/; stat -c %a /sec/..data/t; sleep 1000"
            env = [
                {"name": "A", "value": "one"},
                {"name": "B", "value": "$(A)-$(POD)-$$(A)"},
                {"name": "LATER", "value": "$(POD)"},
                {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                {
                    "name": "C",
                    "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "color"}},
                },
                {"name": "T", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "token"}}},
                {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
                {
                    "name": "NONE",
                    "valueFrom": {
                        "configMapKeyRef": {"name": "absent", "key": "k", "optional": True}
                    },
                },
            ]
            mounts = [
                {"name": "cfg", "mountPath": "/cfg"},
                {"name": "sec", "mountPath": "/sec"},
                {"name": "mem", "mountPath": "/mem"},
                {"name": "disk", "mountPath": "/disk", "subPath": "deep/er"},
                {"name": "info", "mountPath": "/info"},
            ]
            keys = {"secretName": "keys", "items": [{"key": "token", "path": "t", "mode": 0o400}]}
            labels = {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}
            await world.create(
                pod(
                    "a",
                    container(
                        "c",
                        script,
                        env=env,
                        envFrom=[{"prefix": "X_", "configMapRef": {"name": "settings"}}],
                        volumeMounts=mounts,
                        resources={"limits": {"cpu": "500m", "memory": "64Mi"}},
                    ),
                    metadata={"labels": {"app": "web"}},
                    volumes=[
                        {"name": "cfg", "configMap": {"name": "settings"}},
                        {"name": "sec", "secret": keys},
                        {"name": "mem", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
                        {"name": "disk", "emptyDir": {}},
                        {"name": "info", "downwardAPI": {"items": [labels]}},
                    ],
                )
            )
            found = await world.running("a")
            assert found["status"]["qosClass"] == "Guaranteed"
            text = await world.prints("a", "400")
            address = found["status"]["podIP"]
            expected = (
                *("A=one", "B=one-$(POD)-$(A)", "LATER=$(POD)", "POD=a", f"IP={address}"),
                *("C=red", "T=s3cret", "CPU=1", "X_color=red", "X_size=9", "HOSTNAME=a"),
                "KUBERNETES_SERVICE_PORT=443",
            )
            for line in expected:
                assert line in text.splitlines(), (line, text)
            assert "NONE=" not in text
            assert await command(world, "cat", "/info/labels") == 'app="web"'
            assert "tmpfs" in await command(world, "sh", "-c", "mount | grep ' /mem '")
            assert f"nameserver {DNS}" in await command(world, "cat", "/etc/resolv.conf")
            engine = docker_host.docker(
                "inspect", "-f", "{{.HostConfig.Memory}} {{.HostConfig.CpuQuota}}",
                status_of(found)["containerID"].partition("://")[2],
            ).stdout.split()  # fmt: skip
            assert engine == [str(64 * 2**20), "50000"]
            await world.client.patch(
                kinds.CONFIG_MAP, "settings", {"data": {"color": "blue"}}, "default"
            )

            async def updated() -> bool:
                return await command(world, "cat", "/cfg/color") == "blue"

            await eventually(updated, what="the volume follows the ConfigMap")
            await world.delete("a")
            await world.gone("a")
            mounted = docker_host.run("cat", "/proc/mounts").stdout
            assert str(world.data) not in mounted

    in_host(docker_host, scenario())


async def command(world: World, *words: str, name: str = "a", container: str = "c") -> str:
    id = status_of(await world.pod(name), container)["containerID"].partition("://")[2]
    process = await world.runtime.exec(id, words)
    pieces = []
    while (piece := await process.read()) is not None:
        pieces.append(piece.data)
    await process.close()
    return b"".join(pieces).decode().strip()


def test_a_missing_reference_is_told_and_waited_for(docker_host: Host, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with docker_world(docker_host, tmp_path) as world:
            env = [
                {"name": "C", "valueFrom": {"configMapKeyRef": {"name": "late", "key": "color"}}}
            ]
            await world.create(pod("a", container("c", env=env)))

            def waits(found: Object) -> bool:
                if not found["status"].get("containerStatuses"):
                    return False
                waiting = status_of(found)["state"].get("waiting", {})
                return waiting.get("reason") == "CreateContainerConfigError"

            found = await world.until("a", waits)
            assert status_of(found)["state"]["waiting"]["message"] == 'configmap "late" not found'
            assert found["status"]["phase"] == "Pending"
            await world.event("a", "Failed", 'Error: configmap "late" not found')
            await config(world, "ConfigMap", "late", {"color": "green"})
            await world.running("a", timeout=8)

            volume = {"name": "v", "secret": {"secretName": "later"}}
            await world.create(pod("b", container("c"), volumes=[volume]))
            await world.event("b", "FailedMount", 'volume "v" : secret "later" not found')
            await config(world, "Secret", "later", {"k": "v"})
            await world.running("b", timeout=8)

    in_host(docker_host, scenario())


def test_init_containers_run_first_and_in_order(docker_host: Host, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with docker_world(docker_host, tmp_path) as world:
            mount = [{"name": "w", "mountPath": "/w"}]
            say = "echo {} >> /w/log"
            await world.create(
                pod(
                    "a",
                    container("c", "cat /w/log; sleep 1000", volumeMounts=mount),
                    initContainers=[
                        container("i1", say.format("i1"), plain=True, volumeMounts=mount),
                        container(
                            "side", "echo side >> /w/log; sleep 1000",
                            volumeMounts=mount, restartPolicy="Always",
                        ),
                        container("i2", say.format("i2"), plain=True, volumeMounts=mount),
                    ],
                    volumes=[{"name": "w", "emptyDir": {}}],
                )
            )  # fmt: skip
            found = await world.running("a")
            text = await world.prints("a", "i2")
            assert text.split()[0] == "i1"
            assert set(text.split()) == {"i1", "side", "i2"}
            assert status_of(found, "i1")["state"]["terminated"]["reason"] == "Completed"
            assert "running" in status_of(found, "side")["state"]
            assert condition(found, "Initialized") == "True"

    in_host(docker_host, scenario())


def test_pods_that_end_get_their_phase(docker_host: Host, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with docker_world(docker_host, tmp_path) as world:
            good = container("c", "echo done > /dev/termination-log", plain=True)
            bad = container("c", "exit 3", plain=True)
            failing = container("i", "exit 4", plain=True)
            await world.create(pod("good", good, restartPolicy="Never"))
            await world.create(pod("bad", bad, restartPolicy="Never"))
            await world.create(pod("init", good, restartPolicy="Never", initContainers=[failing]))
            await world.create(pod("again", bad, restartPolicy="OnFailure"))
            found = await world.phase("good", "Succeeded")
            ended = status_of(found)["state"]["terminated"]
            assert (ended["exitCode"], ended["message"]) == (0, "done\n")
            found = await world.phase("bad", "Failed")
            assert status_of(found)["state"]["terminated"]["exitCode"] == 3
            found = await world.phase("init", "Failed")
            assert status_of(found)["state"]["waiting"]["reason"] == "PodInitializing"
            await world.until("again", lambda p: status_of(p)["restartCount"] == 1)
            await world.stop_agent()
            await world.start_agent(docker_host.address)
            await asyncio.sleep(0.5)
            assert (await world.pod("good"))["status"]["phase"] == "Succeeded"
            assert status_of(await world.pod("bad"))["restartCount"] == 0

    in_host(docker_host, scenario())


def test_probes_decide(docker_host: Host, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with docker_world(docker_host, tmp_path) as world:
            quick = {"periodSeconds": 1, "failureThreshold": 1}
            web = container(
                "c",
                "mkdir -p /www; echo ok > /www/health; httpd -f -p 8080 -h /www",
                ports=[{"name": "web", "containerPort": 8080}],
                startupProbe={
                    "tcpSocket": {"port": 8080}, "periodSeconds": 1, "failureThreshold": 30
                },
                readinessProbe={"httpGet": {"path": "/health", "port": "web"}, **quick},
                livenessProbe={"exec": {"command": ["sh", "-c", "test ! -e /tmp/sick"]}, **quick},
            )  # fmt: skip
            hangs = container(
                "c", readinessProbe={"exec": {"command": ["sleep", "77"]}, "timeoutSeconds": 1}
            )
            await world.create(pod("a", web))
            await world.create(pod("hangs", hangs))
            await world.running("a")
            await command(world, "rm", "/www/health")
            await world.until("a", lambda p: condition(p, "Ready") == "False")
            await world.event("a", "Unhealthy", "Readiness probe failed: HTTP probe failed with"
                                                " statuscode: 404")  # fmt: skip
            await command(world, "touch", "/tmp/sick")
            await world.until("a", lambda p: status_of(p)["restartCount"] == 1)
            await world.event(
                "a", "Killing", "Container c failed liveness probe, will be restarted"
            )
            await world.running("a")
            await world.event("hangs", "Unhealthy", "timed out")
            await asyncio.sleep(0.3)
            found = docker_host.run("ps", "-eo", "args").stdout
            assert "sleep 77" not in found

    in_host(docker_host, scenario())


def test_a_pod_that_ends_still_says_whether_it_is_ready(docker_host: Host, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with docker_world(docker_host, tmp_path) as world:
            script = "trap '' TERM; touch /ready; while true; do sleep 1; done"
            ready = {"exec": {"command": ["sh", "-c", "test -e /ready"]}}
            quick = {"periodSeconds": 1, "failureThreshold": 1, "timeoutSeconds": 20}
            ends = container("c", script, plain=True, readinessProbe={**ready, **quick})
            await world.create(pod("a", ends, terminationGracePeriodSeconds=600))
            await world.until("a", lambda p: condition(p, "Ready") == "True", timeout=60)
            await world.delete("a")
            await world.event("a", "Killing", "Stopping container c")
            assert condition(await world.pod("a"), "Ready") == "True"
            await command(world, "rm", "/ready")
            await world.until("a", lambda p: condition(p, "Ready") == "False")
            await world.delete("a", grace=1)
            await world.gone("a")

    in_host(docker_host, scenario(), timeout=150)


def test_pre_stop_runs_and_grace_can_be_cut_short(docker_host: Host, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with docker_world(docker_host, tmp_path) as world:
            out = tmp_path / "out"
            hook = {"preStop": {"exec": {"command": ["sh", "-c", "echo stopped > /out/a"]}}}
            mount = [{"name": "o", "mountPath": "/out"}]
            volumes = [{"name": "o", "hostPath": {"path": str(out), "type": "DirectoryOrCreate"}}]
            stubborn = container("c", "trap '' TERM; while true; do sleep 1; done", plain=True)
            await world.create(
                pod("a", container("c", lifecycle=hook, volumeMounts=mount), volumes=volumes)
            )
            await world.create(pod("b", stubborn, terminationGracePeriodSeconds=600))
            await world.running("a")
            await world.running("b")
            await world.delete("a")
            await world.gone("a")
            assert (out / "a").read_text() == "stopped\n"
            await world.delete("b")
            await asyncio.sleep(0.5)
            await world.delete("b", grace=1)
            await world.gone("b", timeout=10)

    in_host(docker_host, scenario())


def test_images_that_cannot_be_had(docker_host: Host, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with docker_world(docker_host, tmp_path) as world:
            absent = {"name": "c", "image": "127.0.0.1:9/no/such:1"}
            await world.create(pod("never", {**absent, "imagePullPolicy": "Never"}))
            await world.create(pod("pull", absent))
            await world.create(pod("always", container("c", imagePullPolicy="Always")))
            await world.create(pod("cmd", {**container("c"), "command": ["/no/such"]}))

            def waits(reason: str):  # type: ignore[no-untyped-def]
                def check(found: Object) -> bool:
                    statuses = found["status"].get("containerStatuses")
                    waiting = statuses and statuses[0]["state"].get("waiting", {})
                    return bool(waiting) and waiting.get("reason") == reason

                return check

            await world.until("pull", waits("ErrImagePull"))
            await world.until("never", waits("ErrImageNeverPull"))
            await world.until("pull", waits("ImagePullBackOff"))
            await world.event("pull", "Failed", "Error: ErrImagePull")
            await world.event("pull", "BackOff", 'Back-off pulling image "127.0.0.1:9/no/such:1"')
            found = await world.until("cmd", waits("CrashLoopBackOff"))
            last = status_of(found)["lastState"]["terminated"]
            assert last["reason"] == "ContainerCannotRun"
            assert "no such file" in last["message"]
            await world.delete("pull")
            await world.gone("pull")

    in_host(docker_host, scenario())


def test_host_network_and_security(docker_host: Host, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with docker_world(docker_host, tmp_path) as world:
            await world.create(pod("a", container("c"), hostNetwork=True))
            port = {"containerPort": 8080, "hostPort": 18080}
            await world.create(
                pod("port", container("c", "echo hi | nc -l -p 8080; sleep 9", ports=[port]))
            )
            await world.create(
                pod(
                    "b",
                    container(
                        "c",
                        "id; touch /x; sleep 1000",
                        securityContext={"readOnlyRootFilesystem": True, "runAsUser": 1234},
                    ),
                    securityContext={"runAsGroup": 77, "supplementalGroups": [88]},
                    hostname="other",
                    hostAliases=[{"ip": "1.2.3.4", "hostnames": ["far.example"]}],
                )
            )
            root = container("c", securityContext={"runAsNonRoot": True})
            await world.create(pod("root", root))
            found = await world.running("a")
            assert found["status"]["podIP"] == docker_host.address
            await world.running("b")
            text = await world.prints("b", "Read-only file system")
            await world.running("port")
            reader, writer = await asyncio.open_connection(docker_host.address, 18080)
            assert await reader.readline() == b"hi\n"
            writer.close()
            assert "uid=1234 gid=77 groups=77" in text
            assert "88" in text
            assert await command(world, "hostname", name="b") == "other"
            assert "1.2.3.4\tfar.example" in await command(world, "cat", "/etc/hosts", name="b")
            await world.event("root", "Failed", "container has runAsNonRoot and image will run as"
                                                " root")  # fmt: skip

    in_host(docker_host, scenario())
