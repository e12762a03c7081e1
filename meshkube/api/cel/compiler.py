"""Expressions as closures: each takes the frame of one evaluation and gives a value.

What is known of the shape of a variable is checked while compiling: a field that the schema does
not have can never be there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from meshkube.api.cel import functions, kubernetes, strings
from meshkube.api.cel.lexer import place
from meshkube.api.cel.operators import BINARY, minus, no_overload
from meshkube.api.cel.parser import Node, parse
from meshkube.api.cel.values import (
    NONE,
    Budget,
    CelError,
    CompileError,
    Optional,
    Type,
    Value,
    type_name,
)


class Shape(Protocol):
    """What is known of a value (`shapes.Known` is one)."""

    def field(self, name: str) -> Shape | None:
        """Raises `CompileError` for a field that cannot be there."""
        ...

    @property
    def element(self) -> Shape | None: ...

    def read(self, value: Value) -> Value:
        """A JSON value as CEL sees it."""
        ...


class Frame:
    """Variables and budget of one evaluation."""

    __slots__ = ("budget", "names")

    def __init__(self, names: dict[str, Value], budget: Budget) -> None:
        self.names = names
        self.budget = budget


Code = Callable[[Frame], Value]
_FUNCTIONS: Final = {**functions.STANDARD, **strings.GLOBAL, **kubernetes.GLOBAL}
_METHODS: Final = {**functions.METHODS, **strings.METHODS, **kubernetes.METHODS}
_NAMESPACES: Final = ("ip", "sets", "strings", "format", "optional")
_TYPES: Final = {
    name: Type(name)
    for name in ("bool", "int", "uint", "double", "string", "bytes", "list", "map", "null_type",
                 "type")
}  # fmt: skip
_ESCAPES: Final = {
    "__underscores__": "__",
    "__dot__": ".",
    "__dash__": "-",
    "__slash__": "/",
}


class Program:
    """A compiled expression. `names` are the variables that it uses."""

    __slots__ = ("_code", "names", "text")

    def __init__(self, text: str, code: Code, names: frozenset[str]) -> None:
        self.text = text
        self.names = names
        self._code = code

    def run(self, names: Mapping[str, Value], budget: Budget) -> Value:
        """Raises `CelError` where it has no value, `OutOfBudget` where it takes too long."""
        try:
            return self._code(Frame(dict(names), budget))
        except RecursionError:
            raise CelError("expression is nested too deeply") from None


def compile_rule(text: str, variables: Mapping[str, Shape | None]) -> Program:
    """An expression over some variables; None: nothing is known of one. Raises `CompileError`."""
    compiler = _Compiler(text)
    code, _ = compiler.node(parse(text), dict(variables))
    return Program(text, code, frozenset(compiler.used))


class _Compiler:
    def __init__(self, text: str) -> None:
        self._text = text
        self.used: set[str] = set()

    def fault(self, node: Node, words: str) -> CompileError:
        return CompileError(f"{place(self._text, node.at)}: {words}")

    def code(self, node: Node, scope: Mapping[str, Shape | None]) -> Code:
        return self.node(node, scope)[0]

    def node(self, node: Node, scope: Mapping[str, Shape | None]) -> tuple[Code, Shape | None]:
        """A node's code, and what is known of its value."""
        made: tuple[Code, Shape | None] = getattr(self, f"_{node.op}")(node, scope)
        return made

    def _literal(self, node: Node, scope: Mapping[str, Shape | None]) -> tuple[Code, None]:
        value = node.parts[0]
        return (lambda frame: value), None

    def _name(self, node: Node, scope: Mapping[str, Shape | None]) -> tuple[Code, Shape | None]:
        name = node.parts[0]
        if name in scope:
            self.used.add(name)
            return (lambda frame: frame.names[name]), scope[name]
        if name in _TYPES:
            held = _TYPES[name]
            return (lambda frame: held), None
        raise self.fault(node, f"undeclared reference to '{name}' (in container '')")

    def _select(self, node: Node, scope: Mapping[str, Shape | None]) -> tuple[Code, Shape | None]:
        below, name, optional = node.parts
        name = _unescaped(name)
        code, shape = self.node(below, scope)
        found = self._field(shape, name, node)
        if optional:
            return _optional_select(code, name, found), found
        return _selected(code, name, found), found

    def _field(self, shape: Shape | None, name: str, node: Node) -> Shape | None:
        if shape is None:
            return None
        try:
            return shape.field(name)
        except CompileError as error:
            raise self.fault(node, str(error)) from None

    def _index(self, node: Node, scope: Mapping[str, Shape | None]) -> tuple[Code, Shape | None]:
        below, key, optional = node.parts
        code, shape = self.node(below, scope)
        index = self.code(key, scope)
        element = shape.element if shape is not None else None
        if optional:
            return _optional_index(code, index, element), element
        return _indexed(code, index, element), element

    def _list(self, node: Node, scope: Mapping[str, Shape | None]) -> tuple[Code, None]:
        parts = [(self.code(one, scope), optional) for one, optional in node.parts]

        def code(frame: Frame) -> Value:
            frame.budget.spend(len(parts) + 1)
            out = []
            for part, optional in parts:
                value = part(frame)
                if not optional:
                    out.append(value)
                elif _is_optional(value).has:
                    out.append(value.held)
            return out

        return code, None

    def _map(self, node: Node, scope: Mapping[str, Shape | None]) -> tuple[Code, None]:
        parts = [(self.code(k, scope), self.code(v, scope), opt) for k, v, opt in node.parts]

        def code(frame: Frame) -> Value:
            frame.budget.spend(len(parts) + 1)
            out: dict[Any, Value] = {}
            for key_code, value_code, optional in parts:
                key, value = key_code(frame), value_code(frame)
                if not isinstance(key, str | int | bool):
                    raise CelError(f"unsupported key type: {type_name(key)}")
                if not optional:
                    out[key] = value
                elif _is_optional(value).has:
                    out[key] = value.held
            return out

        return code, None

    def _if(self, node: Node, scope: Mapping[str, Shape | None]) -> tuple[Code, Shape | None]:
        test = self.code(node.parts[0], scope)
        yes, shape = self.node(node.parts[1], scope)
        no, other = self.node(node.parts[2], scope)
        code: Code = lambda frame: yes(frame) if _truth(test(frame)) else no(frame)  # noqa: E731
        return code, shape if shape is other else None

    def _and(self, node: Node, scope: Mapping[str, Shape | None]) -> tuple[Code, None]:
        return self._junction(node, scope, False), None

    def _or(self, node: Node, scope: Mapping[str, Shape | None]) -> tuple[Code, None]:
        return self._junction(node, scope, True), None

    def _junction(self, node: Node, scope: Mapping[str, Shape | None], decides: bool) -> Code:
        """`&&` (False decides) or `||`: an error on one side yields to a decision on the other."""
        one, other = (self.code(part, scope) for part in node.parts)

        def code(frame: Frame) -> bool:
            frame.budget.spend(1)
            try:
                if _truth(one(frame)) is decides:
                    return decides
            except CelError:
                if _truth(other(frame)) is decides:
                    return decides
                raise
            return _truth(other(frame))

        return code

    def _not(self, node: Node, scope: Mapping[str, Shape | None]) -> tuple[Code, None]:
        below = self.code(node.parts[0], scope)
        return (lambda frame: not _truth(below(frame))), None

    def _minus(self, node: Node, scope: Mapping[str, Shape | None]) -> tuple[Code, None]:
        below = self.code(node.parts[0], scope)
        return (lambda frame: minus(below(frame))), None

    def _binary(self, node: Node, scope: Mapping[str, Shape | None]) -> tuple[Code, None]:
        sign, *parts = node.parts
        one, other = (self.code(part, scope) for part in parts)
        operator = BINARY[sign]

        def code(frame: Frame) -> Value:
            frame.budget.spend(1)
            return operator(one(frame), other(frame), frame.budget)

        return code, None

    def _call(self, node: Node, scope: Mapping[str, Shape | None]) -> tuple[Code, Shape | None]:
        from meshkube.api.cel.macros import MACROS, TARGETED

        target, name, arguments = node.parts
        macros = MACROS if target is None else TARGETED
        macro = macros.get((name, len(arguments)))
        if macro is not None:
            return macro(self, node, scope)
        if _is_namespace(target, scope):
            return self._function(node, f"{target.parts[0]}.{name}", arguments, scope), None
        if target is None:
            return self._function(node, name, arguments, scope), None
        return self._method(node, scope)

    def _function(
        self, node: Node, name: str, arguments: tuple[Node, ...], scope: Mapping[str, Shape | None]
    ) -> Code:
        if name == "optional.none" and not arguments:
            return lambda frame: NONE
        function = _OPTIONAL.get((name, len(arguments))) or _FUNCTIONS.get((name, len(arguments)))
        if function is None:
            raise self.fault(node, f"undeclared reference to '{name}' (in container '')")
        return _called(function, [self.code(one, scope) for one in arguments])

    def _method(self, node: Node, scope: Mapping[str, Shape | None]) -> tuple[Code, Shape | None]:
        target, name, arguments = node.parts
        code, shape = self.node(target, scope)
        others = [self.code(one, scope) for one in arguments]
        if (name, len(arguments)) in _OF_OPTIONAL:
            known = shape if name in ("value", "orValue", "or") else None
            return _called(_OF_OPTIONAL[name, len(arguments)], [code, *others]), known
        function = _METHODS.get((name, len(arguments) + 1))
        if function is None:
            raise self.fault(node, f"undeclared reference to '{name}' (in container '')")
        return _called(function, [code, *others]), None


