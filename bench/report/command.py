"""`karta bench diff A B` and `karta bench report RUN`."""

import argparse
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.compare.comparison import Comparison
from bench.compare.machine import idle_load_max
from bench.report.diff import Change, changes
from bench.report.files import read_comparison, write_report

# Of so many 95 % intervals, one is expected to be wrong.
_MANY_FIGURES = 20
# A file has no edge that columns would have to be broken at.
_FILE_WIDTH = 160
_WHOLE_MIN = 1000


def register(commands: Any) -> None:
    """Add both to argparse's subcommands."""
    diff = commands.add_parser("diff", help="set two comparisons against each other")
    diff.description = (
        "How every figure of B differs from A's, with 95 % confidence intervals (Welch's t on the "
        "logarithms of the rounds; on the values themselves where one is 0). A and B are folders of "
        "`compare --out`, or JSON files of `compare --json`."
    )
    diff.add_argument("first", type=Path, metavar="A")
    diff.add_argument("second", type=Path, metavar="B")
    diff.add_argument(
        "--relative-to", metavar="ARM", help="set every value against this arm's of the same round first"
    )
    diff.add_argument("--all", action="store_true", help="also what may be the same")
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
    base = options.relative_to
    for seen, name in ((first, "A"), (second, "B")):
        if base is not None and base not in seen.started:
            raise ValueError(f"{name} has no arm {base}; it has {', '.join(seen.started) or 'none'}")
    found = changes(first, second, relative_to=base)
    if options.json:
        print(msgspec.json.encode(found).decode())
        return 0
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, _FILE_WIDTH)
    for name, seen in (("A", first), ("B", second)):
        console.print(f"{name}: {about(seen)}", markup=False, highlight=False)
    shown = found if options.all else [change for change in found if change.sure]
    if shown:
        console.print(diff_table(shown, base))
    for line in [*remarks(found, shown), *differing(first, second)]:
        console.print(line, markup=False, highlight=False)
    return 0


def about(seen: Comparison) -> str:
    """Return what a comparison was, in a line."""
    options = seen.options
    return (
        f"{seen.title or options.suite}, {seen.began or 'at an unknown time'}, {options.rounds} round(s) of "
        f"{options.seconds:g} s" + (", a smoke test" if options.smoke else "")
    )


def remarks(found: list[Change], shown: list[Change]) -> list[str]:
    """Return what has to be known of the figures."""
    told = []
    if not found:
        return ["They have no figure in common: no scenario of one name with an arm of one name in both."]
    if unsure := len(found) - len(shown):
        told.append(f"{unsure} of {len(found)} figures may be the same (--all tells them).")
    if single := sum(change.low is None for change in found):
        told.append(
            f"{single} were measured once on a side, which says nothing of chance: three rounds are few, "
            "seven are better."
        )
    if sum(change.low is not None for change in found) >= _MANY_FIGURES:
        told.append(
            f"Of {len(found)} figures that are the same, about {len(found) / 20:.0f} are told as changed by "
            "chance: believe those that have a reason."
        )
    return told


def diff_table(found: list[Change], base: str | None = None) -> Table:
    """Return a row a change; A and B are means over the rounds, geometric ones where there is a ratio."""
    of = "" if base is None else f", each as a multiple of {base}'s in the same round"
    table = Table(caption=f"A, B: means over the rounds{of}", caption_justify="left")
    for heading in ("scenario", "arm", "figure"):
        table.add_column(heading, overflow="fold")
    for heading in ("A", "B", "B / A or B - A", "95 % between"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for change in found:
        verdict = {None: "", True: "[green]better[/]", False: "[red]worse[/]"}[change.better]
        table.add_row(
            escape(change.scenario),
            escape(change.arm),
            escape(change.figure),
            _value(change.first),
            _value(change.second),
            f"{change.ratio:.3f}" if change.ratio is not None else _difference(change.difference),
            _interval(change),
            verdict,
        )
    return table


def _value(value: float) -> str:
    """Four digits, and all of those before the point."""
    return f"{value:,.0f}" if abs(value) >= _WHOLE_MIN else f"{value:,.4g}"


def _interval(change: Change) -> str:
    if change.low is None or change.high is None:
        return "one round"
    if change.ratio is None:
        return (
            f"{_difference(change.low)} and {_difference(change.high)}" if change.high != change.low else ""
        )
    return f"{change.low:.3f} and {change.high:.3f}"


def _difference(value: float) -> str:
    return f"{value:+,.4g}" if value else "0"


def differing(first: Comparison, second: Comparison) -> list[str]:
    """Return in words what makes two comparisons less comparable than one would like."""
    found = []
    for name in ("processor", "cpus", "kernel", "python", "compiled"):
        one, other = getattr(first.machine, name), getattr(second.machine, name)
        if one != other:
            found.append(f"The machines differ in {name}: {one} and {other}.")
    for name in ("seconds", "warmup_seconds"):
        one, other = getattr(first.options, name), getattr(second.options, name)
        if one != other:
            found.append(f"The runs differ in {name.replace('_', ' ')}: {one:g} and {other:g}.")
    if first.options.keep_awake != second.options.keep_awake:
        found.append("Only one of them kept the harness's cores awake.")
    found += _of_versions(first, second) + _of_scenarios(first, second)
    for name, seen in (("A", first), ("B", second)):
        if seen.machine.load_before > idle_load_max:
            found.append(f"Others were at work before {name} (load {seen.machine.load_before:.1f}).")
        if seen.broken:
            found.append(
                f"{name} saw {len(seen.broken)} wrong run(s), which have no figures; its report tells."
            )
    return found


def _of_versions(first: Comparison, second: Comparison) -> list[str]:
    return [
        f"{arm} is {first.versions[arm] or 'of no version'} in A and "
        f"{second.versions[arm] or 'of no version'} in B."
        for arm in first.versions
        if arm in second.versions and first.versions[arm] != second.versions[arm]
    ]


def _of_scenarios(first: Comparison, second: Comparison) -> list[str]:
    """Say which scenarios and arms only one of them has, and which are not the same."""
    found = []
    for one, other, name in ((first, second, "A"), (second, first, "B")):
        for what, mine, theirs in (
            ("scenarios", [scenario.name for scenario in one.scenarios], [s.name for s in other.scenarios]),
            ("arms", one.started, other.started),
        ):
            if alone := [entry for entry in mine if entry not in theirs]:
                found.append(f"Only {name} has the {what} {', '.join(alone)}.")
    others = {scenario.name: scenario for scenario in second.scenarios}
    for scenario in first.scenarios:
        other_one = others.get(scenario.name, scenario)
        changed = [
            f"{field} {getattr(scenario, field)} and {getattr(other_one, field)}"
            for field in scenario.__struct_fields__
            if field != "title" and getattr(scenario, field) != getattr(other_one, field)
        ]
        if changed:
            found.append(f"{scenario.name} is not the same in both: {', '.join(changed)}.")
    return found


def run_report(options: argparse.Namespace) -> int:
    for path in write_report(read_comparison(options.run_of), options.out):
        print(path)
    return 0
