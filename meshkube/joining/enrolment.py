"""A host becomes a node: from a server's URL and a token to a certificate of its own.

What is on disk counts first: a host that has joined needs no token to start again.
"""

from __future__ import annotations

import logging
from datetime import timedelta

from meshkube import join_token, pki
from meshkube.api.errors import ApiError
from meshkube.client.backoff import Backoff
from meshkube.client.http import HttpClient
from meshkube.clock import Clock
from meshkube.config import Config, ConfigError
from meshkube.join_token import JoinToken
from meshkube.joining import authority, requests
from meshkube.joining.identity import CLIENT, Identity, known_authority

log = logging.getLogger(__name__)

HOW = "make one on a server with `meshkube token create`"


def token_of(config: Config) -> JoinToken | None:
    """The token that was given, if any. Raises `ConfigError`."""
    text, where = config.token, "--token"
    if config.token_file is not None and not text:
        where = f"--token-file: {config.token_file}"
        try:
            text = config.token_file.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{where}: {getattr(error, 'strerror', '') or error}") from None
    if not text.strip():
        return None
    try:
        return join_token.parse(text)
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from None


async def enrol(config: Config, servers: tuple[str, ...], clock: Clock) -> Identity:
    """This host's identity. Waits for a server that answers; raises `ConfigError` with one line
    where the answer is no."""
    directory = config.data_dir / "pki"
    token = token_of(config)
    known = known_authority(directory)
    if known and token and pki.fingerprint(known) != token.ca:
        raise ConfigError(
            f"--token: is for another cluster than the one that {config.data_dir} belongs to: give"
            " another --data-dir, or `meshkube reset` this one"
        )
    if known:
        identity = Identity(directory, known)
        held = identity.certificate(CLIENT)
        if held and pki.remaining(held) > timedelta(0):
            return identity
        if token is None:
            state = "has ended" if held else "is missing"
            raise ConfigError(f"--token: is needed: this host's certificate {state}; {HOW}")
    if token is None:
        raise ConfigError(f"--token: is needed to join; {HOW}")
    backoff = Backoff()
    while True:
        try:
            return await _join(config, servers, token)
        except (ApiError, TimeoutError) as error:
            reason = _said(error)
        delay = backoff.next()
        about = {"servers": ",".join(servers), "reason": reason, "in_seconds": round(delay, 1)}
        log.warning("not joined yet: tries again", extra=about)
        await clock.sleep(delay)


async def _join(config: Config, servers: tuple[str, ...], token: JoinToken) -> Identity:
    ca = await authority.fetch(servers, token)
    identity = Identity(config.data_dir / "pki", ca)
    async with HttpClient(servers, identity.client_context, str(token)) as client:
        certificate = await requests.obtain(
            client, requests.NODE_CLIENT, identity.key, config.node_name
        )
    identity.take(CLIENT, certificate)
    log.info("joined the cluster", extra={"node": config.node_name, "ca": token.ca[:16]})
    return identity


def _said(error: ApiError | TimeoutError) -> str:
    """What a failure means for who waits. Raises `ConfigError` where waiting is in vain."""
    if isinstance(error, TimeoutError):
        return "nobody approves or signs certificates: is a leader running?"
    if error.code == 401:
        raise ConfigError(f"--token: is not valid (unknown, deleted or expired); {HOW}") from None
    if error.code == 403:
        raise ConfigError(f"--token: is not one for this purpose: {error.message}") from None
    return error.message
