"""`karta budget set | show`: money that an organization or a key may cost in a day or a month."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING

from karta import database_choice
from karta.commands.limits import AMOUNT_MAX, add_scope, describe, find_standings, make_scope, whose
from karta.terminal import UsageError, print_json, print_table

if TYPE_CHECKING:
    from karta.terminal import Commands
    from storage.bridge import Database
    from storage.limits import LimitStanding

PICODOLLARS = 10**12
"""In a dollar."""


def register(commands: Commands) -> None:
    group = commands.add_parser("budget", help="money limits: set, show")
    actions = group.add_subparsers(title="actions", metavar="ACTION", required=True)
    added = actions.add_parser(
        "set",
        help="set, change or remove a budget",
        description="Set, change or remove what an organization or one key may cost in a day or a month "
        "(UTC). A budget that is set within its period counts what was spent since the period began.",
    )
    add_scope(added)
    amount = added.add_mutually_exclusive_group(required=True)
    amount.add_argument("--usd", type=picodollars, metavar="AMOUNT", help="dollars; 0 removes the budget")
    amount.add_argument("--none", action="store_true", help="remove the budget")
    added.add_argument("--period", choices=("day", "month"), required=True)
    added.add_argument("--soft", action="store_true", help="only tell when it is reached; refuse nothing")
    added.add_argument(
        "--thresholds",
        type=percentages,
        default=(50, 80, 100),
        metavar="LIST",
        help="the percentages at which it tells (default 50,80,100)",
    )
    added.set_defaults(run=run_set)
    shown = actions.add_parser("show", help="show budgets, and what is spent of them now")
    add_scope(shown, model=False)
    shown.set_defaults(run=run_show)
    for action in (added, shown):
        database_choice.add_arguments(action)
        action.add_argument("--json", action="store_true", help="print {budgets: […]}")


def picodollars(text: str) -> int:
    """argparse's type for an amount of dollars, kept exactly."""
    try:
        amount = Decimal(text.removeprefix("$")) * PICODOLLARS
        if amount == amount.to_integral_value() and 0 <= amount <= AMOUNT_MAX:
            return int(amount)
    except (InvalidOperation, ValueError, OverflowError):
        pass
    raise argparse.ArgumentTypeError(
        f"{text!r} is not an amount of dollars (0 to {AMOUNT_MAX // PICODOLLARS})"
    )


def percentages(text: str) -> tuple[int, ...]:
    """argparse's type for a list of thresholds."""
    parts = text.split(",") if text else []
    if len(parts) > 10 or not all(
        part.isascii() and part.isdigit() and 1 <= int(part) <= 1000 for part in parts
    ):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of up to 10 percentages, as 50,80,100")
    return tuple(sorted({int(part) for part in parts}))


def run_set(given: argparse.Namespace) -> None:
    from storage.limits import set_limit, unset_limit

    if given.soft and not given.usd:
        raise UsageError("--soft needs an amount (see `karta budget set --help`)")

    async def change(db: Database) -> list[LimitStanding]:
        actor, scope = database_choice.actor(), make_scope(given, "money", given.period)
        if given.usd:
            await set_limit(db, actor, scope, given.usd, hard=not given.soft, thresholds=given.thresholds)
        else:
            await unset_limit(db, actor, scope)
        return await find_standings(given, db)

    _print(given, database_choice.run(given, change))


def run_show(given: argparse.Namespace) -> None:
    async def select(db: Database) -> list[LimitStanding]:
        return await find_standings(given, db)

    _print(given, database_choice.run(given, select))


def dollars(amount: int) -> float:
    """Picodollars as JSON's number of dollars, which is what people count in."""
    return float(Decimal(amount) / PICODOLLARS)


def show_dollars(amount: int) -> str:
    """Picodollars for people: cents at least, and nothing rounded away."""
    whole, rest = divmod(amount, PICODOLLARS)
    return f"${whole:,}.{f'{rest:012}'.rstrip('0').ljust(2, '0')}"


def _print(given: argparse.Namespace, standings: Sequence[LimitStanding]) -> None:
    budgets = [standing for standing in standings if standing.limit.kind.value == "money"]
    if given.json:
        print_json({"budgets": [_describe(standing) for standing in budgets]})
    elif budgets:
        rows = [
            (
                *whose(found),
                found.limit.period.value,
                show_dollars(found.limit.amount),
                "hard" if found.limit.hard else "soft",
                show_dollars(found.settled),
                f"{found.settled * 100 // found.limit.amount} %",
                show_dollars(found.held),
            )
            for found in budgets
        ]
        print_table(("KEY", "MODEL", "PERIOD", "BUDGET", "KIND", "SPENT", "", "HELD"), rows)
    else:
        print("No budgets. Set one: karta budget set (--org ORG | --key KEY_ID) --usd 100 --period month")


def _describe(standing: LimitStanding) -> dict[str, object]:
    limit = standing.limit
    return describe(standing) | {
        "usd": dollars(limit.amount),
        "spent_usd": dollars(standing.settled),
        "held_usd": dollars(standing.held),
        "thresholds": list(limit.thresholds),
    }
