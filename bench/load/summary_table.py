"""Print the figures of one run for a person, with rich."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.load.summary import Percentiles, Summary, generator_busy_share

# More than a stray question that met a full house.
waited_share_max = 0.01


def _durations(summary: Summary) -> list[tuple[str, Percentiles]]:
    rows = (
        ("latency", summary.latency_ms),
        ("first byte or event", summary.first_ms),
        ("between events", summary.gap_ms),
        ("asked late by", summary.lateness_ms),
    )
    return [(name, row) for name, row in rows if row is not None]


def durations_table(summary: Summary) -> Table:
    """Return the percentiles in milliseconds."""
    table = Table()
    table.add_column("milliseconds")
    for heading in ("p50", "p90", "p99", "p99.9", "mean"):
        table.add_column(heading, justify="right")
    for name, row in _durations(summary):
        values = (row.p50, row.p90, row.p99, row.p999, row.mean)
        table.add_row(name, *(f"{value:,.3f}" for value in values))
    return table


def print_summary(summary: Summary, console: Console) -> None:
    """Print rates, durations and what was wrong."""
    console.print(
        f"{summary.requests_per_second:,.0f} requests/s, {summary.events_per_second:,.0f} events/s "
        f"over {summary.seconds:.1f} s; {summary.answers_checked:,} answers checked",
        highlight=False,
    )
    console.print(durations_table(summary))
    if summary.merged_events_share:
        console.print(
            f"{summary.merged_events_share:.1%} of the events came in one read with the one before",
            highlight=False,
        )
    if summary.waited_share > waited_share_max:
        console.print(
            f"[yellow]{summary.waited_share:.0%} of the questions waited for a free connection: "
            "use more --connections, or take it that the target cannot keep up.[/]"
        )
    if summary.generator_cpu_share >= generator_busy_share:
        console.print("[yellow]The load generator was busy all the time: use --processes.[/]")
    if not summary.answers_checked and not summary.failures:
        console.print(
            "[red]Nothing was answered, and nothing failed: ask for longer (--seconds, --warmup).[/]"
        )
    for kind, count in summary.failures.items():
        example = escape(summary.examples.get(kind, ""))
        console.print(f"[red]{count} {kind}[/]: {example}", highlight=False)
