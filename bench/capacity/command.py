"""`karta bench capacity`."""

import argparse
import json
from pathlib import Path
from typing import Any

import msgspec

from bench.capacity.coefficients import read_coefficients, values_of
from bench.capacity.model import cells_needed, plan
from bench.capacity.tables import CELLS_MAX, markdown, plan_lines
from bench.capacity.target import Target


def register(commands: Any) -> None:
    """Add it to argparse's subcommands."""
    made = commands.add_parser("capacity", help="work out what a size needs, and what of it breaks first")
    made.description = (
        "From measured figures: workers, hosts, memory, what the database has to do, and how near each bound "
        "is. Nothing is started or measured. --set gives a part of the target, as in `--set orgs=100000`: "
        + ", ".join(f"{name} ({_default(name)})" for name in Target.__struct_fields__)
        + "."
    )
    made.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a part of the target; may be repeated",
    )
    made.add_argument(
        "--coefficients",
        type=Path,
        metavar="FILE",
        help="your own figures, in place of those that come along",
    )
    made.add_argument(
        "--markdown",
        action="store_true",
        help="print the tables of the documentation, for all ready-made sizes",
    )
    made.add_argument("--json", action="store_true", help="print one JSON document instead of text")
    made.set_defaults(run=run)


def _default(name: str) -> str:
    value = getattr(Target(), name)
    return ("true" if value else "false") if isinstance(value, bool) else f"{value:,.12g}".replace(",", "")


def target_from(settings: list[str]) -> Target:
    """Return the target of `--set`; ValueError says what is wrong with it."""
    given = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or name not in Target.__struct_fields__:
            raise ValueError(
                f"--set takes NAME=VALUE, of {', '.join(Target.__struct_fields__)}: not {setting}"
            )
        try:
            given[name] = json.loads(value)
        except ValueError:
            raise ValueError(f"{setting} is no number, true or false") from None
    try:
        return msgspec.convert(given, Target)
    except msgspec.ValidationError as error:
        raise ValueError(f"no such target: {error}") from None


def run(options: argparse.Namespace) -> int:
    """0, also where something breaks: that is an answer."""
    coefficients = read_coefficients(options.coefficients)
    if options.markdown:
        print("\n".join(markdown(coefficients)))
        return 0
    target, figures = target_from(options.set), values_of(coefficients)
    found = plan(target, figures)
    cells = target.cells if found.holds else cells_needed(target, figures, CELLS_MAX)
    if options.json:
        bounds = [{**msgspec.structs.asdict(bound), "used": bound.used} for bound in found.bounds]
        print(
            json.dumps(
                {
                    "target": msgspec.structs.asdict(target),
                    "needs": [msgspec.structs.asdict(need) for need in found.needs],
                    "bounds": bounds,
                    "holds": found.holds,
                    "cells_needed": cells,
                }
            )
        )
        return 0
    for line in plan_lines(found):
        print(line)
    if not found.holds:
        print(
            f"Divided into cells: {'not within ' + str(CELLS_MAX) if cells is None else cells} of them hold."
        )
    return 0
