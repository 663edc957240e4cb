"""`karta staff grant | revoke | list`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING
from uuid import UUID

from karta import database_choice
from karta.terminal import print_json, print_table

if TYPE_CHECKING:
    from karta.terminal import Commands
    from storage.bridge import Database
    from storage.staff import StaffMember


def register(commands: Commands) -> None:
    group = commands.add_parser("staff", help="platform operators: grant, revoke, list")
    actions = group.add_subparsers(title="actions", metavar="ACTION", required=True)
    grant = actions.add_parser(
        "grant",
        help="make a user a platform operator",
        description="Make a user a platform operator, who sees and suspends every organization in the admin "
        "pages. They need a second factor for it. Needs the database's owner.",
    )
    grant.add_argument("email", metavar="EMAIL", help="the address they sign in with")
    grant.set_defaults(run=run_grant)
    revoke = actions.add_parser("revoke", help="make a platform operator a mere user again")
    revoke.add_argument("email", metavar="EMAIL", help="the address they sign in with")
    revoke.set_defaults(run=run_revoke)
    listed = actions.add_parser("list", help="list the platform operators")
    listed.set_defaults(run=run_list)
    for action in (grant, revoke, listed):
        database_choice.add_arguments(action)
        action.add_argument("--json", action="store_true", help="print one JSON document")


def run_grant(given: argparse.Namespace) -> None:
    from storage.staff import grant_staff

    async def grant(db: Database) -> UUID:
        return await grant_staff(db, database_choice.actor(), given.email)

    _print(given, database_choice.run_as_owner(given, grant), "is a platform operator")


def run_revoke(given: argparse.Namespace) -> None:
    from storage.staff import revoke_staff

    async def revoke(db: Database) -> UUID:
        return await revoke_staff(db, database_choice.actor(), given.email)

    _print(given, database_choice.run_as_owner(given, revoke), "is a platform operator no more")


def run_list(given: argparse.Namespace) -> None:
    from storage.staff import select_staff

    async def select(db: Database) -> list[StaffMember]:
        return await select_staff(db)

    found = database_choice.run(given, select)
    if given.json:
        told = [
            {
                "user_id": one.user_id,
                "email": one.email,
                "granted_at": one.granted_at,
                "has_factor": one.has_factor,
            }
            for one in found
        ]
        print_json({"staff": told})
    elif found:
        rows = [(one.email, f"{one.granted_at:%Y-%m-%d}", "yes" if one.has_factor else "no") for one in found]
        print_table(("EMAIL", "SINCE", "SECOND FACTOR"), rows)
    else:
        print("Nobody yet. Make somebody one: karta staff grant EMAIL")


def _print(given: argparse.Namespace, user_id: UUID, told: str) -> None:
    if given.json:
        print_json({"user_id": user_id})
    else:
        print(f"{given.email} {told}.")
