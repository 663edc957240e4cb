"""Print a comparison for a person, with rich: the figures of every target, then the promised ratios."""

import math

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.compare.figures import (
    Metric,
    events_per_cpu,
    events_rate,
    first_p50,
    harness_bound,
    latency_p50,
    latency_p99,
    metric_median,
    ratios,
    requests_per_cpu,
    requests_rate,
)
from bench.compare.machine import idle_load_max
from bench.compare.session import Comparison

_BOUND_MARK = "†"
_KIBIBYTE = 1024


def _number(value: float, digits: int = 0) -> str:
    return "-" if math.isnan(value) else f"{value:,.{digits}f}"


_ROWS: tuple[tuple[str, str, Metric, int, bool], ...] = (
    # What it says, scenario, metric, digits, and whether the harness has a ceiling for it.
    ("unary requests/s", "unary", requests_rate, 0, True),
    ("  per CPU-second", "unary", requests_per_cpu, 0, False),
    ("alone: p50 ms", "alone", latency_p50, 3, False),
    ("alone: p99 ms", "alone", latency_p99, 3, False),
    ("burst events/s", "burst", events_rate, 0, True),
    ("  per CPU-second", "burst", events_per_cpu, 0, False),
    ("paced: first event p50 ms", "paced", first_p50, 2, False),
    ("  events per CPU-second", "paced", events_per_cpu, 0, False),
)


def arms_table(seen: Comparison) -> Table:
    """Return the medians of every arm that took part, one column each."""
    table = Table(title=f"Medians over {seen.options.rounds} round(s)", title_justify="left")
    table.add_column("figure")
    for arm in seen.started:
        table.add_column(arm, justify="right")
    for name, scenario, metric, digits, limited in _ROWS:
        cells = []
        for arm in seen.started:
            mark = f" {_BOUND_MARK}" if limited and harness_bound(seen, scenario, arm, metric) else ""
            cells.append(_number(metric_median(seen, scenario, arm, metric), digits) + mark)
        table.add_row(name, *cells)
    idle = [seen.idle.get(arm) for arm in seen.started]
    per_stream = [memory.bytes_per_stream / _KIBIBYTE if memory else math.nan for memory in idle]
    table.add_row("KiB per idle open stream", *(_number(value, 1) for value in per_stream))
    return table


def ratios_table(seen: Comparison) -> Table:
    """Return the promised figures with their goals."""
    table = Table(title="Karta against its goals", title_justify="left")
    table.add_column("figure")
    table.add_column("median", justify="right")
    table.add_column("range over rounds", justify="right")
    table.add_column("goal", justify="right")
    table.add_column("met")
    table.add_column("note")
    for row in ratios(seen):
        met = {None: "", True: "[green]yes[/]", False: "[red]no[/]"}[row.met]
        table.add_row(
            row.figure,
            f"{row.value:,.2f} {row.unit}",
            f"{row.low:,.2f} to {row.high:,.2f}",
            row.goal,
            met,
            row.note,
        )
    return table


def print_comparison(seen: Comparison, console: Console) -> None:
    """Print all of it: tables, what took no part, what was wrong, and on what machine."""
    console.print(arms_table(seen))
    limited = [(scenario, metric) for _, scenario, metric, _, limited in _ROWS if limited]
    if any(
        harness_bound(seen, scenario, arm, metric) for scenario, metric in limited for arm in seen.started
    ):
        console.print(
            f"{_BOUND_MARK} within 10 % of the harness's own ceiling: the harness may be the limit."
        )
    if not seen.options.smoke and (goals := ratios_table(seen)).row_count:
        console.print(goals)
    for arm, reason in seen.unavailable.items():
        console.print(f"[yellow]{arm} took no part:[/] {escape(reason)}", highlight=False)
    for wrong in seen.broken:
        console.print(f"[red]wrong:[/] {escape(wrong)}", highlight=False)
    machine = seen.machine
    pinned = f"target on core {seen.target_cpus[0]}" if seen.target_cpus else "nothing pinned: one core"
    console.print(
        f"{machine.processor}, {len(machine.cpus)} cores, {pinned}; Linux {machine.kernel}, "
        f"Python {machine.python}; Karta's hot path {'compiled' if machine.compiled else 'interpreted'}",
        highlight=False,
    )
    if machine.load_before > idle_load_max and not seen.options.smoke:
        console.print(
            f"[yellow]Others were at work before the run (load {machine.load_before:.1f}): "
            "repeat it on an idle machine before believing it.[/]",
            highlight=False,
        )
