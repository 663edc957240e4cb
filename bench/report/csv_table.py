"""One row a run, for spreadsheets and data frames."""

import csv
import io
from collections.abc import Sequence

from bench.compare.comparison import Comparison
from bench.load.summary import Percentiles, Summary

_PERCENTILES = ("p50", "p90", "p99", "p999", "mean", "max")
_DURATIONS = ("latency_ms", "first_ms", "gap_ms", "lateness_ms")
_PLAIN = (
    *("seconds", "requests", "requests_per_second", "events", "events_per_second", "body_bytes"),
    *("answers_checked", "reconnects", "merged_events_share", "waited_share", "stalls", "left"),
    *("generator_cpu_share", "target_cpu_seconds", "target_cpu_share", "target_resident_bytes"),
    *("target_starved_share", "harness_cpu_share"),
)
HEAD = (
    *("scenario", "family", "axis", "at", "arm", "round"),
    *_PLAIN,
    *(f"{duration}_{percentile}" for duration in _DURATIONS for percentile in _PERCENTILES),
)


def _cells(summary: Summary) -> list[object]:
    cells: list[object] = [getattr(summary, name) for name in _PLAIN]
    for name in _DURATIONS:
        found: Percentiles | None = getattr(summary, name)
        cells += [getattr(found, percentile) if found else "" for percentile in _PERCENTILES]
    return ["" if cell is None else cell for cell in cells]


def csv_text(seen: Comparison) -> str:
    """Return all runs that have figures; idle streams are in the JSON document alone."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(HEAD)
    for scenario in seen.scenarios:
        about: Sequence[object] = (scenario.name, scenario.family, scenario.axis, scenario.at or "")
        for arm, summaries in seen.rounds.get(scenario.name, {}).items():
            for number, summary in enumerate(summaries, 1):
                if summary is not None:
                    writer.writerow([*about, arm, number, *_cells(summary)])
    return out.getvalue()
