"""`karta master-key generate | rotate`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from karta import database_choice
from karta.terminal import CommandError, UsageError, print_json

if TYPE_CHECKING:
    from karta.terminal import Commands
    from storage.bridge import Database
    from storage.master_key_rotation import Rotation

VERSION_MAX = 2**31 - 1


def register(commands: Commands) -> None:
    group = commands.add_parser("master-key", help="make the key that seals provider credentials")
    actions = group.add_subparsers(title="actions", metavar="ACTION", required=True)
    generate = actions.add_parser(
        "generate",
        help="print a new master key",
        description="Print a new master key for KARTA_MASTER_KEYS or the file of KARTA_MASTER_KEYS_FILE. "
        "Keep it apart from the database: both together open every sealed credential.",
    )
    generate.add_argument(
        "--version", type=int, default=1, metavar="N", help="its number (default 1); the highest one seals"
    )
    generate.add_argument("--json", action="store_true", help="print {master_key}")
    generate.set_defaults(run=run)
    rotate = actions.add_parser(
        "rotate",
        help="move everything sealed under the newest master key",
        description="Move provider keys, secrets of webhooks and authenticator apps, and waiting mail under "
        "the master key with the highest number. Before it, give the new key to every gateway and admin "
        "server beside the old ones (KARTA_MASTER_KEYS or its file) and restart or reload them: they must "
        "open what is moved. "
        "After it, the old keys can go. Needs the database's owner.",
    )
    database_choice.add_arguments(rotate)
    rotate.add_argument(
        "--json",
        action="store_true",
        help="print {version, credentials, webhook_secrets, totp_secrets, messages, signing_keys, unopened}",
    )
    rotate.set_defaults(run=run_rotate)


def run(given: argparse.Namespace) -> None:
    from storage.sealing import MasterKeys

    if not 0 < given.version <= VERSION_MAX:
        raise UsageError(f"--version: a number from 1 to {VERSION_MAX}")
    master_key = MasterKeys.generate(given.version)
    if given.json:
        print_json({"master_key": master_key})
    else:
        print(master_key)


def run_rotate(given: argparse.Namespace) -> None:
    import msgspec

    from storage.master_key_rotation import rotate_master_key

    master_keys = database_choice.choose(given).load_master_keys()
    if master_keys is None:
        raise CommandError("no master key: set KARTA_MASTER_KEYS or KARTA_MASTER_KEYS_FILE")

    async def rotate(db: Database) -> Rotation:
        return await rotate_master_key(db, database_choice.actor(), master_keys)

    moved = database_choice.run_as_owner(given, rotate)
    if given.json:
        print_json(msgspec.structs.asdict(moved))
    else:
        print(
            f"Moved under master key {moved.version}: {moved.credentials} provider keys, "
            f"{moved.webhook_secrets} secrets of webhooks, {moved.totp_secrets} secrets of apps and "
            f"{moved.messages} mails."
        )
    if not moved.complete:
        raise CommandError(
            f"{moved.unopened} sealed things open with none of the master keys given: keep the older ones, "
            "and give them all"
        )
    if not given.json:
        print("Nothing is left under an older one.")
