"""What a body says twice, as clients are told of it."""

from __future__ import annotations

import orjson
import pytest

from meshkube.control.apiserver import duplicates


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"spec":{"replicas":1,"replicas":2}}', ("spec.replicas",)),
        ('{"a":[{"b":1},{"b":1,"b":2}],"a":[{"c":1,"c" :2}]}', ("a", "a[0].c")),
        ('{"a":"\\":","b":1}', ()),
        ('{"a":"x","b":{"a":"x"}}', ()),
    ],
)
def test_keys_that_json_has_twice(text: str, found: tuple[str, ...]) -> None:
    content = text.encode()
    told = duplicates.of_json(content, orjson.loads(content))
    assert told == tuple(f'duplicate field "{path}"' for path in found)


def test_keys_that_yaml_has_twice_are_told_with_their_line() -> None:
    content = b"\na: 1\nspec:\n  foo: 1\n  foo: 2\nlist:\n- x: 1\n  x: 2\n"
    (words,) = duplicates.of_yaml(content)
    assert 'line 5: key "foo" already set in map' in words
    assert 'line 8: key "x" already set in map' in words
    assert duplicates.of_yaml(b"a: {b: 1}\nc: {b: 1}\n") == ()
