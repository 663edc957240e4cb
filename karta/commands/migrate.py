"""`karta migrate`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from karta import database_choice
from karta.terminal import print_json

if TYPE_CHECKING:
    from karta.terminal import Commands


def register(commands: Commands) -> None:
    parser = commands.add_parser(
        "migrate",
        help="bring the database to this release's schema",
        description="Apply what is missing, forward only, safe to run while programs serve and by several at "
        "once. Logs in as the owner of the schema.",
    )
    database_choice.add_arguments(parser)
    parser.add_argument(
        "--no-roles",
        action="store_true",
        help="do not create the database roles karta_gateway and karta_admin (an operator has)",
    )
    parser.add_argument("--json", action="store_true", help="print {version, applied}")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> None:
    from functools import partial

    import trio

    from storage.migrate import migrate

    choice = database_choice.choose(given)
    with choice.place_told():
        report = trio.run(partial(migrate, choice.owner_url, create_roles=not given.no_roles))
    if given.json:
        print_json({"version": report.version, "applied": list(report.applied)})
    elif report.applied:
        print(f"Applied {', '.join(report.applied)}; the schema is at version {report.version}.")
    else:
        print(f"Nothing to do; the schema is at version {report.version}.")
