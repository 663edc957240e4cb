"""Amounts read back as they are shown; what is short to write and long to work out is no amount."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from admin.amount import AMOUNT_MAX, BadAmount, read_amount, show_amount, show_dollars
from storage.model import LimitKind


@given(st.sampled_from(LimitKind), st.integers(1, AMOUNT_MAX))
def test_what_is_shown_is_read_again(kind: LimitKind, amount: int) -> None:
    assert read_amount(kind, show_amount(kind, amount)) == amount


@pytest.mark.parametrize(
    "text",
    ["", " ", "0", "-1", "+1", "1e9", "1e99999999", "nan", "1.", ".5", "1,0", "1\n", "٣", "0.0000000000001"],
)
def test_what_is_no_amount(text: str) -> None:
    for kind in LimitKind:
        with pytest.raises(BadAmount):
            read_amount(kind, text)


def test_the_bounds() -> None:
    assert read_amount(LimitKind.MONEY, "1000000") == AMOUNT_MAX
    for kind, text in (
        (LimitKind.MONEY, "1000000.01"),
        (LimitKind.REQUESTS, "1.5"),
        (LimitKind.TOKENS, "9" * 19),
    ):
        with pytest.raises(BadAmount):
            read_amount(kind, text)
    assert [show_dollars(amount) for amount in (0, 1, 10**12)] == ["0.00", "0.000000000001", "1.00"]
