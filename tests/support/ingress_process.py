"""A proxy, or a pod behind it, as a process of its own: for lab hosts.

python -m tests.support.ingress_process pod 8080 NAME [SECONDS]
python -m tests.support.ingress_process proxy 80 10.250.1.12:8080 10.250.1.13:8080
"""

from __future__ import annotations

import asyncio
import json
import sys

import uvloop

from meshkube.ingress.listener import listen
from meshkube.ingress.proxy import Proxy
from meshkube.ingress.routes import compile
from meshkube.ingress.settings import Settings
from tests.support.ingress import (
    Origin,
    endpoint,
    ingress,
    ingress_class,
    path,
    response,
    service,
    slice_,
)


async def pod(port: int, name: str, seconds: float = 0.0) -> None:
    """Answers with its name as JSON, `seconds` after each request."""
    origin = Origin()
    answer = response(json.dumps({"pod": name}).encode())

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await origin.read_request(reader):
            await asyncio.sleep(seconds)
            writer.write(answer)

    origin.answer = serve
    server = await asyncio.start_server(origin._serve, "0.0.0.0", port)
    await server.serve_forever()


async def proxy(port: int, *addresses: str) -> None:
    """Everything to a Service with these pods."""
    pods = [address.split(":") for address in addresses]
    slices = [slice_("web", [endpoint(host)], int(at), name=f"web-{host}") for host, at in pods]
    rule = ingress("web", {"": [path("/", "web")]})
    table = compile([rule], [ingress_class()], [service("web")], slices)
    async with asyncio.TaskGroup() as group:
        served = Proxy(table, Settings(), group.create_task)
        await listen(served, None, port, None)
        group.create_task(served.sweep())


def main() -> None:
    what, port, *rest = sys.argv[1:]
    if what == "pod":
        uvloop.run(pod(int(port), rest[0], *(float(text) for text in rest[1:])))
    else:
        uvloop.run(proxy(int(port), *rest))


if __name__ == "__main__":
    main()
