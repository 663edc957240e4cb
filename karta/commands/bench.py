"""`karta bench …`: handed on as it stands."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from karta.terminal import Commands


def register(commands: Commands) -> None:
    # The load harness has a command line of its own; taking it apart here would mean importing it.
    parser = commands.add_parser("bench", help="measure: load, and comparisons", add_help=False)
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> None:
    from bench.command import main

    code = main(given.arguments)
    if code:
        sys.exit(code)
