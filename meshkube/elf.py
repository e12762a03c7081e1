"""Static executables of a few hundred bytes, and images with one such file alone.

Hosts have no compiler and images come from nowhere: what must run in a container of our own is
written as machine code beside what it says.
"""

from __future__ import annotations

import io
import struct
import tarfile
from collections.abc import Mapping

# The machine numbers of ELF, by the kernel's name for the machine.
_NUMBERS = {"x86_64": 62, "aarch64": 183}
_NAMES = {"amd64": "x86_64", "arm64": "aarch64"}

_LOAD_ADDRESS = 0x400000
_HEADERS = 64 + 56


def executable(machine: str, listings: Mapping[str, str], data: bytes) -> bytes:
    """The ELF file for a machine, in the kernel's name for it or Docker's (`amd64`): the listing's
    code, then `data`. Raises `ValueError` for a machine without a listing."""
    name = _NAMES.get(machine, machine)
    if name not in listings:
        raise ValueError(f"no executable for machine {machine!r}")
    code = _assembled(listings[name]) + data
    size = _HEADERS + len(code)
    header = struct.pack(
        "<4sBBBB8xHHIQQQIHHHHHH",
        *(b"\x7fELF", 2, 1, 1, 0),  # 64 bits, little-endian, version 1, System V
        *(2, _NUMBERS[name], 1, _LOAD_ADDRESS + _HEADERS),  # executable; where it starts
        *(64, 0, 0, 64, 56, 1, 64, 0, 0),  # one program header, no sections
    )
    segment = struct.pack(
        "<IIQQQQQQ",
        *(1, 5, 0),  # load; read and execute; from the start of the file
        *(_LOAD_ADDRESS, _LOAD_ADDRESS, size, size, 0x10000),
    )
    return header + segment + code


def _assembled(listing: str) -> bytes:
    """Bytes in hexadecimal on the left of each line, what they say on the right."""
    lines = listing.strip().splitlines()
    return bytes.fromhex("".join(line.partition("|")[0] for line in lines))


def root_filesystem(name: str, content: bytes) -> bytes:
    """A tar archive with that executable alone, the same bytes each time."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode = len(content), 0o755
        tar.addfile(entry, io.BytesIO(content))
    return archive.getvalue()
