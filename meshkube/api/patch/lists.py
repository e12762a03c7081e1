"""How the elements of a merged list are told apart and put in order."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from meshkube.api.errors import bad_request


class Elements:
    """Tells the elements of a list apart: by their merge key, or scalars by themselves."""

    def __init__(self, merge_key: str) -> None:
        self._merge_key = merge_key

    def key(self, element: Any) -> Hashable:
        """Raises `ApiError` 400 for an object that lacks the merge key."""
        key = self.key_or_none(element)
        if key is None:
            raise bad_request(
                f"map: {element} does not contain declared merge key: {self._merge_key}"
            )
        return key

    def key_or_none(self, element: Any) -> Hashable | None:
        value = element.get(self._merge_key) if isinstance(element, dict) else element
        if isinstance(value, dict | list):
            return str(value)
        # 1 and true are one dictionary key, and two values in JSON.
        return (type(value) is bool, value) if value is not None else None


def check_order(patch: list[Any], order: list[Any], elements: Elements) -> None:
    """Raises `ApiError` 400 unless the patch's elements are all in `order`, in that order."""
    wanted = iter([elements.key_or_none(one) for one in order])
    for element in patch:
        key = elements.key(element)
        if not any(key == one for one in wanted):
            raise bad_request(
                f"The order in patch list:\n{patch}\n doesn't match $setElementOrder list:"
                f"\n{order}\n"
            )


def arrange(
    merged: list[Any], order: list[Any], before: list[Any], elements: Elements
) -> list[Any]:
    """`merged`, with the elements that `order` names in that order, and the others in between
    them so as they stood in `before`, as far as the two orders agree."""
    key_of = elements.key_or_none
    rank = _ranks(order, elements)
    was = _ranks(before, elements)
    named = [one for one in merged if key_of(one) in rank]
    others = [one for one in merged if key_of(one) not in rank]
    named.sort(key=lambda one: rank[key_of(one)])
    others.sort(key=lambda one: was.get(key_of(one), len(was)))
    out, left = [], 0
    for element in named:
        place = was.get(key_of(element), -1)
        while left < len(others) and was.get(key_of(others[left]), place) < place:
            out.append(others[left])
            left += 1
        out.append(element)
    return out + others[left:]


def _ranks(elements: list[Any], kind: Elements) -> dict[Hashable, int]:
    ranks: dict[Hashable, int] = {}
    for index, element in enumerate(elements):
        ranks.setdefault(kind.key_or_none(element), index)
    return ranks
