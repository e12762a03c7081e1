"""h2spec, and gRPC's interop cases, through an ingress on loopback; ends with 1 where one fails
that is not known to differ."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import re
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import uvloop

from bench.harness import free_port
from meshkube import pki
from meshkube.api.types import Object
from meshkube.ingress.certificates import Certificates
from meshkube.ingress.host_tls import HostTls
from meshkube.ingress.listener import listen, port_of
from meshkube.ingress.proxy import Proxy
from meshkube.ingress.routes import RouteTable, compile
from meshkube.ingress.settings import Settings
from tests.support.ingress import (
    Origin,
    endpoint,
    ingress,
    ingress_class,
    path,
    service,
    slice_,
    table_to,
)

CASES = """
empty_unary large_unary client_streaming server_streaming ping_pong empty_stream
timeout_on_sleeping_server cancel_after_begin cancel_after_first_response status_code_and_message
special_status_message custom_metadata unimplemented_method unimplemented_service rpc_soak
channel_soak orca_per_rpc orca_oob
"""
ORCA = '{"loadBalancingConfig":[{"test_backend_metrics_load_balancer":{}}]}'
DIFFERS = "Sends invalid connection preface"
"""In cleartext: the port speaks HTTP/1.1 too, and answers in it."""


async def output(*command: str, **environment: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, **environment},
    )
    text, _ = await process.communicate()
    return process.returncode or 0, text.decode(errors="replace")


def certificates(directory: Path) -> Certificates:
    authority = pki.new_authority("conformance")
    (directory / "ca.pem").write_bytes(authority.certificate)
    pair = pki.issue(authority, "localhost", names=["localhost"])
    data = {"tls.crt": pair.certificate, "tls.key": pair.key}
    secret: Object = {
        "metadata": {"name": "tls", "namespace": "shop"},
        "type": "kubernetes.io/tls",
        "data": {key: base64.b64encode(value).decode() for key, value in data.items()},
    }
    found = Certificates()
    found.update({"localhost": HostTls(("shop/tls",))}, {"shop/tls": secret}.get)
    return found


def grpc_table(port: int) -> RouteTable:
    web = service("web", [{"port": 80, "appProtocol": "kubernetes.io/h2c"}])
    slices = [slice_("web", [endpoint("127.0.0.1")], port)]
    return compile([ingress("web", {"": [path("/", "web")]})], [ingress_class()], [web], slices)


@contextlib.asynccontextmanager
async def serving(table: RouteTable, found: Certificates) -> AsyncIterator[tuple[int, int]]:
    """The ports for HTTP and HTTPS of an ingress."""
    async with asyncio.TaskGroup() as group:
        proxy = Proxy(table, Settings(drain_timeout=1), group.create_task)
        sweep = group.create_task(proxy.sweep())
        plain = await listen(proxy, "127.0.0.1", 0, None)
        tls = await listen(proxy, "127.0.0.1", 0, found)
        yield port_of(plain), port_of(tls)
        plain.close()
        tls.close()
        await proxy.drain()
        sweep.cancel()


async def h2spec(program: str, plain: int, tls: int) -> int:
    bad = 0
    for name, options in (("cleartext", ("-p", str(plain))), ("TLS", ("-p", str(tls), "-t", "-k"))):
        _, text = await output(program, "-h", "localhost", "-S", "-o", "5", *options)
        failed = re.findall(r"× \d+: (.*)", text.rpartition("Failures:")[2])
        if name == "cleartext":
            failed = [one for one in failed if one != DIFFERS]
        print(f"h2spec, {name}: {text.strip().splitlines()[-1]}")
        for one in failed:
            print(f"  FAILED {one}")
        bad += len(failed)
    return bad


async def interop(program: str, plain: int, tls: int, directory: Path) -> int:
    bad = 0
    for case in CASES.split():
        config = ("-service_config_json", ORCA) if case.startswith("orca") else ()
        for name, options in (
            ("cleartext", ("-server_port", str(plain))),
            ("TLS", ("-server_port", str(tls), "-use_tls")),
        ):
            code, text = await output(
                program, "-server_host", "localhost", "-test_case", case, *options, *config,
                SSL_CERT_FILE=str(directory / "ca.pem"),
            )  # fmt: skip
            print(f"gRPC {case}, {name}: {'FAILED' if code else 'passed'}")
            if code:
                bad += 1
                print(text[-500:])
    return bad


async def main(kept: Path) -> int:
    port = free_port()
    server = await asyncio.create_subprocess_exec(
        kept / "grpc-server", "-port", str(port), stderr=asyncio.subprocess.DEVNULL
    )
    try:
        with tempfile.TemporaryDirectory() as name:
            found = certificates(Path(name))
            async with Origin() as origin, serving(table_to(origin.port), found) as ports:
                bad = await h2spec(str(kept / "h2spec"), *ports)
            async with serving(grpc_table(port), found) as ports:
                bad += await interop(str(kept / "grpc-client"), *ports, Path(name))
        # The origin's last connections end by themselves.
        await asyncio.sleep(0.2)
        return 1 if bad else 0
    finally:
        server.terminate()
        await server.wait()


if __name__ == "__main__":
    raise SystemExit(uvloop.run(main(Path(sys.argv[1]))))
