"""A server to be maltreated, and a client that sends whatever it is told."""

from __future__ import annotations

import contextlib
import http.client
import json
import resource
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.harness import resident_megabytes
from meshkube import credentials

OPEN_FILES = 8192
"""The least that both sides should be allowed to have open; a shell often gives 1,024."""


class Victim:
    """An API server process, and the admin's requests to it over one connection."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, directory: Path) -> None:
        self._process = process
        self.port = port
        self.directory = directory
        keys = credentials.ensure(
            directory / "pki", node_name="test", addresses=[], domain="cluster.local"
        )
        self.tls: ssl.SSLContext = keys.client_context("admin")
        self._connection: http.client.HTTPSConnection | None = None

    def ask(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, bytes]:
        """Status and body. A connection that the server closed is opened again, once."""
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        for last in (False, True):
            if self._connection is None:
                self._connection = http.client.HTTPSConnection(
                    "127.0.0.1", self.port, context=self.tls, timeout=20
                )
            try:
                self._connection.request(method, path, body, headers)
                response = self._connection.getresponse()
                return response.status, response.read()
            except (ConnectionError, http.client.HTTPException):
                self.close()
                if last:
                    raise
        raise AssertionError("unreachable")

    def socket(self, session: ssl.SSLSession | None = None) -> ssl.SSLSocket:
        """A connection of its own, with nothing sent; it goes on with a TLS session where one is
        given, at half the CPU of a new one."""
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        return self.tls.wrap_socket(plain, server_hostname="127.0.0.1", session=session)

    def longest_hold(self) -> float:
        """Of the server's loop since the last call: milliseconds of CPU."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def megabytes(self) -> float:
        return resident_megabytes(self._process.pid)

    def faults(self) -> list[str]:
        """What the server logged of requests that failed by its own fault."""
        log = (self.directory / "api.log").read_text()
        return [line for line in log.splitlines() if "request failed" in line]

    def close(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(OSError):
                self._connection.close()
            self._connection = None


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    directory = tmp_path_factory.mktemp("victim")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(OPEN_FILES, hard)), hard))
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.api_process", str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    try:
        assert process.stdout is not None
        victim = Victim(process, int(process.stdout.readline()), directory)
        yield victim
        victim.close()
    finally:
        process.kill()
        process.communicate()


def judged(answer: tuple[int, bytes]) -> dict:
    """The decoded answer of a request that may be wrong: never the server's fault, and where it is
    refused, a Status that says the same."""
    code, content = answer
    assert code < 500 or code == 504, content[:2000]
    if code < 400:
        return {}
    status = json.loads(content)
    assert (status["kind"], status["code"]) == ("Status", code), content[:2000]
    assert status["reason"]
    assert status["message"]
    return status
