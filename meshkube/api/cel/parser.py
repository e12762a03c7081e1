"""CEL text as a tree of small tuples.

Source: the grammar in google/cel-spec, with optional field selection (`a.?b`, `a[?b]`).
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from meshkube.api.cel.lexer import RESERVED, Token, place, tokens
from meshkube.api.cel.values import INT_HIGH, INT_LOW, CompileError, UInt, Value

DEEPEST: Final = 100
_RELATIONS: Final = ("==", "!=", "<", "<=", ">", ">=")


class Node(NamedTuple):
    """One place in an expression. `op` says what `parts` are:

    literal value · name text · select node text optional? · index node node optional?
    call target? name nodes · list (node, optional?)... · map (key, value, optional?)...
    if node node node · and node node · or node node · not node · minus node · binary sign a b
    """

    op: str
    parts: tuple[Any, ...]
    at: int


def parse(text: str) -> Node:
    """Raises `CompileError`."""
    return _Parser(text).whole()


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = tokens(text)
        self._next = 0
        self._depth = 0

    def whole(self) -> Node:
        node = self._expression()
        if self._peek.kind != "end":
            raise self._unexpected()
        return node

    @property
    def _peek(self) -> Token:
        return self._tokens[self._next]

    def _unexpected(self) -> CompileError:
        token = self._peek
        where = place(self._text, token.at)
        return CompileError(f"{where}: Syntax error: unexpected '{token.text}'")

    def _take(self, *signs: str) -> Token | None:
        token = self._peek
        if token.kind == "sign" and token.text in signs:
            self._next += 1
            return token
        return None

    def _expect(self, sign: str) -> Token:
        found = self._take(sign)
        if found is None:
            raise self._unexpected()
        return found

    def _expression(self) -> Node:
        self._depth += 1
        if self._depth > DEEPEST:
            where = place(self._text, self._peek.at)
            raise CompileError(f"{where}: expression is nested deeper than {DEEPEST} levels")
        node = self._or()
        mark = self._take("?")
        if mark is not None:
            yes = self._or()
            self._expect(":")
            node = Node("if", (node, yes, self._expression()), mark.at)
        self._depth -= 1
        return node

    def _or(self) -> Node:
        node = self._and()
        while sign := self._take("||"):
            node = Node("or", (node, self._and()), sign.at)
        return node

    def _and(self) -> Node:
        node = self._relation()
        while sign := self._take("&&"):
            node = Node("and", (node, self._relation()), sign.at)
        return node

    def _relation(self) -> Node:
        node = self._sum()
        while True:
            token = self._peek
            if token.kind == "name" and token.text == "in":
                self._next += 1
            elif not self._take(*_RELATIONS):
                return node
            node = Node("binary", (token.text, node, self._sum()), token.at)

    def _sum(self) -> Node:
        node = self._product()
        while sign := self._take("+", "-"):
            node = Node("binary", (sign.text, node, self._product()), sign.at)
        return node

    def _product(self) -> Node:
        node = self._unary()
        while sign := self._take("*", "/", "%"):
            node = Node("binary", (sign.text, node, self._unary()), sign.at)
        return node

    def _unary(self) -> Node:
        signs = []
        while sign := self._take("!", "-"):
            signs.append(sign)
            if sign.text != signs[0].text or len(signs) > DEEPEST:
                raise self._unexpected()
        node = self._member(negative=bool(signs) and signs[-1].text == "-")
        if signs and signs[-1].text == "-" and node.op == "negative":
            node = Node("literal", node.parts, signs.pop().at)
        for sign in reversed(signs):
            node = Node("not" if sign.text == "!" else "minus", (node,), sign.at)
        return node

    def _member(self, negative: bool) -> Node:
        node = self._primary(negative)
        if node.op == "negative":
            return node
        while True:
            if sign := self._take("[", "[?"):
                index = self._expression()
                self._expect("]")
                node = Node("index", (node, index, sign.text == "[?"), sign.at)
            elif sign := self._take(".", ".?"):
                node = self._select(node, sign)
            else:
                return node

    def _select(self, node: Node, sign: Token) -> Node:
        token = self._peek
        if token.kind not in ("name", "quoted"):
            raise self._unexpected()
        self._next += 1
        if sign.text == "." and token.kind == "name" and (paren := self._take("(")):
            return Node("call", (node, token.text, self._arguments()), paren.at)
        return Node("select", (node, token.text, sign.text == ".?"), sign.at)

    def _arguments(self, end: str = ")") -> tuple[Node, ...]:
        found: list[Node] = []
        while not self._take(end):
            if found:
                self._expect(",")
            found.append(self._expression())
        return tuple(found)

    def _primary(self, negative: bool) -> Node:
        token = self._peek
        if token.kind == "literal":
            self._next += 1
            return self._literal(token, negative)
        if token.kind == "name":
            return self._name(token)
        self._take(".")
        if self._peek.kind == "name" and token.text == ".":
            return self._name(self._peek)
        if self._take("("):
            node = self._expression()
            self._expect(")")
            return node
        if opened := self._take("[", "[?"):
            return self._list(token.at, opened.text == "[?")
        if self._take("{"):
            return self._map(token.at)
        raise self._unexpected()

    def _literal(self, token: Token, negative: bool) -> Node:
        """A minus belongs to the number: the lowest one has no positive twin."""
        value: Value = token.value
        number = isinstance(value, int | float) and not isinstance(value, UInt)
        if negative and number and self._peek.text not in (".", "[", ".?", "[?"):
            if isinstance(value, int) and -value < INT_LOW:
                raise CompileError(f"{place(self._text, token.at)}: invalid int literal")
            return Node("negative", (-value,), token.at)
        if number and isinstance(value, int) and value > INT_HIGH:
            raise CompileError(f"{place(self._text, token.at)}: invalid int literal")
        return Node("literal", (value,), token.at)

    def _name(self, token: Token) -> Node:
        self._next += 1
        constants = {"true": True, "false": False, "null": None}
        if token.text in constants:
            return Node("literal", (constants[token.text],), token.at)
        if token.text in RESERVED or token.text == "in":
            where = place(self._text, token.at)
            raise CompileError(f"{where}: Syntax error: reserved identifier: {token.text}")
        if paren := self._take("("):
            return Node("call", (None, token.text, self._arguments()), paren.at)
        return Node("name", (token.text,), token.at)

    def _list(self, at: int, first: bool) -> Node:
        """`first`: the first element is optional; its mark was read with the bracket."""
        found: list[tuple[Node, bool]] = []
        while not self._take("]"):
            if found:
                self._expect(",")
                if self._take("]"):
                    break
            optional = self._take("?") is not None or (first and not found)
            found.append((self._expression(), optional))
        return Node("list", tuple(found), at)

    def _map(self, at: int) -> Node:
        found: list[tuple[Node, Node, bool]] = []
        while not self._take("}"):
            if found:
                self._expect(",")
                if self._take("}"):
                    break
            optional = self._take("?") is not None
            key = self._expression()
            self._expect(":")
            found.append((key, self._expression(), optional))
        return Node("map", tuple(found), at)
