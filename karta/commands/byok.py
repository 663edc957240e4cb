"""`karta byok set | rotate | revoke | list`: provider keys that an organization brings."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING
from uuid import UUID

from karta import database_choice
from karta.terminal import CommandError, print_json, print_table, read_secret

if TYPE_CHECKING:
    from karta.terminal import Commands
    from storage.model import ProviderCredential
    from storage.sealing import MasterKeys


def register(commands: Commands) -> None:
    group = commands.add_parser("byok", help="an organization's own provider keys")
    actions = group.add_subparsers(title="actions", metavar="ACTION", required=True)
    added = actions.add_parser(
        "set",
        help="seal a provider key for an organization",
        description="Seal a provider key, read from stdin, for an organization on the Pro or Enterprise "
        "plan. It replaces the one the organization has for that provider, which is shredded.",
    )
    added.add_argument("--org", type=UUID, required=True, metavar="ORG", help="the organization's id")
    added.add_argument("--provider", required=True, metavar="NAME", help="anthropic, openai, …")
    added.set_defaults(run=run_set)
    rotate = actions.add_parser(
        "rotate",
        help="replace a sealed key by a new one",
        description="Seal a new provider key, read from stdin, in place of an old one, which is shredded.",
    )
    rotate.set_defaults(run=run_rotate)
    revoke = actions.add_parser("revoke", help="shred a sealed key")
    revoke.set_defaults(run=run_revoke)
    for action in (rotate, revoke):
        action.add_argument("credential_id", type=UUID, metavar="CREDENTIAL_ID")
    for action in (added, rotate):
        action.add_argument(
            "--secret-file", metavar="FILE", help="read the provider key from FILE instead of stdin"
        )
    listed = actions.add_parser("list", help="list an organization's provider keys")
    listed.add_argument("--org", type=UUID, required=True, metavar="ORG", help="the organization's id")
    listed.set_defaults(run=run_list)
    for action in (added, rotate, revoke, listed):
        database_choice.add_arguments(action)
        action.add_argument("--json", action="store_true", help="print one JSON document")


def run_set(given: argparse.Namespace) -> None:
    from storage.bridge import Database
    from storage.credentials import set_credential

    _check_provider(given.provider)
    master_keys = _master_keys(given)
    secret = read_secret(given.secret_file, "the provider key")

    async def seal(db: Database) -> ProviderCredential:
        actor = database_choice.actor()
        return await set_credential(
            db, actor, master_keys, org_id=given.org, provider=given.provider, secret=secret
        )

    _print(given, database_choice.run(given, seal), "is sealed")


def run_rotate(given: argparse.Namespace) -> None:
    from storage.bridge import Database
    from storage.credentials import rotate_credential

    master_keys = _master_keys(given)
    secret = read_secret(given.secret_file, "the provider key")

    async def rotate(db: Database) -> ProviderCredential:
        actor = database_choice.actor()
        return await rotate_credential(db, actor, master_keys, given.credential_id, secret)

    _print(given, database_choice.run(given, rotate), "is sealed")


def run_revoke(given: argparse.Namespace) -> None:
    from storage.bridge import Database
    from storage.credentials import revoke_credential

    async def revoke(db: Database) -> ProviderCredential:
        return await revoke_credential(db, database_choice.actor(), given.credential_id)

    _print(given, database_choice.run(given, revoke), "is shredded")


def run_list(given: argparse.Namespace) -> None:
    from storage.bridge import Database
    from storage.credentials import CREDENTIALS_MAX, select_credentials
    from storage.organizations import select_organization

    async def select(db: Database) -> list[ProviderCredential]:
        await select_organization(db, given.org)
        found: list[ProviderCredential] = []
        while True:
            page = await select_credentials(db, given.org, after=found[-1].credential_id if found else None)
            found += page
            if len(page) < CREDENTIALS_MAX:
                return found

    credentials = database_choice.run(given, select)
    if given.json:
        print_json({"credentials": [describe(credential) for credential in credentials]})
    elif credentials:
        rows = [
            (str(found.credential_id), found.provider, f"…{found.last_four}", _status(found))
            for found in credentials
        ]
        print_table(("CREDENTIAL_ID", "PROVIDER", "ENDS", "STATUS"), rows)
    else:
        print(f"None yet. Bring one: karta byok set --org {given.org} --provider anthropic < FILE")


def describe(credential: ProviderCredential) -> dict[str, object]:
    """A credential as JSON; the secret is not in it."""
    return {
        "credential_id": credential.credential_id,
        "org_id": credential.org_id,
        "provider": credential.provider,
        "last_four": credential.last_four,
        "created_at": credential.created_at,
        "revoked_at": credential.revoked_at,
    }


def _status(credential: ProviderCredential) -> str:
    return "active" if credential.revoked_at is None else f"revoked {credential.revoked_at:%Y-%m-%d}"


def _print(given: argparse.Namespace, credential: ProviderCredential, what: str) -> None:
    if given.json:
        print_json(describe(credential))
    else:
        print(f"{credential.credential_id} ({credential.provider}, …{credential.last_four}) {what}.")


def _master_keys(given: argparse.Namespace) -> MasterKeys:
    master_keys = database_choice.choose(given).load_master_keys()
    if master_keys is None:
        raise CommandError("no master key to seal with: set KARTA_MASTER_KEYS or KARTA_MASTER_KEYS_FILE")
    return master_keys


def _check_provider(name: str) -> None:
    from gateway.provider import read_table

    known = read_table()
    if name not in known:
        raise CommandError(f"--provider: {name!r} is not one of {', '.join(sorted(known))}")
