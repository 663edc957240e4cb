from __future__ import annotations

import pytest

from admin.amount import AMOUNT_MAX, PICODOLLARS, BadAmount
from admin.limits.form import FIELDS, read_amount, read_form, show_amount

REQUESTS, _, _, DAY, MONTH = FIELDS


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("100", 100 * PICODOLLARS),
        (" 1,250.5 ", 1_250_500_000_000_000),
        ("0.000000000001", 1),
        ("", None),
        (" ", None),
    ],
)
def test_dollars(text: str, amount: int | None) -> None:
    assert read_amount(MONTH, text) == amount
    if amount is not None:
        assert read_amount(MONTH, show_amount(MONTH, amount)) == amount


@pytest.mark.parametrize(
    "text",
    ["0", "-1", "x", "1e400", "nan", "inf", "0.0000000000001", "٣", "1" * 31, "9" * 29, "1 0", "1e99999999"],
)
def test_what_is_no_amount(text: str) -> None:
    for field in (DAY, REQUESTS):
        with pytest.raises(BadAmount):
            read_amount(field, text)


def test_requests_are_whole() -> None:
    assert read_amount(REQUESTS, "1,000") == 1000
    with pytest.raises(BadAmount):
        read_amount(REQUESTS, "1.5")


def test_all_problems_are_told_at_once() -> None:
    amounts, problems = read_form({"requests": "x", "month": "-1", "tokens": "5"})
    assert set(problems) == {"requests", "month"}
    assert amounts == {"tokens": 5, "concurrent": None, "day": None}
    assert show_amount(MONTH, AMOUNT_MAX).count(".") == 1
