"""`karta doctor`: every setting with its origin, and whether what they name works."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from karta import database_choice
from karta.terminal import EXIT_FAILED, print_json, print_table

if TYPE_CHECKING:
    from karta.diagnosis import Diagnosis
    from karta.terminal import Commands


def register(commands: Commands) -> None:
    parser = commands.add_parser(
        "doctor",
        help="list every setting, and check what can be checked",
        description="List every setting, its value (secrets hidden) and where it came from; then check the "
        "database, its schema and roles, the master key, the providers' URLs, and the rules of production. "
        "Exit code 1 when a check fails.",
    )
    database_choice.add_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print {settings, checks}")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> None:
    from functools import partial

    import trio

    from karta.diagnosis import diagnose

    diagnosis = trio.run(partial(diagnose, given))
    if given.json:
        print_json(diagnosis.document())
    else:
        _print(diagnosis)
    if diagnosis.failed:
        sys.exit(EXIT_FAILED)


def _print(diagnosis: Diagnosis) -> None:
    print_table(
        ("SETTING", "VALUE", "FROM"),
        [(setting.name, setting.value, setting.origin) for setting in diagnosis.settings],
    )
    print()
    print_table(
        ("CHECK", "STATE", ""), [(check.name, check.state, check.detail) for check in diagnosis.checks]
    )
