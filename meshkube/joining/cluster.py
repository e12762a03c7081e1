"""What the cluster has decided for all its hosts: asked for at each start, and kept on disk."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import orjson

from meshkube import pki
from meshkube.api.errors import ApiError
from meshkube.client.backoff import Backoff
from meshkube.client.http import HttpClient
from meshkube.clock import Clock
from meshkube.config import ConfigError

log = logging.getLogger(__name__)

PATH = "/meshkube/v1/cluster"
FILE = "cluster.json"


async def settings(client: HttpClient, data_dir: Path, clock: Clock) -> Mapping[str, str]:
    """As the API says, or as it last said. Waits where neither is to be had. Raises `ConfigError`
    where the API no longer knows this host."""
    backoff = Backoff()
    while True:
        try:
            found = orjson.loads(await client.get_raw(PATH))
            pki.write_private(data_dir / FILE, orjson.dumps(found))
            return dict(found["settings"])
        except ApiError as error:
            if error.code in (401, 403):
                raise ConfigError(
                    f"{client.server} does not accept this host's certificate: {error.message};"
                    " join again with --token, or look at this host's clock"
                ) from None
            reason = error.message
        kept = _kept(data_dir / FILE)
        if kept:
            log.warning("starts with what the API last said", extra={"reason": reason})
            return kept
        delay = backoff.next()
        about = {"reason": reason, "in_seconds": round(delay, 1)}
        log.warning("the API does not answer: tries again", extra=about)
        await clock.sleep(delay)


def kept(data_dir: Path) -> Mapping[str, str]:
    """What the API last said; empty where it never did."""
    return _kept(data_dir / FILE)


def _kept(path: Path) -> Mapping[str, str]:
    try:
        return dict(orjson.loads(path.read_bytes())["settings"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}
