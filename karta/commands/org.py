"""`karta org create | list | set-plan | set-server-timing`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING
from uuid import UUID

from karta import database_choice
from karta.terminal import print_json, print_table

if TYPE_CHECKING:
    from karta.terminal import Commands
    from storage.model import Organization

PAGE_MAX = 1000
"""Organizations that `list` prints at a time."""
PLANS = ("free", "pro", "enterprise")
# As text, since to import the storage model for a help page would cost more than to repeat three words;
# a test compares them.


def register(commands: Commands) -> None:
    group = commands.add_parser("org", help="organizations: create, list, change plan")
    actions = group.add_subparsers(title="actions", metavar="ACTION", required=True)
    create = actions.add_parser("create", help="make an organization")
    create.add_argument("--name", required=True)
    create.add_argument("--plan", choices=PLANS, default="free", help="default: free")
    create.set_defaults(run=run_create)
    listed = actions.add_parser("list", help="list organizations, the oldest first")
    listed.add_argument(
        "--after", type=UUID, metavar="ORG", help="go on behind this one, the last of the page before"
    )
    listed.add_argument(
        "--limit", type=_page_size, default=PAGE_MAX, metavar="N", help=f"1 to {PAGE_MAX}, the default"
    )
    listed.add_argument(
        "--json",
        action="store_true",
        help="print {organizations: [{org_id, name, plan, status, created_at}]}",
    )
    listed.set_defaults(run=run_list)
    database_choice.add_arguments(listed)
    set_plan = actions.add_parser("set-plan", help="change an organization's plan")
    set_plan.add_argument("--org", type=UUID, required=True, metavar="ORG", help="the organization's id")
    set_plan.add_argument("plan", choices=PLANS)
    set_plan.set_defaults(run=run_set_plan)
    timing = actions.add_parser(
        "set-server-timing",
        help="whether the answers to an organization say how long each stage took",
    )
    timing.add_argument("--org", type=UUID, required=True, metavar="ORG", help="the organization's id")
    timing.add_argument("wanted", choices=("on", "off"))
    timing.set_defaults(run=run_set_server_timing)
    for action in (create, set_plan, timing):
        database_choice.add_arguments(action)
        action.add_argument(
            "--json", action="store_true", help="print {org_id, name, plan, status, created_at}"
        )


def run_create(given: argparse.Namespace) -> None:
    from storage.bridge import Database
    from storage.model import Plan
    from storage.organizations import create_organization

    async def create(db: Database) -> Organization:
        actor = database_choice.actor()
        return await create_organization(db, actor, name=given.name, plan=Plan(given.plan))

    _print(given, database_choice.run(given, create))


def _page_size(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= PAGE_MAX:
        raise argparse.ArgumentTypeError(f"must be 1 to {PAGE_MAX}")
    return int(text)


def run_list(given: argparse.Namespace) -> None:
    from storage.bridge import Database
    from storage.organizations import select_organization, select_organizations

    async def select(db: Database) -> list[Organization]:
        if given.after is not None:
            await select_organization(db, given.after)  # an unknown one is an error, not an empty list
        return await select_organizations(db, given.limit, given.after)

    found = database_choice.run(given, select)
    if given.json:
        print_json({"organizations": [_describe(one) for one in found]})
    elif found:
        rows = [
            (str(one.org_id), one.name, one.plan.value, one.status.value, f"{one.created_at:%Y-%m-%d}")
            for one in found
        ]
        print_table(("ORG_ID", "NAME", "PLAN", "STATUS", "SINCE"), rows)
        if len(found) == given.limit:
            print(f"There may be more: karta org list --after {found[-1].org_id}")
    elif given.after is None:
        print("No organizations yet. Make one: karta org create --name NAME")


def run_set_plan(given: argparse.Namespace) -> None:
    from storage.bridge import Database
    from storage.model import Plan
    from storage.organizations import select_organization, set_plan

    async def change(db: Database) -> Organization:
        await set_plan(db, database_choice.actor(), given.org, Plan(given.plan))
        return await select_organization(db, given.org)

    _print(given, database_choice.run(given, change))


def run_set_server_timing(given: argparse.Namespace) -> None:
    from storage.bridge import Database
    from storage.organizations import set_server_timing

    async def change(db: Database) -> Organization:
        return await set_server_timing(db, database_choice.actor(), given.org, given.wanted == "on")

    organization = database_choice.run(given, change)
    if given.json:
        print_json(_describe(organization))
    else:
        print(f"{organization.org_id}  {organization.name}  server-timing is {given.wanted}")


def _print(given: argparse.Namespace, organization: Organization) -> None:
    if given.json:
        print_json(_describe(organization))
    else:
        print(f"{organization.org_id}  {organization.name}  {organization.plan.value}")


def _describe(organization: Organization) -> dict[str, object]:
    return {
        "org_id": organization.org_id,
        "name": organization.name,
        "plan": organization.plan.value,
        "status": organization.status.value,
        "created_at": organization.created_at,
    }
