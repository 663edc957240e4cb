"""`karta routes set | list | remove`: what an organization means by the name of a model."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from karta import database_choice
from karta.terminal import CommandError, UsageError, print_json, print_table

if TYPE_CHECKING:
    from karta.terminal import Commands
    from storage.bridge import Database
    from storage.model import Route, RouteTarget

_FORM = "PROVIDER/MODEL[,weight=N][,credential=byok|platform][,first-byte-seconds=S]"
_WEIGHT_MAX = 1000


def register(commands: Commands) -> None:
    group = commands.add_parser("routes", help="where requests for a model go: set, list, remove")
    actions = group.add_subparsers(title="actions", metavar="ACTION", required=True)
    added = actions.add_parser(
        "set",
        help="set or replace a route",
        description="Requests of the organization that name ALIAS as their model go to the first target, and "
        "to the next when that fails before an answer begins. Neighbours with a weight share their place and "
        "are drawn by it. Running gateways know within a second.",
    )
    added.add_argument(
        "--target",
        action="append",
        required=True,
        dest="targets",
        metavar="TARGET",
        help="PROVIDER/MODEL, and behind commas weight=N, credential=byok or platform, first-byte-seconds=S; "
        "again for each further one, in order",
    )
    added.set_defaults(run=run_set)
    removed = actions.add_parser("remove", help="remove a route")
    removed.set_defaults(run=run_remove)
    listed = actions.add_parser("list", help="list an organization's routes")
    listed.set_defaults(run=run_list)
    for action in (added, removed, listed):
        action.add_argument("--org", type=UUID, required=True, metavar="ORG", help="the organization's id")
        if action is not listed:
            action.add_argument("--alias", required=True, metavar="ALIAS", help="what requests name as model")
        database_choice.add_arguments(action)
        action.add_argument("--json", action="store_true", help="print {routes: […]}")


def run_set(given: argparse.Namespace) -> None:
    from storage.routes import set_route

    targets = [parse_target(text) for text in given.targets]

    async def change(db: Database) -> Route:
        return await set_route(db, database_choice.actor(), given.org, given.alias, targets)

    _print(given, [database_choice.run(given, change)])


def run_remove(given: argparse.Namespace) -> None:
    from storage.routes import remove_route

    async def change(db: Database) -> Route | None:
        return await remove_route(db, database_choice.actor(), given.org, given.alias)

    removed = database_choice.run(given, change)
    if removed is None:
        raise CommandError(f"there is no route of that name: see `karta routes list --org {given.org}`")
    if given.json:
        _print(given, [removed])
    else:
        print(f"{removed.alias} is a model's name like any other again.")


def run_list(given: argparse.Namespace) -> None:
    from storage.organizations import select_organization
    from storage.routes import select_routes

    async def select(db: Database) -> list[Route]:
        await select_organization(db, given.org)
        return await select_routes(db, given.org)

    _print(given, database_choice.run(given, select))


def parse_target(text: str) -> RouteTarget:
    """A target as it is written. Raises `UsageError`."""
    from gateway.provider import read_table
    from storage.model import CredentialKind, RouteTarget

    name, *options = text.split(",")
    provider, slash, model = name.partition("/")
    if not slash or not model:
        raise UsageError(f"--target: write {text!r} as {_FORM}")
    known = read_table()
    if provider not in known:
        raise CommandError(f"--target: {provider!r} is not one of {', '.join(sorted(known))}")
    weight, credential, seconds = None, None, None
    for option in options:
        word, _, value = option.partition("=")
        try:
            if word == "weight" and 1 <= int(value) <= _WEIGHT_MAX:
                weight = int(value)
            elif word == "credential" and value != CredentialKind.SIMULATED:
                credential = CredentialKind(value)
            elif word == "first-byte-seconds":
                seconds = float(value)
            else:
                raise ValueError
        except ValueError:
            raise UsageError(f"--target: {option!r} is none of the options of {_FORM}") from None
    return RouteTarget(
        provider=provider, model=model, weight=weight, credential=credential, first_byte_seconds=seconds
    )


def describe(route: Route) -> dict[str, object]:
    """A route as JSON."""
    return {
        "alias": route.alias,
        "targets": [
            {
                "provider": target.provider,
                "model": target.model,
                "weight": target.weight,
                "credential": target.credential,
                "first_byte_seconds": target.first_byte_seconds,
            }
            for target in route.targets
        ],
    }


def _print(given: argparse.Namespace, routes: Sequence[Route]) -> None:
    if given.json:
        print_json({"routes": [describe(route) for route in routes]})
    elif routes:
        rows = [
            (
                route.alias if place == 1 else "",
                str(place),
                target.provider,
                target.model,
                "" if target.weight is None else str(target.weight),
                target.credential or "",
                "" if target.first_byte_seconds is None else f"{target.first_byte_seconds:g}",
            )
            for route in routes
            for place, target in enumerate(route.targets, 1)
        ]
        print_table(("ALIAS", "PLACE", "PROVIDER", "MODEL", "WEIGHT", "KEY", "FIRST BYTE S"), rows)
    else:
        print(f"No routes. Set one: karta routes set --org {given.org} --alias NAME --target PROVIDER/MODEL")
