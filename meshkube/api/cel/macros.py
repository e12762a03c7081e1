"""CEL's macros: `has`, and what goes over lists and maps.

Source: google/cel-spec, "Macros"; comprehensions over two variables as in cel-go's extension.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from meshkube.api.cel.compiler import Code, Frame, Shape, _Compiler, _truth, _unescaped, present
from meshkube.api.cel.operators import no_overload
from meshkube.api.cel.parser import Node
from meshkube.api.cel.values import NONE, CelError, Optional, Value

Scope = Mapping[str, Shape | None]
Made = tuple[Code, Shape | None]
Macro = Callable[[_Compiler, Node, Scope], Made]


def _has(compiler: _Compiler, node: Node, scope: Scope) -> Made:
    (field,) = node.parts[2]
    if field.op != "select" or field.parts[2]:
        raise compiler.fault(node, "invalid argument to has() macro")
    below, name, _ = field.parts
    name = _unescaped(name)
    code, shape = compiler.node(below, scope)
    compiler._field(shape, name, field)

    def test(frame: Frame) -> bool:
        frame.budget.spend(1)
        held = code(frame)
        if isinstance(held, Optional):
            held = held.held if held.has else {}
        if not isinstance(held, dict):
            raise no_overload(f"has({name})", held)
        return present(held, name) and held[name] is not None

    return test, None


def _names(compiler: _Compiler, node: Node, count: int) -> list[str]:
    found = []
    for one in node.parts[2][:count]:
        if one.op != "name":
            raise compiler.fault(one, "argument must be a simple name")
        found.append(one.parts[0])
    if len(set(found)) != len(found):
        raise compiler.fault(node, "iteration variables must differ")
    return found


def _over(values: Value, pairs: bool) -> Iterable[tuple[Value, Value]]:
    """What a comprehension goes over: elements of a list, keys of a map, or both of either."""
    if isinstance(values, list):
        return enumerate(values) if pairs else ((one, None) for one in values)
    if isinstance(values, dict):
        return list(values.items()) if pairs else [(key, None) for key in values]
    raise no_overload("comprehension", values)


class _Loop:
    """A comprehension: its variables, its range, and the expressions it evaluates for each."""

    def __init__(self, compiler: _Compiler, node: Node, scope: Scope, variables: int) -> None:
        target, _, arguments = node.parts
        self.pairs = variables == 2
        self._names = _names(compiler, node, variables)
        self._range, shape = compiler.node(target, scope)
        element = shape.element if shape is not None else None
        is_map = shape is not None and getattr(shape, "is_map", False)
        known = element if self.pairs or not is_map else None
        self._read = known.read if known is not None else None
        inner = dict(scope)
        for name in self._names:
            inner[name] = None
        if known is not None:
            inner[self._names[-1]] = known
        self.codes = [compiler.code(one, inner) for one in arguments[variables:]]

    def steps(self, frame: Frame) -> Iterable[Frame]:
        """A frame for each element."""
        values = self._range(frame)
        if isinstance(values, Optional):
            values = values.held if values.has else []
        names = dict(frame.names)
        inner = Frame(names, frame.budget)
        for one, other in _over(values, self.pairs):
            frame.budget.spend(2)
            last = other if self.pairs else one
            names[self._names[0]] = one
            names[self._names[-1]] = self._read(last) if self._read is not None else last
            yield inner

    def key(self, frame: Frame) -> Value:
        return frame.names[self._names[0]]


def _quantifier(decides: bool, variables: int) -> Macro:
    """`all` (False decides) and `exists`: an error yields to a decision of another element."""

    def macro(compiler: _Compiler, node: Node, scope: Scope) -> Made:
        loop = _Loop(compiler, node, scope, variables)
        (test,) = loop.codes

        def code(frame: Frame) -> bool:
            failed: CelError | None = None
            for inner in loop.steps(frame):
                try:
                    if _truth(test(inner)) is decides:
                        return decides
                except CelError as error:
                    failed = failed or error
            if failed is not None:
                raise failed
            return not decides

        return code, None

    return macro


def _exists_one(variables: int) -> Macro:
    def macro(compiler: _Compiler, node: Node, scope: Scope) -> Made:
        loop = _Loop(compiler, node, scope, variables)
        (test,) = loop.codes
        return (lambda frame: sum(_truth(test(one)) for one in loop.steps(frame)) == 1), None

    return macro


def _filter(compiler: _Compiler, node: Node, scope: Scope) -> Made:
    loop = _Loop(compiler, node, scope, 1)
    (test,) = loop.codes
    _, shape = compiler.node(node.parts[0], scope)
    is_map = shape is not None and getattr(shape, "is_map", False)
    code: Code = lambda frame: [loop.key(one) for one in loop.steps(frame) if _truth(test(one))]  # noqa: E731
    return code, None if is_map else shape


def _map(compiler: _Compiler, node: Node, scope: Scope) -> Made:
    loop = _Loop(compiler, node, scope, 1)
    if len(loop.codes) == 1:
        (change,) = loop.codes
        return (lambda frame: [change(one) for one in loop.steps(frame)]), None
    test, change = loop.codes
    return (lambda frame: [change(one) for one in loop.steps(frame) if _truth(test(one))]), None


def _transform_list(compiler: _Compiler, node: Node, scope: Scope) -> Made:
    loop = _Loop(compiler, node, scope, 2)
    *tests, change = loop.codes

    def code(frame: Frame) -> Value:
        steps = loop.steps(frame)
        return [change(one) for one in steps if all(_truth(test(one)) for test in tests)]

    return code, None


def _transform_map(compiler: _Compiler, node: Node, scope: Scope) -> Made:
    loop = _Loop(compiler, node, scope, 2)
    *tests, change = loop.codes

    def code(frame: Frame) -> Value:
        steps = loop.steps(frame)
        return {
            loop.key(one): change(one) for one in steps if all(_truth(test(one)) for test in tests)
        }

    return code, None


def _optional_map(flat: bool) -> Macro:
    def macro(compiler: _Compiler, node: Node, scope: Scope) -> Made:
        (name,) = _names(compiler, node, 1)
        target, shape = compiler.node(node.parts[0], scope)
        change = compiler.code(node.parts[2][1], {**scope, name: shape})

        def code(frame: Frame) -> Value:
            held = target(frame)
            if not isinstance(held, Optional):
                raise no_overload("optMap", held)
            if not held.has:
                return NONE
            value = change(Frame({**frame.names, name: held.held}, frame.budget))
            return value if flat else Optional(True, value)

        return code, None

    return macro


MACROS: Final[dict[tuple[str, int], Macro]] = {("has", 1): _has}
TARGETED: Final[dict[tuple[str, int], Macro]] = {
    ("all", 2): _quantifier(False, 1),
    ("all", 3): _quantifier(False, 2),
    ("exists", 2): _quantifier(True, 1),
    ("exists", 3): _quantifier(True, 2),
    ("exists_one", 2): _exists_one(1),
    ("existsOne", 2): _exists_one(1),
    ("exists_one", 3): _exists_one(2),
    ("existsOne", 3): _exists_one(2),
    ("filter", 2): _filter,
    ("map", 2): _map,
    ("map", 3): _map,
    ("transformList", 3): _transform_list,
    ("transformList", 4): _transform_list,
    ("transformMap", 3): _transform_map,
    ("transformMap", 4): _transform_map,
    ("optMap", 2): _optional_map(False),
    ("optFlatMap", 2): _optional_map(True),
}
