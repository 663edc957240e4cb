from __future__ import annotations

import csv
import io

import msgspec

from admin.usage.spreadsheet import HEADER, write_csv
from tests.admin.usage.test_chart import total


def test_money_to_its_last_digit_and_names_as_they_are() -> None:
    hostile = msgspec.structs.replace(total('=x,"y"\n', 1), input_tokens=10**15)
    rows = list(csv.reader(io.StringIO(write_csv([hostile, total("a", 1_500_000_000_000)]), newline="")))
    assert rows[0] == list(HEADER)
    assert rows[1] == ['\'=x,"y"\n', "1", str(10**15), "0", "0.000000000001", "0"]
    assert rows[2][4] == "1.5"
