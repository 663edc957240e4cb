"""`karta master-key generate`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from karta.terminal import UsageError, print_json

if TYPE_CHECKING:
    from karta.terminal import Commands

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


def run(given: argparse.Namespace) -> None:
    from storage.sealing import MasterKeys

    if not 0 < given.version <= VERSION_MAX:
        raise UsageError(f"--version: a number from 1 to {VERSION_MAX}")
    master_key = MasterKeys.generate(given.version)
    if given.json:
        print_json({"master_key": master_key})
    else:
        print(master_key)
