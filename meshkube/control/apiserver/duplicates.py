"""What a body says twice. Decoders keep the last of it; who made the body may have meant the other.

Pure. Source: Kubernetes documentation, "API concepts" (field validation).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from typing import Any

import orjson
import yaml

MOST = 100
"""So many are told of."""
_KEY = b'":'


def of_json(content: bytes, parsed: Any) -> tuple[str, ...]:
    """`duplicate field "spec.replicas"` for each. `parsed` is what `content` was read as."""
    found = orjson.dumps(parsed).count(_KEY)
    if content.count(_KEY) + content.count(b'" :') == found:
        return ()  # every key that was written is there
    try:
        marked = json.loads(content, object_pairs_hook=_Marked)
    except (ValueError, RecursionError):
        return ()
    return tuple(f'duplicate field "{path}"' for path in islice(_paths(marked, ""), MOST))


class _Marked(dict[str, Any]):
    """An object that knows which of its keys it had before."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.twice: list[str] = []
        if len(self) != len(pairs):
            seen: set[str] = set()
            for key, _ in pairs:
                if key in seen and key not in self.twice:
                    self.twice.append(key)
                seen.add(key)


def _paths(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, list):
        for index, one in enumerate(value):
            yield from _paths(one, f"{path}[{index}]")
    elif isinstance(value, _Marked):
        below = f"{path}." if path else ""
        yield from (below + key for key in value.twice)
        for key, one in value.items():
            yield from _paths(one, below + key)


def of_yaml(content: bytes) -> tuple[str, ...]:
    """`line 9: key "foo" already set in map` for each; JSON is YAML too."""
    try:
        root = yaml.compose(content, Loader=yaml.CSafeLoader)
    except (yaml.YAMLError, RecursionError):
        return ()
    found = list(islice(_lines(root), MOST))
    return (f"yaml: unmarshal errors: {', '.join(found)}",) if found else ()


def _lines(root: yaml.Node | None) -> Iterator[str]:
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if isinstance(node, yaml.SequenceNode):
            waiting += reversed(node.value)
        elif isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for key, value in node.value:
                if isinstance(key, yaml.ScalarNode):
                    if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                        line = key.start_mark.line + 1
                        yield f'line {line}: key "{key.value}" already set in map'
                    seen.add(key.value)
                waiting.append(value)
