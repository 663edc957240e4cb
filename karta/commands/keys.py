"""`karta keys mint | list | allow | revoke | rotate`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from karta import database_choice
from karta.terminal import CommandError, JSONList, print_error, print_json, print_table

if TYPE_CHECKING:
    from karta.terminal import Commands
    from storage.model import APIKey

PAGE_KEYS_MAX = 200
"""How many keys a query fetches; `list` goes on until it has them all."""
COUNT_MAX = 10_000


def register(commands: Commands) -> None:
    group = commands.add_parser("keys", help="customer keys: mint, list, allow, revoke, rotate")
    actions = group.add_subparsers(title="actions", metavar="ACTION", required=True)
    mint = actions.add_parser(
        "mint",
        help="make a key",
        description="Make a key and print it. It is shown this once and kept nowhere.",
    )
    mint.add_argument("--org", type=UUID, required=True, metavar="ORG", help="the organization's id")
    mint.add_argument("--name", required=True, help="what the key is for, to tell it from others")
    mint.add_argument(
        "--test",
        action="store_true",
        help="a kt_test_ key: it reaches the simulated provider and is never billed",
    )
    mint.add_argument(
        "--billed-elsewhere",
        action="store_true",
        help="also under a hard budget: what tells its cost only later (batches, background answers, agents)",
    )
    mint.add_argument(
        "--count",
        type=key_count,
        metavar="N",
        help=f"make so many keys of that name (up to {COUNT_MAX}): for tests of load",
    )
    for option, metavar, told in (
        ("--model", "NAME", "a model it may ask for"),
        ("--endpoint", "NAME", "an endpoint it may use, by what follows /v1/, like messages"),
        ("--network", "CIDR", "where its clients may be, like 192.0.2.0/24"),
    ):
        mint.add_argument(
            option,
            action="append",
            default=[],
            metavar=metavar,
            help=f"{told}; may be given again (default: any)",
        )
    mint.set_defaults(run=run_mint)
    listed = actions.add_parser("list", help="list an organization's keys")
    listed.add_argument("--org", type=UUID, required=True, metavar="ORG", help="the organization's id")
    listed.set_defaults(run=run_list)
    allow = actions.add_parser("allow", help="change what a key may do")
    allow.add_argument("key_id", metavar="KEY_ID", help="the 12 characters after kt_live_")
    allow.add_argument(
        "--billed-elsewhere",
        action=argparse.BooleanOptionalAction,
        required=True,
        help="under a hard budget, what tells its cost only later (batches, background answers, agents)",
    )
    allow.set_defaults(run=run_allow)
    revoke = actions.add_parser("revoke", help="refuse a key from now on, everywhere")
    revoke.add_argument("key_id", metavar="KEY_ID", help="the 12 characters after kt_live_")
    revoke.set_defaults(run=run_revoke)
    rotate = actions.add_parser(
        "rotate",
        help="replace a key by a new one",
        description="Make a new key with the settings of an old one, and print it. The old one is refused "
        "after the overlap.",
    )
    rotate.add_argument("key_id", metavar="KEY_ID", help="the old key's id")
    rotate.add_argument(
        "--overlap", type=seconds, default=0, metavar="SECONDS", help="how long both work (default 0)"
    )
    rotate.set_defaults(run=run_rotate)
    for action in (mint, listed, allow, revoke, rotate):
        database_choice.add_arguments(action)
        action.add_argument("--json", action="store_true", help="print one JSON document")


def key_count(text: str) -> int:
    """argparse's type for a number of keys."""
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= COUNT_MAX):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of keys (1 to {COUNT_MAX})")
    return int(text)


def seconds(text: str) -> int:
    """argparse's type for a duration."""
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return int(text)


