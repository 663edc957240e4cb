from __future__ import annotations

import pytest

from storage.csv_cells import safe


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@x", "\tx", "\rx", "\0x"])
def test_no_cell_is_a_formula(cell: str) -> None:
    assert safe(cell) == f"'{cell}"
    assert safe("claude=1") == "claude=1"
    assert safe("") == ""
