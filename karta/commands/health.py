"""`karta health`: one round of the health job, as a cron job runs it each minute."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from karta import database_choice
from karta.terminal import CommandError, print_json, print_table

if TYPE_CHECKING:
    from karta.health_probes import Targets
    from karta.terminal import Commands
    from storage.health import Sample


def register(commands: Commands) -> None:
    parser = commands.add_parser(
        "health",
        help="look at every part of Karta, for the status page",
        description="Look at the gateway (by a whole streamed request of a test key), the admin pages, the "
        "database, usage records, mail and providers, and keep what is found for the status page. To be run "
        "each minute (`karta up` does it by itself); of several in a minute one does it. The gateway is at "
        "KARTA_PUBLIC_URL, the pages at KARTA_ADMIN_URL, providers as for `karta gateway`. Providers and "
        "payments are looked at where their key is set, which is not used, or KARTA_HEALTH_PARTS names them: "
        "provider-openai,payments.",
    )
    database_choice.add_arguments(parser)
    parser.add_argument("--gateway-url", metavar="URL", help="instead of KARTA_PUBLIC_URL")
    parser.add_argument("--admin-url", metavar="URL", help="instead of KARTA_ADMIN_URL")
    parser.add_argument("--json", action="store_true", help="print {ran, samples}")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> None:
    from karta.health_job import run_round
    from storage import error_reports
    from storage.settings import CommonSettings

    choice = database_choice.choose(given)
    error_reports.begin(CommonSettings.load(database_url=choice.owner_url), "health")
    targets, master_keys = make_targets(given, choice), choice.load_master_keys()
    samples = database_choice.run(given, lambda db: run_round(db, targets, master_keys))
    if given.json:
        print_json({"ran": samples is not None, "samples": [_describe(one) for one in samples or []]})
    elif samples is None:
        print("Somebody else looked within this minute.")
    else:
        print_table(
            ("COMPONENT", "STATE", "MS"),
            [(one.component, one.state.value, str(one.latency_ms or "")) for one in samples],
        )


def make_targets(given: argparse.Namespace, choice: database_choice.Choice) -> Targets:
    """What to look at: of a running `karta up`, else as the settings say."""
    from karta.health_targets import load_targets
    from storage.settings import read_variables

    variables = {name: variable.value for name, variable in read_variables().items()}
    if choice.running is not None:
        variables["KARTA_PUBLIC_URL"] = choice.running.gateway_url
        variables["KARTA_ADMIN_URL"] = choice.running.admin_url
    if given.gateway_url is not None:
        variables["KARTA_PUBLIC_URL"] = given.gateway_url
    if given.admin_url is not None:
        variables["KARTA_ADMIN_URL"] = given.admin_url
    targets = load_targets(variables)
    if targets.gateway_url is None and targets.admin_url is None:
        raise CommandError("nothing to look at: set KARTA_PUBLIC_URL and KARTA_ADMIN_URL")
    return targets


def _describe(sample: Sample) -> dict[str, object]:
    return {
        "component": sample.component,
        "state": sample.state.value,
        "latency_ms": sample.latency_ms,
    }
