"""Usage as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from decimal import Decimal

from storage.csv_cells import safe
from storage.usage_report import UsageTotal

_PICODOLLARS = 10**12
HEADER = ("group", "requests", "input_tokens", "output_tokens", "cost_usd", "unpriced_requests")


def write_csv(totals: Sequence[UsageTotal], *, header: bool = True) -> str:
    """Money to its last digit."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    if header:
        writer.writerow(HEADER)
    for total in totals:
        cost = f"{Decimal(total.cost_picodollars) / _PICODOLLARS:f}"
        writer.writerow(
            (
                safe(total.group or ""),
                total.requests,
                total.input_tokens,
                total.output_tokens,
                cost,
                total.unpriced,
            )
        )
    return out.getvalue()
