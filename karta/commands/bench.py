"""`karta bench …`: handed on as it stands."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from karta.terminal import Commands


NAME = "bench"


def register(commands: Commands) -> None:
    # The load harness has a command line of its own; taking it apart here would mean importing it.
    # argparse has no way to hand on all the rest (REMAINDER stumbles over a leading --help), so unknown
    # arguments are kept.
    parser = commands.add_parser(NAME, help="measure: load, and comparisons", add_help=False)
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> None:
    from bench.command import main

    code = main(given.rest)
    if code:
        sys.exit(code)
