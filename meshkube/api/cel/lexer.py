"""CEL text as tokens."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from meshkube.api.cel.values import INT_HIGH, UINT_HIGH, CompileError, UInt, Value

_TOKENS: Final = re.compile(
    r"""(?P<space>(?:\s|//[^\n]*)+)
    |(?P<string>[rRbB]{0,2}(?:\"\"\"(?:[^\\]|\\.)*?\"\"\"|'''(?:[^\\]|\\.)*?'''
        |"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'))
    |(?P<float>\d+\.\d+(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+|\.\d+(?:[eE][+-]?\d+)?)
    |(?P<int>0[xX][0-9a-fA-F]+[uU]?|\d+[uU]?)
    |(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<quoted>`[A-Za-z0-9_.\-/ ]+`)
    |(?P<sign>&&|\|\||==|!=|<=|>=|\.\?|\[\?|[-+*/%<>!?:.,()\[\]{}])""",
    re.VERBOSE | re.DOTALL,
)
RESERVED: Final = frozenset(
    ("as", "break", "const", "continue", "else", "for", "function", "if", "import", "let", "loop",
     "package", "namespace", "return", "var", "void", "while")
)  # fmt: skip
_SIMPLE: Final = {
    "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v",
    "\\": "\\", "'": "'", '"': '"', "`": "`", "?": "?",
}  # fmt: skip
_ESCAPE: Final = re.compile(
    r"\\(?:(?P<simple>[abfnrtv\\'\"`?])|[xX](?P<hex>[0-9a-fA-F]{2})|u(?P<u>[0-9a-fA-F]{4})"
    r"|U(?P<U>[0-9a-fA-F]{8})|(?P<octal>[0-3][0-7]{2})|(?P<bad>.?))",
    re.DOTALL,
)
LONGEST: Final = 32 * 1024


class Token(NamedTuple):
    """`kind` is name, quoted, literal, sign or end."""

    kind: str
    text: str
    at: int
    value: Value = None


def tokens(text: str) -> list[Token]:
    """Raises `CompileError`."""
    if len(text) > LONGEST:
        raise CompileError(f"expression is longer than {LONGEST} characters")
    found: list[Token] = []
    at = 0
    while at < len(text):
        match = _TOKENS.match(text, at)
        if match is None:
            raise CompileError(f"{place(text, at)}: Syntax error: token recognition error")
        kind, part = match.lastgroup or "", match[0]
        if kind in ("string", "float", "int"):
            found.append(Token("literal", part, at, _literal(kind, part, text, at)))
        elif kind == "quoted":
            found.append(Token(kind, part[1:-1], at))
        elif kind != "space":
            found.append(Token(kind, part, at))
        at = match.end()
    found.append(Token("end", "<EOF>", at))
    return found


def place(text: str, at: int) -> str:
    """`ERROR: <input>:1:5`: line and column from one."""
    line = text.count("\n", 0, at) + 1
    return f"ERROR: <input>:{line}:{at - (text.rfind(chr(10), 0, at) + 1) + 1}"


def _literal(kind: str, part: str, text: str, at: int) -> Value:
    if kind == "float":
        return float(part)
    if kind == "int":
        unsigned = part[-1] in "uU"
        number = int(part.rstrip("uU"), 0 if part[:2] in ("0x", "0X") else 10)
        # One more than fits may still get a minus in front.
        if number > (UINT_HIGH if unsigned else INT_HIGH + 1):
            raise CompileError(
                f"{place(text, at)}: invalid {'uint' if unsigned else 'int'} literal"
            )
        return UInt(number) if unsigned else number
    prefix = re.match(r"[rRbB]*", part)
    assert prefix is not None
    marks = prefix[0].lower()
    body = part[len(marks) :]
    width = 3 if body[:3] in ('"""', "'''") else 1
    body = body[width:-width]
    if "b" in marks:
        return _bytes(body, "r" in marks, text, at)
    return body if "r" in marks else _ESCAPE.sub(lambda m: _unescape(m, text, at), body)


def _bytes(body: str, raw: bool, text: str, at: int) -> bytes:
    if raw:
        return body.encode()
    out, last = b"", 0
    for match in _ESCAPE.finditer(body):
        out += body[last : match.start()].encode()
        number = match["hex"] or match["octal"]
        if number:
            out += bytes([int(number, 16 if match["hex"] else 8)])
        else:
            out += _unescape(match, text, at).encode()
        last = match.end()
    return out + body[last:].encode()


def _unescape(match: re.Match[str], text: str, at: int) -> str:
    if match["simple"]:
        return _SIMPLE[match["simple"]]
    number = match["hex"] or match["u"] or match["U"]
    if number:
        return chr(int(number, 16))
    if match["octal"]:
        return chr(int(match["octal"], 8))
    raise CompileError(f"{place(text, at)}: Syntax error: invalid escape in a string")
