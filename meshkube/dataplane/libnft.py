"""Running nft scripts: inside this process through libnftables, or by the `nft` command.

The library saves the start of a process: a change of a few elements takes it less than a
millisecond. Debian's `nftables` package brings both. Each call is one transaction.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from typing import Any, Protocol, cast

import orjson

from meshkube.dataplane.rules import is_class, is_memory

_JSON = 1 << 4
_TERSE = 1 << 11
_TIMEOUT = 120.0
_SMALL = 1 << 16


class NftError(RuntimeError):
    """The kernel or nft refused a script: nothing of it was done."""


class Nft(Protocol):
    """Blocking: for a thread of its own."""

    def run(self, script: str) -> None:
        """Raises `NftError`; then nothing has changed."""
        ...

    def table(self, name: str, *, elements: bool = True) -> list[dict[str, Any]] | None:
        """A table as nft's JSON schema describes it; None where there is none."""
        ...

    def map(self, table: str, name: str) -> list[dict[str, Any]]:
        """A map with its elements, in the same way; nothing where there is none."""
        ...

    def close(self) -> None: ...


def find() -> Nft:
    """The library where it can be loaded, else the command. Raises `NftError` with what is missing,
    or what forbids its use."""
    nft: Nft
    try:
        nft = Library()
    except OSError:
        nft = Command()
    nft.table("inet meshkube", elements=False)
    return nft


def reader(nft: Nft, ruleset: Iterable[str]) -> Nft:
    """Who lists this ruleset. Of what JSON has no word for (updates of maps, 1.0.6) the library
    complains on standard error: better on that of another process, though it takes longer."""
    updates = any(is_class(name) and is_memory(name) for name in ruleset)
    return Command() if updates and shutil.which("nft", path=_path()) else nft


class Library:
    """libnftables: see its man page, libnftables(3)."""

    def __init__(self) -> None:
        """Raises `OSError` where the library is not installed."""
        library = ctypes.CDLL("libnftables.so.1")
        library.nft_ctx_new.restype = ctypes.c_void_p
        library.nft_ctx_new.argtypes = [ctypes.c_uint32]
        for name in ("nft_ctx_get_output_buffer", "nft_ctx_get_error_buffer"):
            getattr(library, name).restype = ctypes.c_char_p
            getattr(library, name).argtypes = [ctypes.c_void_p]
        for name in ("nft_ctx_buffer_output", "nft_ctx_buffer_error", "nft_ctx_free"):
            getattr(library, name).argtypes = [ctypes.c_void_p]
        library.nft_ctx_output_set_flags.argtypes = [ctypes.c_void_p, ctypes.c_uint]
        library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
        self._library = library
        self._kept: int | None = None

    def run(self, script: str) -> None:
        if len(script) > _SMALL:
            with self._context() as context:
                self._run(context, script, 0)
            return
        # Closing a context waits until the kernel has freed what the script deleted: 10 ms or
        # more. The one for changes is kept; a small script leaves little in its cache.
        if self._kept is None:
            self._kept = self._open()
        try:
            self._run(self._kept, script, 0)
        except NftError:
            self.close()
            raise

    def table(self, name: str, *, elements: bool = True) -> list[dict[str, Any]] | None:
        return self._list(f"table {name}", _JSON if elements else _JSON | _TERSE)

    def map(self, table: str, name: str) -> list[dict[str, Any]]:
        return self._list(f"map {table} {name}", _JSON) or []

    def _list(self, what: str, flags: int) -> list[dict[str, Any]] | None:
        try:
            with self._context() as context:
                return _parse(self._run(context, f"list {what}", flags))
        except NftError as error:
            if _is_absent(error):
                return None
            raise

    def close(self) -> None:
        """Lets go of what is kept between calls; the next call takes it again."""
        if self._kept is not None:
            self._library.nft_ctx_free(self._kept)
            self._kept = None

    @contextlib.contextmanager
    def _context(self) -> Iterator[int]:
        context = self._open()
        try:
            yield context
        finally:
            self._library.nft_ctx_free(context)

    def _open(self) -> int:
        context = self._library.nft_ctx_new(0)
        if not context:
            raise NftError("libnftables could not start")
        self._library.nft_ctx_buffer_output(context)
        self._library.nft_ctx_buffer_error(context)
        return cast(int, context)

    def _run(self, context: int, script: str, flags: int) -> str:
        library = self._library
        library.nft_ctx_output_set_flags(context, flags)
        failed = library.nft_run_cmd_from_buffer(context, script.encode())
        # Reading a buffer empties it.
        error = library.nft_ctx_get_error_buffer(context)
        output = library.nft_ctx_get_output_buffer(context)
        if failed:
            raise NftError(_first_line(error))
        return cast(bytes, output or b"").decode()


class Command:
    """The `nft` command, started for each script."""

    def run(self, script: str) -> None:
        self._run(["-f", "-"], script)

    def table(self, name: str, *, elements: bool = True) -> list[dict[str, Any]] | None:
        return self._list(f"table {name}", *([] if elements else ["-t"]))

    def map(self, table: str, name: str) -> list[dict[str, Any]]:
        return self._list(f"map {table} {name}") or []

    def _list(self, what: str, *flags: str) -> list[dict[str, Any]] | None:
        try:
            return _parse(self._run(["-j", *flags, "list", *what.split()], ""))
        except NftError as error:
            if _is_absent(error):
                return None
            raise

    def close(self) -> None:
        """Nothing is kept between calls."""

    def _run(self, arguments: list[str], script: str) -> str:
        try:
            done = subprocess.run(
                ["nft", *arguments],
                input=script.encode(),
                capture_output=True,
                timeout=_TIMEOUT,
                check=False,
                env={**os.environ, "PATH": _path()},
            )
        except FileNotFoundError:
            raise NftError("`nft` is not installed (Debian package: nftables)") from None
        except subprocess.TimeoutExpired:
            raise NftError(f"`nft` did not end within {_TIMEOUT:.0f} s") from None
        if done.returncode:
            raise NftError(_first_line(done.stderr))
        return done.stdout.decode()


def _path() -> str:
    return os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


def _is_absent(error: NftError) -> bool:
    return "No such file or directory" in str(error)


def _parse(text: str) -> list[dict[str, Any]]:
    return cast(list[dict[str, Any]], orjson.loads(text)["nftables"])


def _first_line(text: bytes | None) -> str:
    """nft repeats the script under its message: one line says what is wrong."""
    lines = (text or b"").decode(errors="replace").strip().splitlines()
    return lines[0][:500] if lines else "nft failed without a message"
