"""The first run's owner, organization and keys; made once for each data directory.

Every step is written down before or right after it is taken, so that a first run that was killed is
taken up where it stopped: the password is kept before the user is made, each key as soon as it is
minted. The secrets stay in `first_run.json` (0600) only until they have been printed; then
`forget_secrets` takes them out.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID

import trio

from karta.data_dir import DataDir

if TYPE_CHECKING:
    from storage.bridge import Database
    from storage.model import Actor

NAME = "first_run"
OWNER_EMAIL = "owner@example.com"
ORGANIZATION_NAME = "My organization"
PASSWORD_BYTES = 15
"""120 bits, written as 20 characters."""


@dataclass(frozen=True)
class FirstRun:
    """What was made. Secrets are None on later runs, and where the owner was there before this data
    directory."""

    org_id: UUID
    owner_email: str
    owner_password: str | None = field(default=None, repr=False)
    api_key: str | None = field(default=None, repr=False)
    test_api_key: str | None = field(default=None, repr=False)


async def provision(db: Database, data_dir: DataDir) -> FirstRun:
    """Make what is missing. `db` is used as karta_admin. Raises `StorageError`."""
    notes = data_dir.read(NAME)
    if not notes.get("printed"):
        await _provision(db, data_dir, notes)
    secret = {} if notes.get("printed") else notes
    return FirstRun(
        org_id=UUID(notes["org_id"]),
        owner_email=notes["owner_email"],
        owner_password=secret.get("owner_password"),
        api_key=secret.get("api_key"),
        test_api_key=secret.get("test_api_key"),
    )


def forget_secrets(data_dir: DataDir) -> None:
    """To be called once the secrets have been shown: they are shown exactly once."""
    notes = data_dir.read(NAME)
    data_dir.write(NAME, {"printed": True, "org_id": notes["org_id"], "owner_email": notes["owner_email"]})


async def _provision(db: Database, data_dir: DataDir, notes: dict[str, Any]) -> None:
    from storage.model import Actor, ActorKind, Mode

    actor = Actor(kind=ActorKind.SYSTEM, actor_id="karta up")
    # None where an earlier start found an owner that was not ours.
    if notes.get("owner_password") is None:
        notes.update(owner_email=OWNER_EMAIL, owner_password=secrets.token_urlsafe(PASSWORD_BYTES))
        data_dir.write(NAME, notes)
    user_id, ours = await _ensure_owner(db, actor, notes["owner_email"], notes["owner_password"])
    notes["org_id"] = str(await _ensure_organization(db, actor, user_id))
    if not ours:
        # Another data directory made this owner in this database: its password and keys are not ours to tell.
        notes["owner_password"] = None
    data_dir.write(NAME, notes)
    if not ours:
        return
    await _ensure_keys(db, actor, data_dir, notes, {"api_key": Mode.LIVE, "test_api_key": Mode.TEST})


async def _ensure_owner(db: Database, actor: Actor, email: str, password: str) -> tuple[UUID, bool]:
    """The owner's id, and whether `password` is theirs."""
    from storage.passwords import digest_password, verify_password
    from storage.users import create_user, select_user_by_email

    found = await select_user_by_email(db, email)
    if found is None:
        digest = await trio.to_thread.run_sync(digest_password, password)
        return (await create_user(db, actor, email=email, password_digest=digest)).user_id, True
    user, digest = found
    return user.user_id, await trio.to_thread.run_sync(verify_password, password, digest)


async def _ensure_organization(db: Database, actor: Actor, user_id: UUID) -> UUID:
    from storage.model import Plan, Role
    from storage.organizations import create_organization, select_organizations_by_user
    from storage.users import add_member

    for organization, _ in await select_organizations_by_user(db, user_id):
        return organization.org_id
    organization = await create_organization(db, actor, name=ORGANIZATION_NAME, plan=Plan.PRO)
    await add_member(db, actor, organization.org_id, user_id, Role.OWNER)
    return organization.org_id


async def _ensure_keys(
    db: Database, actor: Actor, data_dir: DataDir, notes: dict[str, Any], wanted: dict[str, Any]
) -> None:
    from storage.api_keys import mint_key

    for note, mode in wanted.items():
        if note not in notes:
            name = f"First {mode.value} key"
            _, notes[note] = await mint_key(db, actor, org_id=UUID(notes["org_id"]), name=name, mode=mode)
            data_dir.write(NAME, notes)
