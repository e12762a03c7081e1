import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshkube.api import intstr


@pytest.mark.parametrize(
    ("value", "total", "round_up", "expected"),
    [
        (3, 10, True, 3),
        (0, 10, True, 0),
        ("25%", 10, True, 3),
        ("25%", 10, False, 2),
        ("0%", 10, True, 0),
        ("100%", 7, False, 7),
        ("1%", 1, True, 1),
        ("1%", 1, False, 0),
        ("150%", 2, True, 3),
    ],
)
def test_percentages_are_scaled_and_rounded_as_asked(
    value: int | str, total: int, round_up: bool, expected: int
) -> None:
    assert intstr.scaled(value, total, round_up) == expected


@pytest.mark.parametrize("text", ["", "25", "%", "-5%", "2.5%", "a%", "25%%"])
def test_text_that_is_no_percentage_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="invalid value for IntOrString"):
        intstr.scaled(text, 10, True)
    assert intstr.percent_faults(text)


def test_faults_are_said_in_kubernetes_words() -> None:
    assert intstr.percent_faults(-1) == ["must be greater than or equal to 0"]
    assert "a valid percent string must be a numeric string" in intstr.percent_faults("x")[0]
    assert intstr.percent_faults("101%", at_most_100=True) == ["must not be greater than 100%"]
    assert intstr.percent_faults("101%") == []
    assert intstr.percent_faults("25%", at_most_100=True) == []


@given(st.integers(0, 1000), st.integers(0, 10_000))
def test_rounding_up_and_down_differ_by_at_most_one(share: int, total: int) -> None:
    up = intstr.scaled(f"{share}%", total, True)
    down = intstr.scaled(f"{share}%", total, False)
    assert 0 <= up - down <= 1
    assert down * 100 <= share * total <= up * 100
