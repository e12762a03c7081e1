"""Which cluster a store belongs to: the first server writes it there, all others compare.

Two CAs over one store would be two clusters that overwrite each other. What was found is kept on
disk too, so a server that knows its store starts while that is away.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TypedDict

import orjson

from meshkube import pki
from meshkube.client.backoff import Backoff
from meshkube.clock import Clock
from meshkube.config import Config, ConfigError, adopt, decided
from meshkube.credentials import CA
from meshkube.store import KeyExists, Store, StoreError, StoreUnavailable

log = logging.getLogger(__name__)

KEY = "/meshkube/cluster"
FILE = "cluster.json"


class Belongs(TypedDict):
    """What is written: the fingerprint of the CA, and the settings that hold for all hosts."""

    ca: str
    settings: dict[str, str]


async def before_keys(store: Store, config: Config, clock: Clock) -> None:
    """A server without a CA makes one, and must not over somebody else's store. Raises
    `ConfigError`."""
    if config.store == "sqlite" or (config.data_dir / "pki" / CA).exists():
        return
    found = await _patiently_read(store, clock)
    if found is not None:
        raise ConfigError(
            f"--store: {config.store} holds a cluster already (its CA is {found['ca'][:16]}…), and"
            f" {config.data_dir} is of none: give --join https://SERVER:6443 and --token"
        )


async def settle(store: Store, config: Config, ca: bytes, clock: Clock) -> Config:
    """The settings that hold: what the first server wrote, or ours where we are that. Raises
    `ConfigError` where the store is another cluster's, or a flag contradicts it."""
    ours = Belongs(ca=pki.fingerprint(ca), settings=decided(config))
    if config.store == "sqlite":
        # The file is this host's alone: what it is told now is what holds.
        return config
    kept = config.data_dir / FILE
    try:
        found = await _read(store)
    except StoreUnavailable as error:
        known = _kept(kept, config.store)
        if known is None:
            await _patiently_read(store, clock)
            return await settle(store, config, ca, clock)
        log.warning("starts without the store", extra={"reason": str(error)})
        found = known
    if found is None:
        try:
            await store.create(KEY, orjson.dumps(ours))
            found = ours
        except (KeyExists, StoreUnavailable):
            return await settle(store, config, ca, clock)
    if found["ca"] != ours["ca"]:
        raise ConfigError(
            f"--store: {config.store} belongs to another cluster: its CA is {found['ca'][:16]}…,"
            f" ours in {config.data_dir} is {ours['ca'][:16]}…"
        )
    pki.write_private(kept, orjson.dumps({**found, "store": config.store}))
    return adopt(config, found["settings"])


async def _patiently_read(store: Store, clock: Clock) -> Belongs | None:
    backoff = Backoff()
    while True:
        try:
            return await _read(store)
        except StoreUnavailable as error:
            delay = backoff.next()
            about = {"reason": str(error), "in_seconds": round(delay, 1)}
            log.warning("the store does not answer: tries again", extra=about)
            await clock.sleep(delay)


async def _read(store: Store) -> Belongs | None:
    """Raises `StoreUnavailable`, and `ConfigError` for every other failure."""
    try:
        kv = await store.get(KEY)
    except StoreUnavailable:
        raise
    except StoreError as error:
        raise ConfigError(f"--store: {error}") from None
    if kv is None:
        return None
    found: Belongs = orjson.loads(kv.value)
    return found


def _kept(path: Path, store: str) -> Belongs | None:
    try:
        found = orjson.loads(path.read_bytes())
        return found if found["store"] == store else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
