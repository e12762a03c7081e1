"""Strategic merge patch: a merge patch that knows from the schema how each list is merged.

Source: the Kubernetes documents, "Update API Objects in Place Using kubectl patch" and
"Strategic Merge Patch" of the community's design documents (directives `$patch`, `$retainKeys`,
`$setElementOrder/x`, `$deleteFromPrimitiveList/x`). Where the schema says nothing of a field,
objects are merged and lists are replaced.
"""

from __future__ import annotations

from typing import Any

from meshkube.api.errors import ApiError, bad_request
from meshkube.api.patch.lists import Elements, arrange, check_order
from meshkube.api.patch.values import SchemaNode, type_name
from meshkube.api.types import JSON, Object, clone

_DIRECTIVE = "$patch"
_RETAIN = "$retainKeys"
_ORDER = "$setElementOrder/"
_DROP = "$deleteFromPrimitiveList/"


def strategic_merge(doc: Object, patch: JSON, schema: SchemaNode | None) -> Object:
    """`doc` with `patch` merged in as `schema` says. Raises `ApiError` 400 for a patch that is
    malformed: an unknown directive, an element without its merge key..."""
    if not isinstance(patch, dict):
        raise bad_request(f"a strategic merge patch must be an object, not {type_name(patch)}")
    return _merge_map(clone(doc), patch, schema)


def _merge_map(target: Object, patch: Object, node: SchemaNode | None) -> Object:
    """Merges into `target` itself, and returns what takes its place."""
    if _DIRECTIVE in patch:
        return _whole_map(patch, node)
    if _RETAIN in patch:
        _retain(target, patch)
    done = {_RETAIN}
    for key in patch:
        if key.startswith(_ORDER):
            name = key.removeprefix(_ORDER)
            _ordered_list(target, patch, name, patch[key], node)
            done |= {key, name}
    for key, value in patch.items():
        if key not in done:
            _merge_key(target, key, value, node)
    return target


def _whole_map(patch: Object, node: SchemaNode | None) -> Object:
    directive = patch[_DIRECTIVE]
    if directive == "replace":
        return _merge_map({}, {key: patch[key] for key in patch if key != _DIRECTIVE}, node)
    if directive == "delete":
        return {}
    if directive == "merge":
        raise bad_request("merging maps cannot be specified in the patch")
    raise _unknown_directive(directive)


def _unknown_directive(directive: Any) -> ApiError:
    return bad_request(f"unknown patch type: {directive}")


def _retain(target: Object, patch: Object) -> None:
    """Drops what `$retainKeys` does not name."""
    retained = patch[_RETAIN]
    if not isinstance(retained, list):
        raise bad_request("invalid patch format of retainKeys")
    for key, value in patch.items():
        if value is not None and not key.startswith("$") and key not in retained:
            raise bad_request("invalid patch format of retainKeys")
    for key in [key for key in target if key not in retained]:
        del target[key]


def _merge_key(target: Object, key: str, value: JSON, node: SchemaNode | None) -> None:
    if key.startswith(_DROP):
        _drop(target, key.removeprefix(_DROP), value)
    elif value is None:
        target.pop(key, None)
    elif key in target or not _deletes(value):
        target[key] = _merge_value(target.get(key), value, node.field(key) if node else None)


def _deletes(value: JSON) -> bool:
    return isinstance(value, dict) and value.get(_DIRECTIVE) == "delete"


def _drop(target: Object, name: str, values: JSON) -> None:
    """`$deleteFromPrimitiveList`: takes these values out of a list of scalars."""
    if not isinstance(values, list) or any(isinstance(one, dict | list) for one in values):
        raise bad_request("invalid patch format of primitive list")
    held = target.get(name)
    if isinstance(held, list):
        target[name] = [one for one in held if one not in values]


