from __future__ import annotations

import csv
import io

import msgspec
import pytest

from admin.usage.spreadsheet import HEADER, safe, write_csv
from tests.admin.usage.test_chart import total


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@x", "\tx", "\rx", "\0x"])
def test_no_cell_is_a_formula(cell: str) -> None:
    assert safe(cell) == f"'{cell}"
    assert safe("claude=1") == "claude=1"


def test_money_to_its_last_digit_and_names_as_they_are() -> None:
    hostile = msgspec.structs.replace(total('=x,"y"\n', 1), input_tokens=10**15)
    rows = list(csv.reader(io.StringIO(write_csv([hostile, total("a", 1_500_000_000_000)]), newline="")))
    assert rows[0] == list(HEADER)
    assert rows[1] == ['\'=x,"y"\n', "1", str(10**15), "0", "0.000000000001", "0"]
    assert rows[2][4] == "1.5"
