"""`karta limits set | show`: requests and tokens a minute and streams at once, of an organization or a
key."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from karta import database_choice
from karta.terminal import UsageError, print_json, print_table

if TYPE_CHECKING:
    from karta.terminal import Commands
    from storage.bridge import Database
    from storage.limits import LimitScope, LimitStanding

AMOUNT_MAX = 10**18
"""The most that a limit can be; as in the database."""
KINDS = {
    "requests_per_minute": ("requests", "minute"),
    "tokens_per_minute": ("tokens", "minute"),
    "concurrent": ("concurrent", "none"),
}
"""Each option's kind and period, as text: help pages import nothing of storage."""


def register(commands: Commands) -> None:
    group = commands.add_parser("limits", help="limits on requests, tokens and streams: set, show")
    actions = group.add_subparsers(title="actions", metavar="ACTION", required=True)
    added = actions.add_parser(
        "set",
        help="set, change or remove limits",
        description="Set or change limits of an organization or of one key; 0 removes one. What is not named "
        "stays as it is. Running gateways know within a second.",
    )
    add_scope(added)
    added.add_argument("--requests-per-minute", type=amount, metavar="N", help="requests begun in a minute")
    added.add_argument(
        "--tokens-per-minute", type=amount, metavar="N", help="tokens of requests begun in a minute"
    )
    added.add_argument("--concurrent", type=amount, metavar="N", help="requests that run at once")
    added.set_defaults(run=run_set)
    shown = actions.add_parser("show", help="show limits, and what is used of them now")
    add_scope(shown, model=False)
    shown.set_defaults(run=run_show)
    for action in (added, shown):
        database_choice.add_arguments(action)
        action.add_argument("--json", action="store_true", help="print {limits: […]}")


def add_scope(parser: argparse.ArgumentParser, *, model: bool = True) -> None:
    """The options that say whose limit is meant."""
    whose = parser.add_mutually_exclusive_group(required=True)
    whose.add_argument("--org", type=UUID, metavar="ORG", help="of all keys of this organization together")
    whose.add_argument("--key", metavar="KEY_ID", help="of this key")
    if model:
        parser.add_argument("--model", metavar="MODEL", help="only of requests that ask for this model")


def amount(text: str) -> int:
    """argparse's type for a limit; `none` is 0."""
    if text == "none":
        return 0
    if not (text.isascii() and text.isdigit() and int(text) <= AMOUNT_MAX):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 (none) to {AMOUNT_MAX}")
    return int(text)


def run_set(given: argparse.Namespace) -> None:
    from storage.limits import set_limit, unset_limit

    chosen = {kind: number for name, kind in KINDS.items() if (number := getattr(given, name)) is not None}
    if not chosen:
        raise UsageError(
            "name a limit: --requests-per-minute, --tokens-per-minute or --concurrent "
            "(see `karta limits set --help`)"
        )

    async def change(db: Database) -> list[LimitStanding]:
        actor = database_choice.actor()
        for (kind, period), number in chosen.items():
            scope = make_scope(given, kind, period)
            if number:
                await set_limit(db, actor, scope, number)
            else:
                await unset_limit(db, actor, scope)
        return await find_standings(given, db)

    _print(given, database_choice.run(given, change))


def run_show(given: argparse.Namespace) -> None:
    async def select(db: Database) -> list[LimitStanding]:
        return await find_standings(given, db)

    _print(given, database_choice.run(given, select))


def make_scope(given: argparse.Namespace, kind: str, period: str) -> LimitScope:
    """What the arguments name."""
    from storage.limits import LimitScope
    from storage.model import LimitKind, Period

    return LimitScope(
        org_id=given.org, key_id=given.key, model=given.model, kind=LimitKind(kind), period=Period(period)
    )


async def find_standings(given: argparse.Namespace, db: Database) -> list[LimitStanding]:
    """All limits of the organization and its keys, or the key's own. An unknown one is an error."""
    from storage.limits import select_key_org, select_limits
    from storage.organizations import select_organization

    if given.key is not None:
        return await select_limits(db, await select_key_org(db, given.key), given.key)
    await select_organization(db, given.org)
    return await select_limits(db, given.org)


def describe(standing: LimitStanding) -> dict[str, object]:
    """A limit and its window as JSON."""
    limit = standing.limit
    return {
        "limit_id": limit.limit_id,
        "org_id": limit.org_id,
        "key_id": limit.key_id,
        "model": limit.model,
        "kind": limit.kind.value,
        "period": limit.period.value,
        "amount": limit.amount,
        "hard": limit.hard,
        "used": standing.settled,
        "held": standing.held,
        "written_off": standing.written_off,
    }


def whose(standing: LimitStanding) -> tuple[str, str]:
    """Two cells of a table: which key, which model."""
    return standing.limit.key_id or "(all)", standing.limit.model or "(all)"


def _print(given: argparse.Namespace, standings: Sequence[LimitStanding]) -> None:
    counted = [standing for standing in standings if standing.limit.kind.value != "money"]
    if given.json:
        print_json({"limits": [describe(standing) for standing in counted]})
    elif counted:
        rows = [
            (*whose(found), _name(found), f"{found.limit.amount:,}", f"{found.settled:,}", f"{found.held:,}")
            for found in counted
        ]
        print_table(("KEY", "MODEL", "LIMIT", "AMOUNT", "USED", "HELD"), rows)
    else:
        print("No limits. Set one: karta limits set (--org ORG | --key KEY_ID) --requests-per-minute N")


def _name(standing: LimitStanding) -> str:
    limit = standing.limit
    return limit.kind.value if limit.period.value == "none" else f"{limit.kind.value}/{limit.period.value}"
