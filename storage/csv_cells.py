"""Cells of a CSV file that no spreadsheet takes for a formula."""

from __future__ import annotations

_FORMULA_BEGINNINGS = ("=", "+", "-", "@", "\t", "\r", "\0")


def safe(cell: str) -> str:
    """A cell as text, whatever it begins with: a quote before it, which spreadsheets do not show."""
    return f"'{cell}" if cell.startswith(_FORMULA_BEGINNINGS) else cell
