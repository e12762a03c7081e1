"""Running nft scripts: inside this process through libnftables, or by the `nft` command.

The library saves the start of a process: a change of a few elements takes it less than a
millisecond. Debian's `nftables` package brings both. Each call is one transaction.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import json
import os
import subprocess
from typing import Any, Protocol, cast

_JSON = 1 << 4
_TERSE = 1 << 11
_TIMEOUT = 120.0


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

    def run(self, script: str) -> None:
        self._run(script, 0)

    def table(self, name: str, *, elements: bool = True) -> list[dict[str, Any]] | None:
        try:
            text = self._run(f"list table {name}", _JSON if elements else _JSON | _TERSE)
        except NftError as error:
            if _is_absent(error):
                return None
            raise
        return _parse(text)

    def _run(self, script: str, flags: int) -> str:
        # A context for each call: it keeps nothing of the kernel's state from one to the next.
        library = self._library
        context = library.nft_ctx_new(0)
        if not context:
            raise NftError("libnftables could not start")
        try:
            library.nft_ctx_buffer_output(context)
            library.nft_ctx_buffer_error(context)
            library.nft_ctx_output_set_flags(context, flags)
            failed = library.nft_run_cmd_from_buffer(context, script.encode())
            if failed:
                raise NftError(_first_line(library.nft_ctx_get_error_buffer(context)))
            return cast(bytes, library.nft_ctx_get_output_buffer(context) or b"").decode()
        finally:
            library.nft_ctx_free(context)


class Command:
    """The `nft` command, started for each script."""

    def run(self, script: str) -> None:
        self._run(["-f", "-"], script)

    def table(self, name: str, *, elements: bool = True) -> list[dict[str, Any]] | None:
        terse = [] if elements else ["-t"]
        try:
            return _parse(self._run(["-j", *terse, "list", "table", *name.split()], ""))
        except NftError as error:
            if _is_absent(error):
                return None
            raise

    def _run(self, arguments: list[str], script: str) -> str:
        path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
        try:
            done = subprocess.run(
                ["nft", *arguments],
                input=script.encode(),
                capture_output=True,
                timeout=_TIMEOUT,
                check=False,
                env={**os.environ, "PATH": path},
            )
        except FileNotFoundError:
            raise NftError("`nft` is not installed (Debian package: nftables)") from None
        except subprocess.TimeoutExpired:
            raise NftError(f"`nft` did not end within {_TIMEOUT:.0f} s") from None
        if done.returncode:
            raise NftError(_first_line(done.stderr))
        return done.stdout.decode()


def _is_absent(error: NftError) -> bool:
    return "No such file or directory" in str(error)


def _parse(text: str) -> list[dict[str, Any]]:
    return cast(list[dict[str, Any]], json.loads(text)["nftables"])


def _first_line(text: bytes | None) -> str:
    """nft repeats the script under its message: one line says what is wrong."""
    lines = (text or b"").decode(errors="replace").strip().splitlines()
    return lines[0][:500] if lines else "nft failed without a message"