def _is_namespace(target: Node | None, scope: Mapping[str, Shape | None]) -> bool:
    """`sets` in `sets.contains(...)`, where no variable has that name."""
    if target is None or target.op != "name":
        return False
    return target.parts[0] in _NAMESPACES and target.parts[0] not in scope


def _called(function: functions.Function, arguments: list[Code]) -> Code:
    if len(arguments) == 1:
        (only,) = arguments

        def single(frame: Frame) -> Value:
            frame.budget.spend(1)
            return function(frame.budget, only(frame))

        return single

    def code(frame: Frame) -> Value:
        frame.budget.spend(1)
        return function(frame.budget, *[argument(frame) for argument in arguments])

    return code


def _truth(value: Value) -> bool:
    if isinstance(value, bool):
        return value
    raise no_overload("_?_:_", value)


def _unescaped(name: str) -> str:
    """`x__dot__y` is how a field `x.y` is written; `__namespace__` a field named as a keyword."""
    if "__" not in name:
        return name
    for written, meant in _ESCAPES.items():
        name = name.replace(written, meant)
    if name.startswith("__") and name.endswith("__") and len(name) > 4:
        return name[2:-2]
    return name


def _selected(below: Code, name: str, shape: Shape | None) -> Code:
    read = shape.read if shape is not None else None

    def code(frame: Frame) -> Value:
        frame.budget.spend(1)
        held = below(frame)
        if isinstance(held, Optional):
            return _optional_of(held, name, shape)
        if not isinstance(held, dict):
            raise no_overload(f"select {name}", held)
        if name not in held:
            raise CelError(f"no such key: {name}")
        value = held[name]
        return read(value) if read is not None else value

    return code


