"""A row a run, with a heading for each cell."""

import csv

from bench.report.csv_table import HEAD, csv_text
from tests.bench.compare.seen import comparison, summary


def test_every_run_with_figures_is_a_row() -> None:
    seen = comparison(
        {"load@50": {"relay": [summary(rate=5, p50=1.5), None, summary(rate=7)]}, "unary": {"relay": [None]}}
    )
    head, *rows = csv.reader(csv_text(seen).splitlines())
    assert tuple(head) == HEAD
    found = [dict(zip(head, row, strict=True)) for row in rows]
    assert [(row["scenario"], row["axis"], row["at"], row["arm"], row["round"]) for row in found] == [
        ("load@50", "rate", "50.0", "relay", "1"),
        ("load@50", "rate", "50.0", "relay", "3"),
    ]
    assert found[0]["latency_ms_p50"] == "1.5"
    assert found[0]["target_cpu_seconds"] == ""
