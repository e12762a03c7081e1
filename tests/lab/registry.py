"""A real registry on a test host, at a loopback address: Docker talks plain HTTP to those."""

from __future__ import annotations

import base64
import contextlib
import ctypes
import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from tests.lab.host import Host, wait_for

PROGRAM = "docker-registry"
_CONFIG = """
version: 0.1
log: {{level: error}}
storage: {{filesystem: {{rootdirectory: {directory}/registry}}, delete: {{enabled: true}}}}
http: {{addr: "127.0.0.1:{port}"}}
auth: {{htpasswd: {{realm: lab, path: {directory}/htpasswd}}}}
"""


@dataclass(frozen=True)
class Registry:
    """`address` is `127.0.0.1:PORT`, as images of it are named."""

    host: Host
    address: str
    process: subprocess.Popen[bytes]

    def push(self, image: str, name: str, user: str, password: str) -> str:
        """Puts an image of the host there as `name` (`path:tag`), and takes that name from the host
        again. Its digest."""
        full = f"{self.address}/{name}"
        login = ["docker", f"--config={self.host.directory}/{user}"]
        login += ["--host", self.host.docker_socket]
        config = {"auths": {self.address: {"auth": _basic(user, password)}}}
        (self.host.directory / user).mkdir(exist_ok=True)
        (self.host.directory / user / "config.json").write_text(json.dumps(config))
        self.host.docker("tag", image, full)
        done = subprocess.run([*login, "push", full], capture_output=True, text=True, check=False)
        assert not done.returncode, done.stdout + done.stderr
        self.host.docker("rmi", full)
        return done.stdout.rpartition("digest: ")[2].split()[0]


@contextlib.contextmanager
def registry(host: Host, users: Mapping[str, str]) -> Iterator[Registry]:
    """Who may pull and push: passwords by user."""
    if shutil.which(PROGRAM) is None:
        pytest.skip(f"needs {PROGRAM}")
    port = _free_port(host)
    lines = [f"{user}:{_bcrypt(password)}" for user, password in users.items()]
    (host.directory / "htpasswd").write_text("\n".join(lines) + "\n")
    config = host.directory / "registry.yml"
    config.write_text(_CONFIG.format(directory=host.directory, port=port))
    process = host.start(PROGRAM, "serve", str(config), log="registry.log")
    url = f"http://127.0.0.1:{port}/v2/"
    try:
        wait_for(lambda: host.run("curl", "-s", url, check=False).returncode == 0, 20, PROGRAM)
        yield Registry(host, f"127.0.0.1:{port}", process)
    finally:
        host.stop(process)


def secret(name: str, *entries: tuple[str, str, str]) -> dict[str, Any]:
    """A pull secret for `(registry, user, password)` each."""
    auths = {where: {"auth": _basic(user, password)} for where, user, password in entries}
    data = base64.b64encode(json.dumps({"auths": auths}).encode()).decode()
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/dockerconfigjson",
        "metadata": {"name": name, "namespace": "default"},
        "data": {".dockerconfigjson": data},
    }


def _basic(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()


def _bcrypt(password: str) -> str:
    """The only hash that the registry takes; at its lowest cost."""
    crypt = ctypes.CDLL("libcrypt.so.1").crypt
    crypt.restype = ctypes.c_char_p
    found: bytes = crypt(password.encode(), b"$2b$04$" + b"abcdefghijklmnopqrstuu")
    return found.decode()


def _free_port(host: Host) -> int:
    """One that is free in the host's own network."""
    program = (
        "import socket; s = socket.socket(); s.bind(('127.0.0.1', 0)); print(s.getsockname()[1])"
    )
    return int(host.run("python3", "-c", program).stdout)