def _merge_value(held: JSON, value: JSON, node: SchemaNode | None) -> JSON:
    strategy = node.patch_strategy if node else frozenset[str]()
    if isinstance(value, dict):
        keep = isinstance(held, dict) and "replace" not in strategy
        return _merge_map(held if keep else {}, value, node)
    if isinstance(value, list):
        if "merge" in strategy and node is not None:
            return _merge_list(held if isinstance(held, list) else [], value, node)
        return _taken(value)
    return value


def _taken(value: JSON) -> JSON:
    """A copy without directives and nulls: what a patch brings that nothing is merged with."""
    if isinstance(value, dict):
        return {
            key: _taken(held)
            for key, held in value.items()
            if held is not None and key not in (_DIRECTIVE, _RETAIN)
        }
    if isinstance(value, list):
        return [_taken(held) for held in value if not _is_directive(held)]
    return value


def _is_directive(element: JSON) -> bool:
    """True for a list's element that is only there for its `$patch`."""
    return isinstance(element, dict) and _DIRECTIVE in element


def _merge_list(held: list[Any], patch: list[Any], node: SchemaNode) -> list[Any]:
    """Merges by the merge key, or as a set of scalars where there is none."""
    elements = Elements(node.merge_key)
    maps = [isinstance(one, dict) for one in (*held, *patch)]
    if not any(maps):
        return _merge_scalars(held, patch, elements)
    if not all(maps):
        raise bad_request("cannot merge lists of objects and of scalars")
    if not node.merge_key:
        raise bad_request("cannot merge lists without merge key")
    held, patch = _directed(held, patch, elements)
    merged = _merge_elements(held, patch, node, elements)
    return arrange(merged, patch, held, elements)


def _merge_scalars(held: list[Any], patch: list[Any], elements: Elements) -> list[Any]:
    if any(isinstance(one, list) for one in (*held, *patch)):
        raise bad_request("lists of lists are not supported")
    merged = list({elements.key_or_none(one): one for one in (*held, *patch)}.values())
    return arrange(merged, patch, held, elements)


def _directed(held: list[Any], patch: list[Any], elements: Elements) -> tuple[list[Any], list[Any]]:
    """Acts on the elements that have a `$patch`: what is left of both lists."""
    plain, replace = [], False
    for element in patch:
        if not _is_directive(element):
            plain.append(element)
            continue
        directive = element[_DIRECTIVE]
        if directive == "delete":
            gone = elements.key(element)
            held = [one for one in held if elements.key_or_none(one) != gone]
        elif directive == "replace":
            replace = True
        elif directive == "merge":
            raise bad_request("merging lists cannot yet be specified in the patch")
        else:
            raise _unknown_directive(directive)
    return ([], plain) if replace else (held, plain)


def _merge_elements(
    held: list[Any], patch: list[Any], node: SchemaNode, elements: Elements
) -> list[Any]:
    merged = list(held)
    at = {elements.key_or_none(one): index for index, one in enumerate(merged)}
    for element in patch:
        key = elements.key(element)
        if key in at:
            merged[at[key]] = _merge_map(merged[at[key]], element, node.items)
        else:
            at[key] = len(merged)
            merged.append(_merge_map({}, element, node.items))
    return merged


def _ordered_list(
    target: Object, patch: Object, name: str, order: JSON, node: SchemaNode | None
) -> None:
    """A list that comes with its `$setElementOrder`: merged, then put in that order, with what
    only the server has in between, near where it was."""
    if not isinstance(order, list):
        raise bad_request("invalid patch format of setElementOrder list")
    child = node.field(name) if node else None
    held, brought = target.get(name), patch.get(name)
    if brought is None and name in patch:
        target.pop(name, None)
        return
    if held is None and brought is None:
        return
    if not isinstance(held, list | None) or not isinstance(brought, list | None):
        raise bad_request("invalid patch format of setElementOrder list")
    elements = Elements(child.merge_key if child else "")
    wanted = [one for one in brought or () if not _is_directive(one)]
    check_order(wanted, order, elements)
    merged = held if brought is None else _merge_value(held, brought, child)
    target[name] = arrange(merged or [], order, held or [], elements)
