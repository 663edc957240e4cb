"""`karta bench diff A B` and `karta bench report RUN`."""

import argparse
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from bench.compare.comparison import Comparison
from bench.report.diff import Change, changes
from bench.report.files import read_comparison, write_report

# Of so many 95 % intervals, one is expected to be wrong.
_MANY_FIGURES = 20


def register(commands: Any) -> None:
    """Add both to argparse's subcommands."""
    diff = commands.add_parser("diff", help="set two comparisons against each other")
    diff.description = (
        "How every figure of B differs from A's, with 95 % confidence intervals (Welch's t on the "
        "logarithms of the rounds). A and B are folders of `compare --out`, or their seen.json."
    )
    diff.add_argument("first", type=Path, metavar="A")
    diff.add_argument("second", type=Path, metavar="B")
    diff.add_argument(
        "--relative-to", metavar="ARM", help="set every value against this arm's of the same round first"
    )
    diff.add_argument("--all", action="store_true", help="also what may be chance")
    diff.add_argument("--json", action="store_true", help="print one JSON document instead of a table")
    diff.set_defaults(run=run_diff)
    report = commands.add_parser("report", help="write CSV and HTML of a comparison anew")
    report.description = "Reads a seen.json and writes figures.csv and report.html of it."
    report.add_argument(
        "run_of", type=Path, metavar="RUN", help="a folder of `compare --out`, or a JSON file"
    )
    report.add_argument("--out", type=Path, required=True, metavar="DIR")
    report.set_defaults(run=run_report)


def run_diff(options: argparse.Namespace) -> int:
    """Tell of the changes; always 0, since a change is no failure."""
    first, second = read_comparison(options.first), read_comparison(options.second)
    found = changes(first, second, relative_to=options.relative_to)
    if options.json:
        print(msgspec.json.encode(found).decode())
        return 0
    console = Console()
    shown = found if options.all else [change for change in found if change.sure]
    console.print(diff_table(shown))
    unsure = len(found) - len(shown)
    if unsure:
        console.print(
            f"{unsure} of {len(found)} figures may be the same (--all tells them).", highlight=False
        )
    if len(found) >= _MANY_FIGURES:
        console.print(
            f"Of {len(found)} figures that are the same, about {len(found) / 20:.0f} are told as changed by "
            "chance: believe those that have a reason.",
            highlight=False,
        )
    for line in differing(first, second):
        console.print(f"[yellow]{line}[/]", highlight=False)
    return 0


def diff_table(found: list[Change]) -> Table:
    table = Table()
    for heading in ("scenario", "arm", "figure"):
        table.add_column(heading)
    for heading in ("A", "B", "B / A", "95 % between"):
        table.add_column(heading, justify="right")
    for change in found:
        colour = {None: "", True: "[green]", False: "[red]"}[change.better]
        table.add_row(
            change.scenario,
            change.arm,
            change.figure,
            f"{change.first:,.4g}",
            f"{change.second:,.4g}",
            f"{colour}{change.ratio:.3f}",
            f"{change.low:.3f} and {change.high:.3f}",
        )
    return table


def differing(first: Comparison, second: Comparison) -> list[str]:
    """Return in words what makes two comparisons less comparable than one would like."""
    found = []
    for name in ("processor", "cpus", "kernel", "python", "compiled"):
        one, other = getattr(first.machine, name), getattr(second.machine, name)
        if one != other:
            found.append(f"the machines differ in {name}: {one} and {other}")
    if first.options.keep_awake != second.options.keep_awake:
        found.append("only one of them kept the harness's cores awake")
    return found


def run_report(options: argparse.Namespace) -> int:
    for path in write_report(read_comparison(options.run_of), options.out):
        print(path)
    return 0
