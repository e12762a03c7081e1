"""The ingress beside nginx, haproxy and caddy: CPU per request, in one run, on the same work.

`.venv/bin/python -m bench.ingress [--seconds S] [--rounds N]`. Everything is on loopback. Each
proxy is one process (nginx one worker, haproxy one thread, caddy one Go processor) in front of one
server that answers 12 bytes, and each sets the same X-Forwarded-* and X-Request-Id headers. Rounds
go from proxy to proxy, so that noise meets all of them; the median of the rounds is shown. CPU is
the proxy's own time on a core, from the kernel's scheduler.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import shutil
import socket
import ssl
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from bench.harness import free_port
from bench.ingress_peers import PEERS, Peer, cpu_ns, print_load, running, workspace
from meshkube import pki
from meshkube.api.types import Object
from meshkube.ingress.routes import RouteTable

CONNECTIONS = 32
HANDSHAKES = 1500
LONGEST = 3.0
"""Seconds that one proxy may take for them: fewer are counted then."""
BROWSER = (
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Language: en-US,en;q=0.5",
    "Accept-Encoding: gzip, deflate, br",
    "Cookie: session=0123456789abcdef0123456789abcdef; theme=dark",
    "Cache-Control: no-cache",
)
# A new path and a new header value with each request: nothing can be remembered from the last.
VARIED = """
local n = 0
request = function()
  n = n + 1
  local headers = {}
  headers["X-Number"] = tostring(n)
  return wrk.format("GET", "/shop/item/" .. n, headers)
