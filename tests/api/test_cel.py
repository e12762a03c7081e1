"""The expression language: values, errors, macros, Kubernetes' functions, limits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshkube.api.cel import Budget, CelError, CompileError, OutOfBudget, compile_rule

SELF = {
    "a": 1,
    "b": 2.5,
    "s": "hello",
    "list": [3, 1, 2],
    "names": ["x", "y"],
    "map": {"k": "v", "l": "w"},
    "objs": [{"n": "a", "v": 1}, {"n": "b"}],
    "none": None,
}


def run(text: str, /, budget: int = 100_000, **names):
    names = {"self": SELF, **names}
    return compile_rule(text, dict.fromkeys(names)).run(names, Budget(budget))


@pytest.mark.parametrize(
    "text",
    [
        "1 + 2 * 3 == 7",
        "-7 / 2 == -3 && -7 % 2 == -1",
        "1 == 1.0 && 2u == 2",
        "!(1 > 2) || false",
        "self.a < 2 ? true : false",
        "'a' + \"b\" == 'ab'",
        r"'\x41\u0042\n'.size() == 3 && r'\n'.size() == 2",
        "'''a'b'''.contains(\"'\")",
        "b'abc'.size() == 3",
        "1 in self.list && !('z' in self.map) && 'k' in self.map",
        "self.list[0] == 3 && self.map['k'] == 'v' && self.map.k == 'v'",
        "has(self.a) && !has(self.zzz) && !has(self.none)",
        "self.list.all(i, i > 0) && self.list.exists(i, i == 2)",
        "self.list.exists_one(i, i == 2) && self.map.all(k, k.size() == 1)",
        "self.list.map(i, i * 2) == [6, 2, 4] && self.list.filter(i, i > 1) == [3, 2]",
        "self.list.map(i, i > 1, i * 2) == [6, 4]",
        "self.map.all(k, v, k != v) && self.list.exists(i, v, i == 1 && v == 1)",
        "self.list.transformList(i, v, i + v) == [3, 2, 4]",
        "self.map.transformMap(k, v, v + '!') == {'k': 'v!', 'l': 'w!'}",
        "self.objs.all(o, !has(o.v) || o.v == 1)",
        # An error on one side yields to a decision on the other.
        "self.zzz == 1 || true",
        "!(self.zzz == 1 && false)",
        "self.objs.exists(o, o.v == 1)",
        "self.?a.orValue(9) == 1 && self.?zzz.orValue(9) == 9",
        "self.?zzz.deeper.hasValue() == false && self.map[?'k'].value() == 'v'",
        "self.list[?9].orValue(0) == 0 && [?self.?a, ?self.?zzz] == [1]",
        "optional.of(1).optMap(x, x + 1).value() == 2 && !optional.none().hasValue()",
        "'hello'.startsWith('he') && 'hello'.endsWith('lo') && 'hello'.matches('^h.l+o$')",
        "'a,b,c'.split(',') == ['a', 'b', 'c'] && ['a', 'b'].join('-') == 'a-b'",
        "'Hello'.lowerAscii() == 'hello' && 'tacocat'.indexOf('ac') == 1",
        "'hello'.substring(1, 3) == 'el' && ' x '.trim() == 'x'",
        "'aa'.replace('a', 'b', 1) == 'ba'",
        "'hello'.charAt(1) == 'e' && 'abcabc'.lastIndexOf('abc') == 3",
        "'%s is %d'.format(['x', 2]) == 'x is 2'",
        "[1, 2, 3].isSorted() && [1, 2].sum() == 3 && [1, 5].max() == 5 && [2].min() == 2",
        "'abc 123'.find('[0-9]+') == '123' && '1 2 3'.findAll('[0-9]').size() == 3",
        "sets.contains([1, 2], [2]) && sets.equivalent([1, 1], [1])",
        "sets.intersects([1], [1, 2])",
        "quantity('1Gi').isGreaterThan(quantity('1G')) && isQuantity('5m') && !isQuantity('x')",
        "quantity('1').add(quantity('500m')).compareTo(quantity('1500m')) == 0",
        "quantity('10').asInteger() == 10 && quantity('1.5').isInteger() == false",
        "ip('10.0.0.1').family() == 4 && isIP('::1') && !isIP('x') && ip.isCanonical('::1')",
        "cidr('10.0.0.0/8').containsIP('10.1.2.3') && cidr('10.0.0.0/8').prefixLength() == 8",
        "!cidr('10.0.0.0/8').containsIP('::1') && isCIDR('::/0')",
        "cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16')",
        "url('https://a.b:80/c?d=e').getHost() == 'a.b:80' && isURL('https://x') && !isURL('../x')",
        "url('https://a.b:80/c?d=e').getPort() == '80'",
        "url('https://a/c').getEscapedPath() == '/c'",
        "duration('1h30m') > duration('60m') && duration('90s').getMinutes() == 1",
        "timestamp('2024-01-01T00:00:00Z') < timestamp('2024-01-02T00:00:00Z')",
        "timestamp('2024-03-01T00:00:00Z').getMonth() == 2",
        "timestamp('2024-01-02T00:00:00Z') - timestamp('2024-01-01T00:00:00Z') == duration('24h')",
        "type(1) == int && type('a') == string && type([]) == list",
        "int('12') == 12 && string(1.0) == '1' && double('1.5') == 1.5 && string(true) == 'true'",
        "format.dns1123Label().validate('a-b').hasValue() == false",
        "format.named('dns1123Label').value().validate('A_').hasValue()",
        "{'a': 1}.a == 1 && {1: 'x'}[1] == 'x'",
        "dyn(1) == 1.0 && null == self.none",
    ],
)
def test_what_is_true(text: str) -> None:
    assert run(text) is True


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("self.zzz == 1", "no such key: zzz"),
        ("self.list[9] == 1", "index out of bounds: 9"),
        ("1 / 0 == 1", "division by zero"),
        ("9223372036854775807 + 1 > 0", "integer overflow"),
        ("1 + 1.0 == 2.0", r"no such overload: _\+_\(int, double\)"),
        ("'a' < 1", "no such overload"),
        ("self.s && true", "no such overload"),
        ("quantity('x') == quantity('1')", "quantity"),
        ("'a'.matches('(')", "invalid pattern"),
        ("'a'.substring(3) == ''", "index out of range: 3"),
        ("optional.none().value()", "dereference"),
        ("duration('5x') == duration('5s')", "invalid duration"),
    ],
)
def test_what_has_no_value(text: str, words: str) -> None:
    with pytest.raises(CelError, match=words):
        run(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "Syntax error"),
        ("1 +", "Syntax error: unexpected '<EOF>'"),
        ("other.x", "undeclared reference to 'other'"),
        ("self.nothing()", "undeclared reference to 'nothing'"),
        ("authorizer.path('/x').check('get').allowed()", "undeclared reference"),
        ("has(1)", "invalid argument to has"),
        ("self.list.all(1, true)", "must be a simple name"),
        ("for == 1", "reserved identifier"),
        ("'a", "token recognition error"),
        ("99999999999999999999 > 1", "invalid int literal"),
        ("(" * 200 + "1" + ")" * 200, "nested deeper"),
        ("'x' + " * 10_000 + "'x'", "longer than"),
    ],
)
def test_what_is_no_expression(text: str, words: str) -> None:
    with pytest.raises(CompileError, match=words):
        run(text)


@pytest.mark.parametrize(
    "text",
    [
        "big.all(a, big.all(b, big.all(c, a + b + c >= 0)))",
        "big.map(a, big.map(b, big)).size() > 0",
        "big.map(x, text + text + text + text).size() > 0",
        "big.all(a, big == big)",
        "big.all(a, !text.matches('(a|b)*c'))",
        "big.all(a, text.replace('x', 'yy').size() > 0)",
    ],
)
def test_nothing_runs_for_long(text: str) -> None:
    with pytest.raises(OutOfBudget):
        run(text, big=list(range(1000)), text="x" * 100_000)


PIECES = st.lists(st.sampled_from(list("self.abx()[]{}'\"0123?:&|!<>=+-*/%, "))).map("".join)


@given(st.text(max_size=60) | PIECES)
def test_no_text_crashes(text: str) -> None:
    try:
        run(text)
    except (CelError, CompileError, OutOfBudget):
        pass


@given(st.integers(-20, 20), st.integers(-20, 20), st.integers(-20, 20))
def test_arithmetic_is_that_of_go(a: int, b: int, c: int) -> None:
    assert run(f"{a} + {b} * {c} - ({a} - {b})") == a + b * c - (a - b)
    if b:
        quotient = int(a / b)
        assert run(f"{a} / {b}") == quotient
        assert run(f"{a} % {b}") == a - b * quotient
