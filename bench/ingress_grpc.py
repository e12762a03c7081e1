"""gRPC calls through the ingress beside nginx, haproxy and caddy: HTTP/2 in cleartext on both
sides, a message of 100 bytes each way, the status in the trailers.

`.venv/bin/python -m bench.ingress_grpc [--seconds S]`. CPU is counted as in `bench.ingress`.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

from bench.harness import free_port, print_table
from bench.ingress_peers import PEERS, Peer, cpu_ns, in_turns, print_load, running, workspace
from bench.ingress_wide import first_group

CASES = ((8, 1), (8, 32), (64, 8))
"""Connections, and calls at one time on each."""
ROUNDS = 3
MESSAGE = b"\0\0\0\0\x64" + b"x" * 100


def configure(directory: Path, origin: int, ports: dict[str, int]) -> None:
    """The server of calls, and each peer in front of it."""
    (directory / "message").write_bytes(MESSAGE)
    temp = "".join(
        f"{kind}_temp_path {directory}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    head = (
        "worker_processes 1; daemon off; events {{ worker_connections 4096; }} error_log stderr;"
        f" pid {directory}/{{0}}.pid; http {{{{ {temp} access_log off; keepalive_timeout 600s;"
        " keepalive_requests 1000000000; http2_max_concurrent_streams 1000;"
    )
    answer = "x" * 100
    (directory / "origin.conf").write_text(
        head.format("origin") + f" server {{ listen 127.0.0.1:{origin} http2; location / {{"
        " default_type application/grpc; add_trailer grpc-status 0;"
        f' return 200 "{answer}"; }} }} }}'
    )
    (directory / "nginx.conf").write_text(
        head.format("nginx") + f" upstream b {{ server 127.0.0.1:{origin}; keepalive 256;"
        f" keepalive_requests 1000000000; }} server {{ listen 127.0.0.1:{ports['nginx']} http2;"
        " location / { grpc_pass grpc://b; grpc_set_header X-Real-IP $remote_addr; } } }"
    )
    (directory / "haproxy.cfg").write_text(
        "global\n nbthread 1\ndefaults\n mode http\n timeout client 600s\n timeout server 600s\n"
        " timeout connect 3s\n http-reuse always\n"
        f"frontend f\n bind 127.0.0.1:{ports['haproxy']} proto h2\n option forwardfor\n"
        f" default_backend b\nbackend b\n server s 127.0.0.1:{origin} proto h2\n"
    )
    (directory / "Caddyfile").write_text(
        "{\n admin off\n auto_https off\n servers {\n protocols h1 h2c\n }\n}\n"
        f"http://:{ports['caddy']} {{\n reverse_proxy h2c://127.0.0.1:{origin}\n}}\n"
    )


def commands(directory: Path, origin: int, ports: dict[str, int]) -> dict[str, list[str]]:
    mine = [str(origin), str(ports["meshkube"])]
    caddy = ["caddy", "run", "--adapter", "caddyfile", "--config", str(directory / "Caddyfile")]
    return {
        "nginx": ["nginx", "-e", "stderr", "-c", str(directory / "nginx.conf")],
        "haproxy": ["haproxy", "-db", "-f", str(directory / "haproxy.cfg")],
        "caddy": caddy,
        "meshkube": [sys.executable, "-m", "bench.ingress_grpc", "serve", *mine],
    }


async def serve(origin: int, port: int) -> None:
    """Our own, by the annotation."""
    from meshkube.ingress.listener import listen
    from meshkube.ingress.proxy import Proxy
    from meshkube.ingress.routes import compile
    from meshkube.ingress.settings import Settings
    from tests.support.ingress import endpoint, ingress, ingress_class, path, service, slice_

    given = {"nginx.ingress.kubernetes.io/backend-protocol": "GRPC"}
    rule = ingress("web", {"": [path("/", "web")]}, annotations=given)
    pods = [slice_("web", [endpoint("127.0.0.1")], origin)]
    table = compile([rule], [ingress_class()], [service("web")], pods)
    async with asyncio.TaskGroup() as group:
        proxy = Proxy(table, Settings(), group.create_task)
        await listen(proxy, "127.0.0.1", port, None)
        await proxy.sweep()


def calls(
    peer: Peer, directory: Path, connections: int, streams: int, seconds: float
) -> tuple[float, float]:
    """(CPU in microseconds a call, calls a second)."""
    command = ["h2load", f"-c{connections}", f"-m{streams}", f"-D{seconds:g}"]
    command += ["-d", str(directory / "message"), "-H", "content-type: application/grpc"]
    before = cpu_ns(peer.process.pid)
    url = f"http://127.0.0.1:{peer.http}/shop.Shop/Get"
    out = subprocess.run([*command, url], capture_output=True, text=True, check=True).stdout
    spent = cpu_ns(peer.process.pid) - before
    succeeded = int(first_group(r"(\d+) succeeded", out))
    # What is under way when the time is up counts as failed on some versions of it; and nginx
    # answers some with 502 where its origin ends a stream that was over ("unknown stream").
    few = max(connections * streams, succeeded // 20)
    if int(first_group(r"(\d+) failed", out)) > few or not succeeded:
        raise SystemExit(f"{peer.name} answers errors:\n{out}")
    return spent / 1000 / succeeded, succeeded / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each run")
    options = parser.parse_args()
    if missing := [tool for tool in ("h2load", "nginx") if not shutil.which(tool)]:
        raise SystemExit(f"this needs {', '.join(missing)} on PATH")
    names = ["meshkube", *(name for name in PEERS if shutil.which(name))]
    with workspace() as directory:
        origin = free_port()
        ports = {name: free_port() for name in (*PEERS, "meshkube")}
        configure(directory, origin, ports)
        run = commands(directory, origin, ports)
        listening = {name: (port, 0) for name, port in ports.items()}
        with running(names, directory, origin, listening, run) as peers:
            print_load()
            rows: list[list[object]] = []
            for connections, streams in CASES:
                ask = partial(
                    calls,
                    directory=directory,
                    connections=connections,
                    streams=streams,
                    seconds=options.seconds,
                )
                for name, middle in in_turns(peers, ROUNDS, ask).items():
                    rows.append([f"{connections} x {streams}", name, *middle])
            print_table(
                "ingress, gRPC calls", ["connections x calls", "", "CPU us", "a second"], rows
            )


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        import uvloop

        uvloop.run(serve(*map(int, sys.argv[2:4])))
    else:
        main()