end
"""


@dataclass
class Result:
    """What one proxy did in one case: a value for each round."""

    cpu: list[float] = field(default_factory=list)
    rate: list[float] = field(default_factory=list)
    p50: list[str] = field(default_factory=list)
    p99: list[str] = field(default_factory=list)


def configure(directory: Path, origin: int, ports: dict[str, tuple[int, int]]) -> None:
    """Writes every configuration file."""
    pair = pki.issue(pki.new_authority("bench"), "bench.local", names=["bench.local", "localhost"])
    (directory / "tls.crt").write_bytes(pair.certificate)
    (directory / "tls.key").write_bytes(pair.key)
    (directory / "both.pem").write_bytes(pair.certificate + pair.key)
    (directory / "varied.lua").write_text(VARIED)
    limits = "keepalive_requests 1000000000; keepalive_timeout 600s;"
    head = "worker_processes 1; daemon off; events { worker_connections 4096; }"
    temp = "".join(
        f"{kind}_temp_path {directory}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (directory / "origin.conf").write_text(
        f"{head} error_log stderr; pid {directory}/origin.pid; http {{ {temp} access_log off;"
        f" {limits} server {{ listen 127.0.0.1:{origin};"
        f' location / {{ return 200 "hello world\\n"; }} }} }}'
    )
    http, https = ports["nginx"]
    (directory / "nginx.conf").write_text(
        f"{head} error_log stderr; pid {directory}/nginx.pid; http {{ {temp} access_log off;"
        f" {limits} upstream b {{ server 127.0.0.1:{origin}; keepalive 256;"
        f" keepalive_requests 1000000000; }} server {{ listen 127.0.0.1:{http};"
        f" listen 127.0.0.1:{https} ssl; ssl_certificate {directory}/tls.crt;"
        f" ssl_certificate_key {directory}/tls.key; ssl_protocols TLSv1.2 TLSv1.3;"
        ' location / { proxy_pass http://b; proxy_http_version 1.1; proxy_set_header Connection "";'
        " proxy_set_header Host $host; proxy_set_header X-Forwarded-For $remote_addr;"
        " proxy_set_header X-Real-IP $remote_addr; proxy_set_header X-Forwarded-Proto $scheme;"
        " proxy_set_header X-Forwarded-Host $host; proxy_set_header X-Forwarded-Port $server_port;"
        " proxy_set_header X-Request-Id $request_id; } } }"
    )
    http, https = ports["haproxy"]
    (directory / "haproxy.cfg").write_text(
        "global\n nbthread 1\ndefaults\n mode http\n timeout client 600s\n timeout server 600s\n"
        " timeout connect 3s\n http-reuse always\n"
        f"frontend f\n bind 127.0.0.1:{http}\n bind 127.0.0.1:{https} ssl crt"
        f" {directory}/both.pem\n option forwardfor\n http-request set-header X-Real-IP %[src]\n"
        " http-request set-header X-Forwarded-Proto http\n"
        " http-request set-header X-Forwarded-Host %[req.hdr(host)]\n"
        " http-request set-header X-Forwarded-Port %[dst_port]\n unique-id-format %{+X}o%ci%cp%rt\n"
        " unique-id-header X-Request-Id\n default_backend b\n"
        f"backend b\n server s 127.0.0.1:{origin} pool-max-conn 256\n"
    )
    http, https = ports["caddy"]
    (directory / "Caddyfile").write_text(
        "{\n admin off\n auto_https off\n}\n(p) {\n reverse_proxy"
        f" 127.0.0.1:{origin} {{\n header_up X-Real-IP {{remote_host}}\n"
        " header_up X-Forwarded-Port {http.request.port}\n"
        " header_up X-Request-Id {http.request.uuid}\n"
        " transport http {\n keepalive_idle_conns_per_host 256\n }\n }\n}\n"
        f"http://:{http} {{\n import p\n}}\nhttps://:{https} {{\n"
        f" tls {directory}/tls.crt {directory}/tls.key\n import p\n}}\n"
    )


def commands(
    directory: Path, origin: int, ports: dict[str, tuple[int, int]]
) -> dict[str, list[str]]:
    """How each proxy is started."""
    mine = ports["meshkube"]
    serve = ["serve", str(directory), str(origin), str(mine[0]), str(mine[1])]
    return {
        "nginx": ["nginx", "-e", "stderr", "-c", str(directory / "nginx.conf")],
        "haproxy": ["haproxy", "-db", "-f", str(directory / "haproxy.cfg")],
        "caddy": [
            "caddy",
            "run",
            "--adapter",
            "caddyfile",
            "--config",
            str(directory / "Caddyfile"),
        ],
        "meshkube": [sys.executable, "-m", "bench.ingress", *serve],
    }


async def serve(directory: Path, origin: int, http: int, https: int) -> None:
    """The ingress as the daemon runs it, over 1,000 Ingresses, one of which is used."""
    from meshkube.ingress.certificates import Certificates
    from meshkube.ingress.host_tls import HostTls
    from meshkube.ingress.listener import listen
    from meshkube.ingress.proxy import Proxy
    from meshkube.ingress.settings import Settings

    async with asyncio.TaskGroup() as group:
        proxy = Proxy(_table(origin), Settings(), group.create_task)
        certificates = Certificates()
        certificates.update({"": HostTls(("bench/tls",))}, lambda _: _secret(directory))
        await listen(proxy, "127.0.0.1", http, None)
        await listen(proxy, "127.0.0.1", https, certificates)
        await proxy.sweep()


def _table(origin: int) -> RouteTable:
    from meshkube.ingress.routes import compile

    def rule(number: int, host: str, path: str) -> Object:
        backend = {"service": {"name": "web", "port": {"number": 80}}}
        paths = [{"path": path, "pathType": "Prefix", "backend": backend}]
        return {
            "metadata": {"name": f"i{number}", "namespace": "bench"},
            "spec": {
                "ingressClassName": "meshkube",
                "rules": [{**({"host": host} if host else {}), "http": {"paths": paths}}],
            },
        }

    rules = [rule(n, f"host{n}.example", f"/app/{n}") for n in range(1, 1000)]
    cls = {"metadata": {"name": "meshkube"}, "spec": {"controller": "meshkube.io/ingress"}}
    meta = {"name": "web", "namespace": "bench"}
    web = {"metadata": meta, "spec": {"selector": {"a": "b"}, "ports": [{"port": 80}]}}
    piece = {
        "metadata": {**meta, "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "ports": [{"port": origin}],
        "endpoints": [{"addresses": ["127.0.0.1"]}],
    }
    return compile([rule(0, "", "/"), *rules], [cls], [web], [piece])


def _secret(directory: Path) -> Object:
    import base64

    files = {name: (directory / name).read_bytes() for name in ("tls.crt", "tls.key")}
    return {"data": {name: base64.b64encode(data).decode() for name, data in files.items()}}


def wrk(peer: Peer, url: str, seconds: float, *options: str) -> tuple[float, float, str, str]:
    """`(CPU in microseconds a request, requests a second, p50, p99)`."""
    before = cpu_ns(peer.process.pid)
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds:g}s", "--latency", *options, url]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    spent = cpu_ns(peer.process.pid) - before
    if "Non-2xx" in out:
        raise SystemExit(f"{peer.name} answers errors:\n{out}")
    requests = int(_found(r"(\d+) requests in", out))
    return (
        spent / 1000 / requests,
        float(_found(r"Requests/sec:\s*([\d.]+)", out)),
        _found(r"50%\s+(\S+)", out),
        _found(r"99%\s+(\S+)", out),
    )


def handshakes(peer: Peer, count: int, resume: bool) -> tuple[float, float]:
    """`(CPU in microseconds, a second)` of new TLS 1.3 connections with one request each."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    session: ssl.SSLSession | None = None
    reused = 0
    before, start = cpu_ns(peer.process.pid), time.monotonic()
    done = 0
    while done < count and (done < 20 or time.monotonic() - start < LONGEST):
        done += 1
        with (
            socket.create_connection(("127.0.0.1", peer.https)) as raw,
            context.wrap_socket(raw, server_hostname="localhost", session=session) as connection,
        ):
            connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            while connection.recv(65536):
                pass
            reused += bool(connection.session_reused)
            if resume:
                session = connection.session
    spent = cpu_ns(peer.process.pid) - before
    if resume and reused < done - 1:
        raise SystemExit(f"{peer.name} resumed only {reused} of {done} sessions")
    return spent / 1000 / done, done / (time.monotonic() - start)


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    return match[1] if match else "0"


