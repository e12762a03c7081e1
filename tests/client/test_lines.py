import asyncio
from collections.abc import AsyncIterator, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshkube.client.lines import split


async def chunks(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def lines(*pieces: bytes) -> list[bytes]:
    return [line async for line in split(chunks(pieces))]


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([], []),
        ([b"one\n"], [b"one"]),
        ([b"one\ntwo\n"], [b"one", b"two"]),
        ([b"o", b"n", b"e", b"\n"], [b"one"]),
        ([b"one\nt", b"wo\nthree", b"\n"], [b"one", b"two", b"three"]),
        ([b"\n\none\n\n"], [b"one"]),
        ([b"one\nbroken of"], [b"one"]),
        ([b"x" * 1_000_000, b"y" * 1_000_000 + b"\n"], [b"x" * 1_000_000 + b"y" * 1_000_000]),
    ],
)
async def test_lines(pieces: list[bytes], expected: list[bytes]) -> None:
    assert await lines(*pieces) == expected


@given(st.lists(st.sampled_from([b"a", b"bc", b"\n", b"d\ne", b"\n\n", b""])))
def test_cuts_do_not_matter(pieces: list[bytes]) -> None:

    whole = b"".join(pieces)
    expected = [line for line in whole.split(b"\n")[:-1] if line]
    assert asyncio.run(lines(*pieces)) == expected
