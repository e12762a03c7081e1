"""What one more server of a cluster needs, fetched from one that runs: the CA with its key, and the
keys of service-account tokens. What holds for all hosts stands in the store."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from meshkube import credentials, pki
from meshkube.api.errors import ApiError
from meshkube.api.types import Object
from meshkube.client.backoff import Backoff
from meshkube.client.http import HttpClient
from meshkube.clock import Clock
from meshkube.config import Config, ConfigError
from meshkube.join_token import JoinToken
from meshkube.joining import authority, enrolment
from meshkube.joining.identity import known_authority

log = logging.getLogger(__name__)

PATH = "/meshkube/v1/server"


def content(ca: pki.Pair, token_keys: Sequence[bytes]) -> Object:
    """What a server hands out."""
    return {
        "ca": {"certificate": ca.certificate.decode(), "key": ca.key.decode()},
        "tokenKeys": [key.decode() for key in token_keys],
    }


async def join(config: Config, clock: Clock) -> None:
    """Fetches it into `<data-dir>/pki`, once: a server that has it starts without asking. Raises
    `ConfigError` with one line where that cannot be."""
    if config.store == "sqlite":
        raise ConfigError(
            "--join: needs --store etcd://…: SQLite is a file of one host, which two servers"
            " cannot share; move the cluster to etcd with `meshkube store copy`, or run `meshkube"
            " agent` here"
        )
    directory = config.data_dir / "pki"
    token = enrolment.token_of(config)
    known = known_authority(directory)
    if known and (directory / "ca.key").exists():
        if token is not None and pki.fingerprint(known) != token.ca:
            raise ConfigError(
                f"--token: is for another cluster than the one that {config.data_dir} belongs to"
            )
        return None
    if token is None:
        how = "make one on a server with `meshkube token create --role server`"
        raise ConfigError(f"--token: is needed to join; {how}")
    backoff = Backoff()
    while True:
        try:
            return await _fetch(config, token, directory)
        except ApiError as error:
            reason = _said(error)
        delay = backoff.next()
        about = {"server": config.join, "reason": reason, "in_seconds": round(delay, 1)}
        log.warning("not joined yet: tries again", extra=about)
        await clock.sleep(delay)


async def _fetch(config: Config, token: JoinToken, directory: Path) -> None:
    ca = await authority.fetch((config.join,), token)
    trust = authority.trusting(ca)
    async with HttpClient(config.join, trust, str(token)) as client:
        found = orjson.loads(await client.get_raw(PATH, {"node": config.node_name}))
    pair = pki.Pair(found["ca"]["certificate"].encode(), found["ca"]["key"].encode())
    if pki.fingerprint(pair.certificate) != token.ca:
        raise ConfigError(f"{config.join} has handed out another CA than its own")
    _keep(directory, pair, found)
    log.info("joined as a server", extra={"through": config.join, "ca": token.ca[:16]})


def _keep(directory: Path, ca: pki.Pair, found: Mapping[str, Any]) -> None:
    """The CA's key last: while that is missing, a start fetches all of it again."""
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o700)
    signing, *old = (key.encode() for key in found["tokenKeys"])
    credentials.keep_token_keys(directory, signing, old)
    pki.write_private(directory / credentials.CA, ca.certificate)
    pki.write_private(directory / "ca.key", ca.key)


def _said(error: ApiError) -> str:
    """What a failure means for who waits. Raises `ConfigError` where waiting is in vain."""
    if error.code == 401:
        raise ConfigError(
            "--token: is not valid (unknown, deleted or expired); make one on a server with"
            " `meshkube token create --role server`"
        ) from None
    if error.code == 403:
        raise ConfigError(
            "--token: is one for agents; make one on a server with `meshkube token create --role"
            " server`"
        ) from None
    if error.code == 409:
        raise ConfigError(f"--join: {error.message}") from None
    return error.message
