"""Lines out of a stream of bytes, however long they are and however they were cut."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator


async def split(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """The lines in `chunks` without their ends; empty ones are left out, and so is a last one
    without an end: the stream broke off within it."""
    parts: list[bytes] = []
    async for chunk in chunks:
        first, *rest = chunk.split(b"\n")
        parts.append(first)
        if not rest:
            continue
        line = b"".join(parts)
        if line:
            yield line
        for line in rest[:-1]:
            if line:
                yield line
        parts = [rest[-1]] if rest[-1] else []
