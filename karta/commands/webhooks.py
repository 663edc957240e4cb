"""`karta webhooks`: the delivery worker of outgoing webhooks, apart from the admin pages."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from karta import database_choice, lifeline
from karta.terminal import print_error, print_json
from storage import error_reports

if TYPE_CHECKING:
    from karta.terminal import Commands


def register(commands: Commands) -> None:
    parser = commands.add_parser(
        "webhooks",
        help="send outgoing webhooks",
        description="Send outgoing webhooks until SIGTERM. The admin server does it by itself, unless "
        "KARTA_WEBHOOKS_DELIVER is false; any number of these may run beside it or instead. Settings are "
        "those of `karta admin`.",
    )
    database_choice.add_server_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON line when ready")
    parser.add_argument(
        lifeline.FLAG,
        action="store_true",
        help="stop when stdin ends, as after the death of a supervisor",
    )
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> None:
    if given.stop_with_stdin:
        lifeline.hold()
    from admin.settings import AdminSettings
    from admin.webhooks.standalone import main

    def ready() -> None:
        if given.json:
            print_json({"ready": True})
        else:
            print_error("ready")

    settings = AdminSettings.load(**database_choice.server_overrides(given))
    error_reports.begin(settings, "webhooks")
    main(settings, on_ready=ready)