CASES = {
    "keep-alive, HTTP": ("http", ()),
    "keep-alive, HTTP, a browser's headers": ("http", tuple(f"-H{line}" for line in BROWSER)),
    "keep-alive, HTTP, each request different": ("http", ("-svaried",)),
    "keep-alive, HTTPS": ("https", ()),
}


def measure(peers: list[Peer], directory: Path, seconds: float, rounds: int) -> None:
    """Runs every case and prints its table."""
    for case, (scheme, options) in CASES.items():
        options = tuple(
            f"-s{directory}/varied.lua" if option == "-svaried" else option for option in options
        )
        results = {peer.name: Result() for peer in peers}
        for _ in range(rounds):
            for peer in peers:
                port = peer.http if scheme == "http" else peer.https
                cpu, rate, p50, p99 = wrk(
                    peer, f"{scheme}://localhost:{port}/shop/item", seconds, *options
                )
                result = results[peer.name]
                result.cpu.append(cpu)
                result.rate.append(rate)
                result.p50.append(p50)
                result.p99.append(p99)
        bars = {"nginx": 1.25, "caddy": 0.3} if scheme == "http" else {}
        show(case, results, bars)
    for case, resume in (("new connection each, full TLS 1.3", False), ("resumed TLS 1.3", True)):
        results = {peer.name: Result() for peer in peers}
        for _ in range(rounds):
            for peer in peers:
                cpu, rate = handshakes(peer, HANDSHAKES, resume)
                results[peer.name].cpu.append(cpu)
                results[peer.name].rate.append(rate)
        show(case, results, {"nginx": 2.0} if resume else {"haproxy": 1.0})


def show(case: str, results: dict[str, Result], bars: dict[str, float]) -> None:
    """Prints one table, and how it stands against its bars."""
    print(f"\n{case}")
    print(f"  {'':10}{'µs CPU each':>12}{'a second':>10}{'p50':>10}{'p99':>10}  CPU against nginx")
    median = {name: statistics.median(result.cpu) for name, result in results.items()}
    for name, result in results.items():
        p50 = result.p50[len(result.p50) // 2] if result.p50 else ""
        p99 = result.p99[len(result.p99) // 2] if result.p99 else ""
        against = f"{median[name] / median['nginx']:.2f}" if "nginx" in median else ""
        rate = statistics.median(result.rate)
        print(f"  {name:10}{median[name]:12.1f}{rate:10.0f}{p50:>10}{p99:>10}  {against}")
    for name, bar in bars.items():
        if name not in median:
            continue
        ratio = median["meshkube"] / median[name]
        met = "met" if ratio <= bar else "NOT met"
        print(f"  bar: at most {bar:g} x {name}; measured {ratio:.2f}: {met}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each run of wrk")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if not shutil.which("wrk") or not shutil.which("nginx"):
        raise SystemExit("this needs wrk and nginx on PATH (apt-get install wrk nginx)")
    names = [*(name for name in PEERS if shutil.which(name)), "meshkube"]
    with workspace() as directory:
        origin = free_port()
        ports = {name: (free_port(), free_port()) for name in (*PEERS, "meshkube")}
        configure(directory, origin, ports)
        run = commands(directory, origin, ports)
        with running(names, directory, origin, ports, run) as peers:
            print_load()
            measure(peers, directory, options.seconds, options.rounds)


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        import uvloop

        uvloop.run(serve(Path(sys.argv[2]), *map(int, sys.argv[3:6])))
    else:
        main()
