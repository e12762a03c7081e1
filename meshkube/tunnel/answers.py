"""Whole bodies of answers, no longer than a bound."""

from __future__ import annotations

import aiohttp


async def whole(answer: aiohttp.ClientResponse, limit: int) -> bytes:
    """Raises `ValueError` where it is longer than `limit` bytes, and what aiohttp raises."""
    pieces, size = [], 0
    async for piece in answer.content.iter_any():
        pieces.append(piece)
        size += len(piece)
        if size > limit:
            raise ValueError(f"the answer is larger than {limit} bytes")
    return b"".join(pieces)
