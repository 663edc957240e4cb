"""`karta up`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from karta.database_choice import add_data_dir, check_url
from karta.terminal import print_error, print_json

if TYPE_CHECKING:
    from karta.terminal import Commands
    from karta.welcome import Ready

DESCRIPTION = """\
Run everything on this machine: a PostgreSQL of its own, the gateway, the admin pages, and a simulated
provider that answers until KARTA_PROVIDER_… names a real one. The first start makes an owner, an organization
and two keys, and shows them once. Ctrl-C (or SIGTERM) stops everything."""


def register(commands: Commands) -> None:
    parser = commands.add_parser(
        "up",
        help="run everything on this machine",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_data_dir(parser, "where everything is kept")
    parser.add_argument("--gateway-port", type=port, metavar="PORT", help="default 8080; 0 takes a free one")
    parser.add_argument("--admin-port", type=port, metavar="PORT", help="default 8000; 0 takes a free one")
    parser.add_argument(
        "--workers",
        type=worker_count,
        metavar="N",
        help="gateway processes, or `auto` for one a core (default: KARTA_WORKERS, or 1)",
    )
    parser.add_argument(
        "--database-url", metavar="URL", help="use this PostgreSQL instead of an embedded one"
    )
    parser.add_argument(
        "--json", action="store_true", help="when ready, print one JSON line instead of the welcome"
    )
    parser.set_defaults(run=run)


def port(text: str) -> int:
    """argparse's type for a TCP port."""
    if not (text.isascii() and text.isdigit() and int(text) < 65536):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port (0 to 65535)")
    return int(text)


def worker_count(text: str) -> str:
    """argparse's type for a number of processes, as KARTA_WORKERS has it."""
    if text != "auto" and not (text.isascii() and text.isdigit() and 0 < int(text) <= 256):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of workers (1 to 256, or auto)")
    return text


def process_count(text: str) -> int:
    """argparse's type for a number of processes of the admin pages."""
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= 64):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of processes (1 to 64)")
    return int(text)


def run(given: argparse.Namespace) -> None:
    import trio

    from karta.data_dir import default_path
    from karta.up import Plan, bind_from, up
    from karta.welcome import format_welcome
    from storage.settings import Bind, read_variables

    variables = {name: variable.value for name, variable in read_variables().items()}
    url = given.database_url or variables.get("KARTA_DATABASE_URL")

    def ready(told: Ready) -> None:
        if given.json:
            print_json(told.document())
        else:
            print(format_welcome(told), flush=True)

    plan = Plan(
        data_dir=given.data_dir or default_path(),
        gateway_bind=bind_from(variables, "KARTA_GATEWAY_BIND", Bind("127.0.0.1", 8080), given.gateway_port),
        admin_bind=bind_from(variables, "KARTA_ADMIN_BIND", Bind("127.0.0.1", 8000), given.admin_port),
        workers=given.workers,
        database_url=None if url is None else check_url(str(url)),
        variables=variables,
        progress=print_error,
        ready=ready,
    )
    trio.run(up, plan)