def _optional_of(held: Optional, name: Value, shape: Shape | None) -> Optional:
    if not held.has:
        return NONE
    found = present(held.held, name)
    if not found:
        return NONE
    value = held.held[name]
    return Optional(True, shape.read(value) if shape is not None else value)


def present(held: Value, key: Value) -> bool:
    """Whether a value has something under a key."""
    if isinstance(held, dict):
        return isinstance(key, str | int | bool) and key in held
    if isinstance(held, list):
        return isinstance(key, int) and not isinstance(key, bool) and 0 <= key < len(held)
    raise no_overload("_[_]", held, key)


def _optional_select(below: Code, name: str, shape: Shape | None) -> Code:
    def code(frame: Frame) -> Value:
        frame.budget.spend(1)
        held = below(frame)
        whole = held if isinstance(held, Optional) else Optional(True, held)
        return _optional_of(whole, name, shape)

    return code


def _optional_index(below: Code, index: Code, shape: Shape | None) -> Code:
    def code(frame: Frame) -> Value:
        frame.budget.spend(1)
        held = below(frame)
        whole = held if isinstance(held, Optional) else Optional(True, held)
        return _optional_of(whole, index(frame), shape)

    return code


def _indexed(below: Code, index: Code, shape: Shape | None) -> Code:
    def code(frame: Frame) -> Value:
        frame.budget.spend(1)
        held, key = below(frame), index(frame)
        if isinstance(held, Optional):
            return _optional_of(held, key, shape)
        if isinstance(key, float) and key.is_integer():
            key = int(key)
        if not present(held, key):
            if isinstance(held, list):
                raise CelError(f"index out of bounds: {key}")
            raise CelError(f"no such key: {key}")
        value = held[key]
        return shape.read(value) if shape is not None else value

    return code


def _is_optional(value: Value) -> Optional:
    if not isinstance(value, Optional):
        raise CelError(f"cannot initialize optional entry from non-optional {type_name(value)}")
    return value


def _non_zero(budget: Budget, value: Value) -> Optional:
    empty = value is None or value in (0, "", b"", [], {}) or value is False
    return NONE if empty else Optional(True, value)


_OPTIONAL: Final[dict[tuple[str, int], functions.Function]] = {
    ("optional.of", 1): lambda budget, value: Optional(True, value),
    ("optional.ofNonZeroValue", 1): _non_zero,
}


def _value(budget: Budget, held: Value) -> Value:
    if not _is_optional(held).has:
        raise CelError("optional.none() dereference")
    return held.held


_OF_OPTIONAL: Final[dict[tuple[str, int], functions.Function]] = {
    ("hasValue", 0): lambda budget, held: _is_optional(held).has,
    ("value", 0): _value,
    ("orValue", 1): lambda budget, held, other: held.held if _is_optional(held).has else other,
    ("or", 1): lambda budget, held, other: held if _is_optional(held).has else other,
}
