"""The ingress with 10,000 routes beside nginx, haproxy and caddy: 100 hosts of 100 paths,
each request for one of them by chance.

`.venv/bin/python -m bench.ingress_routes [--seconds S]`. The proxies and how CPU is counted are
those of `bench.ingress`.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

from bench import ingress
from bench.harness import free_port, print_table, resident_megabytes
from bench.ingress_peers import PEERS, Peer, cpu_ns, in_turns, print_load, running, workspace
from bench.ingress_wide import first_group

HOSTS, PATHS = 100, 100
CONNECTIONS = (8, 64)
ROUNDS = 3
NAMES = ("nginx", "haproxy", "caddy", "meshkube")

LOAD = f"""
math.randomseed(7)
request = function()
  local path = "/app/" .. math.random(0, {PATHS - 1}) .. "/x"
  return wrk.format("GET", path, {{["Host"] = "h" .. math.random(0, {HOSTS - 1}) .. ".example"}})
end
"""


def configure(directory: Path, origin: int, ports: dict[str, tuple[int, int]]) -> None:
    """Replaces the single route of each peer's configuration by many."""
    ingress.configure(directory, origin, ports)
    (directory / "routes.lua").write_text(LOAD)
    nginx = (directory / "nginx.conf").read_text()
    head, _, server = nginx.partition(" server { listen")
    fields = (
        server.partition("location / {")[2].partition("}")[0].replace("proxy_pass http://b;", "")
    )
    locations = "".join(f" location /app/{n}/ {{ proxy_pass http://b; }}" for n in range(PATHS))
    servers = "".join(
        f" server {{ listen 127.0.0.1:{ports['nginx'][0]}; server_name h{n}.example;{locations} }}"
        for n in range(HOSTS)
    )
    (directory / "nginx.conf").write_text(f"{head} {fields} {servers} }}")
    rows = (f"h{h}.example/app/{p}/ b" for h in range(HOSTS) for p in range(PATHS))
    (directory / "routes.map").write_text("\n".join(rows) + "\n")
    haproxy = directory / "haproxy.cfg"
    wanted = f" use_backend %[base,map_beg({directory}/routes.map,none)]\n"
    haproxy.write_text(haproxy.read_text().replace(" default_backend b\n", wanted))
    caddy = (directory / "Caddyfile").read_text().partition("\nhttp://")[0]
    paths = " ".join(f"/app/{n}/*" for n in range(PATHS))
    sites = "".join(
        f"\nhttp://h{n}.example:{ports['caddy'][0]} {{\n @r path {paths}\n handle @r {{\n"
        "  import p\n }\n}\n"
        for n in range(HOSTS)
    )
    (directory / "Caddyfile").write_text(caddy + sites)


async def serve(origin: int, port: int) -> None:
    """Our own, with as many rules in 100 Ingresses."""
    from meshkube.ingress.listener import listen
    from meshkube.ingress.proxy import Proxy
    from meshkube.ingress.routes import compile
    from meshkube.ingress.settings import Settings

    backend = {"service": {"name": "web", "port": {"number": 80}}}

    def rule(number: int) -> dict[str, Any]:
        paths = [
            {"path": f"/app/{n}", "pathType": "Prefix", "backend": backend} for n in range(PATHS)
        ]
        rules = [{"host": f"h{number}.example", "http": {"paths": paths}}]
        return {
            "metadata": {"name": f"i{number}", "namespace": "bench"},
            "spec": {"ingressClassName": "meshkube", "rules": rules},
        }

    cls = {"metadata": {"name": "meshkube"}, "spec": {"controller": "meshkube.io/ingress"}}
    web = {"metadata": {"name": "web", "namespace": "bench"}, "spec": {"ports": [{"port": 80}]}}
    piece = {
        "metadata": {
            "name": "web-1",
            "namespace": "bench",
            "labels": {"kubernetes.io/service-name": "web"},
        },
        "addressType": "IPv4",
        "ports": [{"name": "", "port": origin, "protocol": "TCP"}],
        "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": True}}],
    }
    table = compile([rule(n) for n in range(HOSTS)], [cls], [web], [piece])
    async with asyncio.TaskGroup() as group:
        proxy = Proxy(table, Settings(), group.create_task)
        await listen(proxy, "127.0.0.1", port, None)
        await proxy.sweep()


def load(peer: Peer, directory: Path, connections: int, seconds: float) -> tuple[float, float]:
    """(CPU in microseconds a request, requests a second)."""
    script = str(directory / "routes.lua")
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", f"-s{script}"]
    before = cpu_ns(peer.process.pid)
    url = f"http://127.0.0.1:{peer.http}/"
    out = subprocess.run([*command, url], capture_output=True, text=True, check=True).stdout
    spent = cpu_ns(peer.process.pid) - before
    if "Non-2xx" in out:
        raise SystemExit(f"{peer.name} answers errors:\n{out}")
    requests = int(first_group(r"(\d+) requests in", out))
    return spent / 1000 / max(requests, 1), float(first_group(r"Requests/sec:\s*([\d.]+)", out))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each run")
    options = parser.parse_args()
    if missing := [tool for tool in ("wrk", "nginx") if not shutil.which(tool)]:
        raise SystemExit(f"this needs {', '.join(missing)} on PATH")
    names = ["meshkube", *(name for name in PEERS if shutil.which(name))]
    with workspace() as directory:
        origin = free_port()
        ports = {name: (free_port(), free_port()) for name in NAMES}
        configure(directory, origin, ports)
        run = ingress.commands(directory, origin, ports)
        mine = str(ports["meshkube"][0])
        run["meshkube"] = [sys.executable, "-m", "bench.ingress_routes", "serve", str(origin), mine]
        listening = {name: (http, 0) for name, (http, _) in ports.items()}
        with running(names, directory, origin, listening, run) as peers:
            print_load()
            rows: list[list[object]] = []
            for connections in CONNECTIONS:
                ask = partial(
                    load, directory=directory, connections=connections, seconds=options.seconds
                )
                middles = in_turns(peers, ROUNDS, ask)
                rows += [
                    [connections, peer.name, *middles[peer.name], resident(peer)] for peer in peers
                ]
        header = ["connections", "", "CPU us", "a second", "MB"]
        print_table(f"ingress, {HOSTS * PATHS} routes, each request another one", header, rows)


def resident(peer: Peer) -> float:
    from bench.harness import children

    return sum(map(resident_megabytes, children(peer.process.pid)))


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        import uvloop

        uvloop.run(serve(*map(int, sys.argv[2:4])))
    else:
        main()
