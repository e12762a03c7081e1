"""Which store keeps the API: opens the one that the Config names, and moves data between stores."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from meshkube.config import Config, ConfigError
from meshkube.store import Store, StoreError, copy, snapshot
from meshkube.store.copy import Copied
from meshkube.store.etcd import EtcdStore
from meshkube.store.etcd_options import is_etcd
from meshkube.store.sqlite import SqliteStore
from meshkube.store.sqlite_reader import SqliteReader

__all__ = ["Copied", "Place", "StoreError", "load", "move", "open_store", "save"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a store is: `sqlite`, `sqlite:FILE`, or the URL of an etcd cluster."""

    text: str
    config: Config

    @property
    def file(self) -> Path | None:
        """None for etcd. Raises `ConfigError`."""
        kind, _, path = self.text.partition(":")
        if is_etcd(self.text):
            return None
        if kind != "sqlite":
            raise ConfigError(f"{self.text!r} is neither sqlite, sqlite:FILE nor etcd://HOST:PORT")
        return Path(path) if path else self.config.data_dir / "store.db"

    @property
    def name(self) -> str:
        return str(self.file or self.text)

    async def open(self, first_revision: int = 0) -> Store:
        """Raises `ConfigError` with one line. `first_revision` is what a new SQLite store goes on
        from: etcd counts by itself."""
        try:
            if self.file is not None:
                return await SqliteStore.open(self.file, first_revision=first_revision)
            return await self._open_etcd()
        except StoreError as error:
            raise ConfigError(f"--store: {error}") from None

    async def _open_etcd(self) -> EtcdStore:
        config = self.config
        return await EtcdStore.open(
            self.text,
            ca=config.store_ca,
            cert=config.store_cert,
            key=config.store_key,
            user=config.store_user,
            password=_password(config),
        )


async def open_store(config: Config) -> Store:
    """The store that a server works on. Raises `ConfigError`."""
    return await Place(config.store, config).open()


@asynccontextmanager
async def _opened(place: Place, first_revision: int = 0) -> AsyncIterator[Store]:
    store = await place.open(first_revision)
    try:
        yield store
    finally:
        await store.aclose()


async def move(source: Place, target: Place) -> Copied:
    """Copies every key of one store, as of one revision, into an empty one. Raises `ConfigError`
    and `StoreError`."""
    if source.file is not None and not source.file.exists():
        raise ConfigError(f"--from: {source.file}: there is no store")
    if source.name == target.name:
        raise ConfigError(f"--to: {target.name} is what is copied from")
    # Opened as a server would: what runs on it must stop first, or its later writes were lost.
    async with _opened(source) as old, _opened(target, await old.revision()) as new:
        return await copy.copy(old, new)


async def save(source: Place, file: Path) -> Copied:
    """Writes a snapshot; servers may run meanwhile. Raises `ConfigError` and `StoreError`."""
    if source.file is not None:
        reader = SqliteReader(source.file)
        try:
            return await copy.save(reader, file)
        finally:
            reader.close()
    async with _opened(source) as store:
        return await copy.save(store, file)


async def load(file: Path, target: Place) -> Copied:
    """Fills an empty store from a snapshot, once all of that is checked. Raises `ConfigError` and
    `StoreError`."""
    found = snapshot.check(file)
    async with _opened(target, found.revision) as store:
        return await copy.load(file, store)


def _password(config: Config) -> str:
    if config.store_password_file is None:
        return config.store_password
    try:
        return config.store_password_file.read_text().strip()
    except OSError as error:
        raise ConfigError(
            f"--store-password-file: {config.store_password_file}: {error.strerror}"
        ) from None
    except UnicodeDecodeError:
        raise ConfigError(
            f"--store-password-file: {config.store_password_file}: is no text"
        ) from None
