"""Print a comparison for a person, with rich: the figures of every target, then the promised ratios."""

import math

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.compare.comparison import Comparison
from bench.compare.figures import figures_of, harness_bound, metric_median
from bench.compare.goals import ratios
from bench.compare.machine import idle_load_max

_BOUND_MARK = "†"
api_names = {"anthropic": "Anthropic", "openai": "OpenAI"}
_KIBIBYTE = 1024


def _number(value: float, digits: int = 0) -> str:
    return "-" if math.isnan(value) else f"{value:,.{digits}f}"


def arms_table(seen: Comparison) -> Table:
    """Return the medians of every arm that took part, one column each."""
    table = Table(title=f"{seen.title}: medians over {seen.options.rounds} round(s)", title_justify="left")
    table.add_column("figure")
    arms = arms_of(seen)
    for arm in arms:
        table.add_column(arm, justify="right")
    for scenario in seen.scenarios:
        for figure in figures_of(scenario):
            if scenario.name not in seen.rounds:
                continue
            cells = []
            for arm in arms:
                bound = figure.limited and harness_bound(seen, scenario.name, arm, figure.metric)
                value = metric_median(seen, scenario.name, arm, figure.metric)
                cells.append(_number(value, figure.digits) + (f" {_BOUND_MARK}" if bound else ""))
            table.add_row(f"{scenario.name} {figure.label}", *cells)
    for name, by_arm in seen.idle.items():
        held = [by_arm.get(arm) for arm in arms]
        per_stream = [memory.bytes_per_stream / _KIBIBYTE if memory else math.nan for memory in held]
        table.add_row(f"{name} KiB per open stream", *(_number(value, 1) for value in per_stream))
    return table


def arms_of(seen: Comparison) -> list[str]:
    """Return the arms that have figures, in the order in which they were asked for."""
    with_memory = {arm for by_arm in seen.idle.values() for arm in by_arm}
    return [arm for arm in seen.options.arms if arm in seen.started or arm in with_memory]


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
        had = not math.isnan(row.value)
        table.add_row(
            row.figure,
            f"{row.value:,.2f} {row.unit}" if had else "-",
            f"{row.low:,.2f} to {row.high:,.2f}" if had else "-",
            row.goal,
            met if had or not row.goal else "[yellow]?[/]",
            escape(row.note),
        )
    return table


def outsiders(seen: Comparison) -> list[str]:
    """Say which arms took no part in scenarios because of the API they speak, or because of the suite, and
    what else has to be known of them."""
    found = []
    dialects = {scenario.dialect for scenario in seen.scenarios}
    for arm in arms_of(seen):
        missing = dialects - set(seen.dialects.get(arm, dialects))
        if missing:
            names = " and ".join(sorted(api_names[dialect] for dialect in missing))
            found.append(f"{arm} is not asked by the {names} API, which it does not speak, or not here.")
    found += [f"{label}: {note}." for label, note in seen.notes.items()]
    found += [f"{one.name} is for {', '.join(one.only)} alone." for one in seen.scenarios if one.only]
    return found


def print_comparison(seen: Comparison, console: Console) -> None:
    """Print all of it: tables, what took no part, what was wrong, and on what machine."""
    console.print(arms_table(seen))
    limited = [
        (scenario.name, figure.metric)
        for scenario in seen.scenarios
        for figure in figures_of(scenario)
        if figure.limited
    ]
    if any(
        harness_bound(seen, scenario, arm, metric) for scenario, metric in limited for arm in seen.started
    ):
        console.print(
            f"{_BOUND_MARK} the harness is the limit: within 10 % of what it reaches alone, or its cores were"
            " busy and the target's was not.",
            highlight=False,
        )
    if seen.goals and (goals := ratios_table(seen)).row_count:
        console.print(goals)
    for told in outsiders(seen):
        console.print(told, markup=False, highlight=False)
    for arm, reason in seen.unavailable.items():
        console.print(f"[yellow]{arm} took no part:[/] {escape(reason)}", highlight=False)
    for scenario, by_arm in seen.declined.items():
        for arm, reason in by_arm.items():
            console.print(f"[yellow]{arm} is out of {scenario}:[/] {escape(reason)}", highlight=False)
    for scenario, rates in seen.overloaded.items():
        for arm, rate in rates.items():
            console.print(
                f"[yellow]{scenario}: {rate:,g} requests/s are too many for {arm}[/]", highlight=False
            )
    for wrong in seen.broken:
        console.print(f"[red]wrong:[/] {escape(wrong)}", highlight=False)
    machine = seen.machine
    hot_path = "compiled" if machine.compiled else "interpreted (for speed: docs/how-to/production.md, 0)"
    pinned = f"target on core {seen.target_cpus[0]}" if seen.target_cpus else "nothing pinned: one core"
    console.print(
        f"{machine.processor}, {len(machine.cpus)} cores, {pinned}; Linux {machine.kernel}, "
        f"Python {machine.python}; Karta's hot path {hot_path}",
        highlight=False,
    )
    if seen.options.keep_awake:
        console.print("The harness's cores were kept awake (--keep-awake).")
    if machine.load_before > idle_load_max and not seen.options.smoke:
        console.print(
            f"[yellow]Others were at work before the run (load {machine.load_before:.1f}): "
            "repeat it on an idle machine before believing it.[/]",
            highlight=False,
        )
