from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshkube.api import quantities

CANONICAL = [
    ("0", "0"),
    ("-0", "0"),
    ("0Ki", "0"),
    ("0.0000000001", "1n"),
    ("1", "1"),
    ("+1", "1"),
    ("1.", "1"),
    (".5", "500m"),
    ("-.5", "-500m"),
    ("100m", "100m"),
    ("1000m", "1"),
    ("1500m", "1500m"),
    ("0.1", "100m"),
    ("1e3", "1e3"),
    ("1E3", "1e3"),
    ("1.5e3", "1500"),
    ("100e-3", "100e-3"),
    ("12e6", "12e6"),
    ("1E", "1E"),
    ("1k", "1k"),
    ("1000k", "1M"),
    ("1024", "1024"),
    ("1Ki", "1Ki"),
    ("1024Ki", "1Mi"),
    ("1.5Gi", "1536Mi"),
    ("0.5Mi", "512Ki"),
    ("0.5Ki", "512"),
    ("0.1Ki", "102400m"),
    ("0.0001Ki", "102400u"),
    ("1000Ki", "1000Ki"),
    ("64Mi", "64Mi"),
    ("-64Mi", "-64Mi"),
    ("9223372036854775807", "9223372036854775807"),
    ("9223372036854775808", "9223372036854775807"),
    ("1e400", "9223372036854775807"),
    ("1e-400", "1e-9"),
    ("0e400", "0"),
    (2, "2"),
    (0.5, "500m"),
    (1e-07, "100e-9"),
]


@pytest.mark.parametrize(("text", "expected"), CANONICAL)
def test_the_canonical_form_is_kubernetes_own(text: str | float, expected: str) -> None:
    assert quantities.canonical(text) == expected


@pytest.mark.parametrize(
    ("text", "milli", "value"),
    [
        ("1", 1000, 1),
        ("100m", 100, 1),
        ("1u", 1, 1),
        ("-1u", -1, -1),
        ("-1500m", -1500, -2),
        ("1Ki", 1024000, 1024),
        ("1.5", 1500, 2),
        ("2n", 1, 1),
    ],
)
def test_scaled_values_round_away_from_zero(text: str, milli: int, value: int) -> None:
    assert quantities.milli(text) == milli
    assert quantities.value(text) == value


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "regular expression"),
        (".", "regular expression"),
        ("abc", "regular expression"),
        ("1 Ki", "regular expression"),
        (" 1", "regular expression"),
        ("1.2.3", "regular expression"),
        ("--1", "regular expression"),
        ("1K", "suffix"),
        ("1ki", "suffix"),
        ("1e", "suffix"),
        ("1e3.5", "regular expression"),
        ("1mm", "suffix"),
        ("1Kii", "suffix"),
        ("1-3", "suffix"),
        ("١", "regular expression"),
    ],
)
def test_what_is_no_quantity_is_refused_in_kubernetes_words(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        quantities.parse(text)


@pytest.mark.parametrize("junk", [True, None, [], {}])
def test_what_is_no_text_or_number_is_refused(junk: object) -> None:
    with pytest.raises(ValueError, match="quantities must match"):
        quantities.parse(junk)  # type: ignore[arg-type]


def test_a_sum_keeps_the_form_of_the_first_operand_that_is_not_zero() -> None:
    assert quantities.add("1Gi", "1024Mi") == "2Gi"
    assert quantities.add("0", "64Mi") == "64Mi"
    assert quantities.add("500m", "1500m") == "2"
    assert str(quantities.quantity("2Gi") - quantities.quantity("512Mi")) == "1536Mi"


def test_comparison_is_of_amounts_not_of_text() -> None:
    assert quantities.compare("1000m", "1") == 0
    assert quantities.compare("1Ki", "1k") == 1
    assert quantities.compare("999m", "1") == -1


SUFFIXES = st.sampled_from(
    ["", "n", "u", "m", "k", "M", "G", "T", "Ki", "Mi", "Gi", "e3", "E-3", "e0"]
)
TEXTS = st.builds(
    lambda sign, number, suffix: f"{sign}{number}{suffix}",
    st.sampled_from(["", "-", "+"]),
    st.decimals(0, 10**9, places=3, allow_nan=False).map(lambda number: f"{number:f}"),
    SUFFIXES,
)


@given(TEXTS)
def test_the_canonical_form_is_a_fixed_point_and_keeps_the_amount(text: str) -> None:
    written = quantities.canonical(text)
    assert quantities.canonical(written) == written
    assert quantities.parse(written) == quantities.parse(text)


@given(st.integers(-(10**15), 10**15), st.integers(-(10**15), 10**15))
def test_sums_are_exact(one: int, other: int) -> None:
    total = quantities.add(f"{one}u", f"{other}u")
    assert quantities.parse(total) == Decimal(one + other).scaleb(-6)


@given(st.text(alphabet="0123456789.+-eEinumkKMGTP ", max_size=12))
def test_any_text_parses_or_raises_value_error(text: str) -> None:
    try:
        quantities.canonical(text)
    except ValueError:
        return
    assert text.strip("+-.0123456789eEinumkKMGTP") == ""
