"""Sets of completion indexes as text: `0-2,5`. Pure.

Source: the Job API, `status.completedIndexes`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator


def parse(text: str, below: int) -> set[int]:
    """The indexes in the text that are less than `below`; what cannot be read counts as none."""
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        if first.isdigit() and (not last or last.isdigit()):
            found.update(range(int(first), min(int(last or first) + 1, below)))
    return found


def shown(indexes: Iterable[int]) -> str:
    """The shortest text: runs of three and more as a range, two as two numbers."""
    return ",".join(_run(first, last) for first, last in _runs(sorted(indexes)))


def _run(first: int, last: int) -> str:
    if first == last:
        return str(first)
    return f"{first},{last}" if last == first + 1 else f"{first}-{last}"


def _runs(ordered: list[int]) -> Iterator[tuple[int, int]]:
    first = last = None
    for index in ordered:
        if last is not None and index == last + 1:
            last = index
            continue
        if first is not None and last is not None:
            yield first, last
        first = last = index
    if first is not None and last is not None:
        yield first, last