def run_mint(given: argparse.Namespace) -> None:
    from storage.api_keys import mint_key
    from storage.bridge import Database
    from storage.errors import CommitUnknown, StorageError
    from storage.key_batches import mint_keys
    from storage.key_scopes import parse_endpoints, parse_networks
    from storage.model import Mode

    about: dict[str, Any] = {
        "org_id": given.org,
        "name": given.name,
        "mode": Mode.TEST if given.test else Mode.LIVE,
        "allowed_models": given.model or None,
        "allowed_endpoints": parse_endpoints(given.endpoint),
        "allowed_networks": parse_networks(given.network),
        "billed_elsewhere": given.billed_elsewhere,
    }

    async def mint(db: Database) -> tuple[APIKey, str]:
        return await mint_key(db, database_choice.actor(), **about)

    if given.count is None:
        _print_minted(given, *database_choice.run(given, mint))
        return

    shown = 0
    document = JSONList("keys")

    def show(minted: Sequence[tuple[APIKey, str]]) -> None:
        nonlocal shown
        if given.json:
            document.add({"key": token, **describe(key)} for key, token in minted)
        else:
            if not shown:
                print_error(f"{given.count} keys; shown this once:")
            print("\n".join(token for _, token in minted), flush=True)
        shown += len(minted)

    async def mint_all(db: Database) -> None:
        try:
            await mint_keys(db, database_choice.actor(), given.count, show, **about)
        except StorageError as error:
            if not shown:
                raise
            doubt = ", the last of which may not be there" if isinstance(error, CommitUnknown) else ""
            raise CommandError(f"{error}; {shown} of {given.count} keys are shown{doubt}") from error
        finally:
            document.end()

    database_choice.run(given, mint_all)


def run_rotate(given: argparse.Namespace) -> None:
    from storage.api_keys import rotate_key
    from storage.bridge import Database

    async def rotate(db: Database) -> tuple[APIKey, str]:
        return await rotate_key(db, database_choice.actor(), given.key_id, given.overlap)

    _print_minted(given, *database_choice.run(given, rotate))


def run_allow(given: argparse.Namespace) -> None:
    from storage.api_keys import allow_elsewhere
    from storage.bridge import Database

    async def allow(db: Database) -> APIKey:
        return await allow_elsewhere(db, database_choice.actor(), given.key_id, given.billed_elsewhere)

    key = database_choice.run(given, allow)
    if given.json:
        print_json(describe(key))
    else:
        may = "may" if key.billed_elsewhere else "may not"
        print(f"{key.key_id} ({key.name}) {may} use what is billed elsewhere while a hard budget holds.")


def run_revoke(given: argparse.Namespace) -> None:
    from storage.api_keys import revoke_key
    from storage.bridge import Database

    async def revoke(db: Database) -> APIKey:
        return await revoke_key(db, database_choice.actor(), given.key_id)

    key = database_choice.run(given, revoke)
    if given.json:
        print_json(describe(key))
    else:
        print(f"{key.key_id} ({key.name}) is revoked.")


def run_list(given: argparse.Namespace) -> None:
    from storage.api_keys import select_keys
    from storage.bridge import Database
    from storage.organizations import select_organization

    async def select(db: Database) -> list[APIKey]:
        await select_organization(db, given.org)  # an unknown organization is an error, not an empty list
        keys: list[APIKey] = []
        while True:
            page = await select_keys(db, given.org, PAGE_KEYS_MAX, keys[-1].key_id if keys else None)
            keys += page
            if len(page) < PAGE_KEYS_MAX:
                return keys

    keys = database_choice.run(given, select)
    if given.json:
        print_json({"keys": [describe(key) for key in keys]})
    elif keys:
        rows = [(key.key_id, key.name, key.mode.value, f"…{key.last_four}", _status(key)) for key in keys]
        print_table(("KEY_ID", "NAME", "MODE", "ENDS", "STATUS"), rows)
    else:
        print(f"No keys yet. Make one: karta keys mint --org {given.org} --name NAME")


def describe(key: APIKey) -> dict[str, object]:
    """A key as JSON."""
    return {
        "key_id": key.key_id,
        "org_id": key.org_id,
        "name": key.name,
        "mode": key.mode.value,
        "last_four": key.last_four,
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
        "last_used_at": key.last_used_at,
        "allowed_models": key.allowed_models,
        "allowed_endpoints": key.allowed_endpoints,
        "allowed_networks": key.allowed_networks,
        "billed_elsewhere": key.billed_elsewhere,
    }


def _status(key: APIKey) -> str:
    if key.revoked_at is not None:
        return f"revoked {key.revoked_at:%Y-%m-%d}"
    if key.expires_at is not None:
        return f"until {key.expires_at:%Y-%m-%d %H:%M} UTC"
    return "active"


def _print_minted(given: argparse.Namespace, key: APIKey, token: str) -> None:
    if given.json:
        print_json({"key": token, **describe(key)})
    else:
        print_error(f"key {key.key_id} ({key.name}); shown this once:")
        print(token)
