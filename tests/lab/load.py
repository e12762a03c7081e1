"""Steady requests from one host, each by a client of its own, every outcome with its time.

    python -m tests.lab.load --rate 20 --host shop.example http://10.250.1.11/user ...

Each URL is asked in turn, `rate` requests a second in all. One JSON line an outcome goes to
standard output: `at` (steady clock, seconds, when it was sent), `url`, `took` (seconds), `pod` or
`error`.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import signal
import sys
import time
from typing import Any
from urllib.parse import urlsplit


async def ask(url: str, host: str, limit: float) -> dict[str, Any]:
    """One GET over a connection of its own; only a whole 200 counts as an answer."""
    parts = urlsplit(url)
    lines = (f"GET {parts.path or '/'} HTTP/1.1", f"Host: {host or parts.netloc}")
    request = "\r\n".join([*lines, "Connection: close", "", ""])
    outcome: dict[str, Any] = {"at": time.monotonic(), "url": url}
    try:
        async with asyncio.timeout(limit):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port or 80)
            try:
                writer.write(request.encode())
                answer = await reader.read()
            finally:
                writer.close()
        outcome |= understand(answer)
    except TimeoutError:
        outcome["error"] = f"no answer within {limit:g} s"
    except OSError as error:
        outcome["error"] = f"{type(error).__name__}: {error.strerror or error}"
    outcome["took"] = round(time.monotonic() - outcome["at"], 4)
    return outcome


def understand(answer: bytes) -> dict[str, Any]:
    """`pod`, where it is the quickstart's whole answer; otherwise `error`."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status = head.split(b"\r\n")[0].decode("latin-1")
    if " 200 " not in f"{status} ":
        return {"error": f"{status or 'closed without an answer'}: {body[:300].decode('latin-1')}"}
    try:
        return {"pod": json.loads(body)["pod"]}
    except (ValueError, KeyError, TypeError):
        return {"error": f"a 200 with a broken body: {body[:100]!r}"}


async def load(urls: list[str], rate: float, host: str, limit: float) -> None:
    """Asks until SIGTERM, then waits for what is under way. A slow answer does not make the next
    request wait."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for number, url in enumerate(itertools.cycle(urls)):
            await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
            if stop.is_set():
                break
            group.create_task(_report(url, host, limit))


async def _report(url: str, host: str, limit: float) -> None:
    sys.stdout.write(json.dumps(await ask(url, host, limit)) + "\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rate", type=float, default=20)
    parser.add_argument("--host", default="")
    parser.add_argument("--limit", type=float, default=10)
    parser.add_argument("urls", nargs="+")
    args = parser.parse_args()
    asyncio.run(load(args.urls, args.rate, args.host, args.limit))


if __name__ == "__main__":
    main()
