"""What people do with their accounts: sign up, reset a password, change address or password, leave.

Mail is part of each change, posted in its transaction (`outbox`). Who asks for a sign-up or a reset is told
the same whether the address is known or not, after the same time (the pages see to that); what differs is in
the mail, which only the owner of the address reads. So no account exists before its address is confirmed.

A new password ends the user's other sessions, and every link that was still open; a new address ends the
links alone.
"""

from __future__ import annotations

from uuid import UUID

import msgspec

from storage import audit
from storage.audit import Event
from storage.bridge import Database, Transaction
from storage.email_links import EmailLink, LinkPurpose, create_link, delete_links, spend_link
from storage.errors import Conflict, NotFound
from storage.factors import delete_factors
from storage.management_keys import revoke_keys_of_member
from storage.model import Actor, Organization, Plan, Role, User
from storage.organizations import insert_organization
from storage.outbox import Letter, post
from storage.passwords import REFERENCE_DIGEST
from storage.sealing import MasterKeys
from storage.sessions import end_sessions, require_session
from storage.users import (
    insert_member,
    insert_user,
    normalize_email,
    record_account_change,
    select_user,
    select_user_by_email,
)

_BY_LINK = {"by": "link"}
_BY_USER = {"by": "user"}


class Letters(msgspec.Struct, frozen=True):
    """What is written to an address that has an account, and to one that has none (None: nothing)."""

    known: Letter | None
    unknown: Letter | None


async def request_sign_up(
    db: Database, actor: Actor, master_keys: MasterKeys, email: str, token_digest: bytes, letters: Letters
) -> None:
    """Sends a link to sign up by. To somebody who has an account, word of that instead.

    Raises InvalidValue when it is no address.
    """
    email = normalize_email(email)
    async with db.transaction() as tx:
        known = await select_user_by_email(tx, email) is not None
        # Also for a known address, where nobody is told the token: the work is the same.
        await create_link(tx, LinkPurpose.SIGN_UP, email, None, token_digest)
        await _post(tx, master_keys, letters, known)
        await audit.record(tx, actor, Event.SIGN_UP_REQUESTED, None, "unknown", {})


async def complete_sign_up(
    db: Database, actor: Actor, token_digest: bytes, password_digest: bytes, organization_name: str
) -> tuple[User, Organization]:
    """Makes the account and its first organization, on the Free plan, of which it is the owner.

    Raises NotFound for a link that is spent, Conflict when the address has an account by now, CheckFailed for
    a name that is empty or over 200 characters.
    """
    async with db.transaction() as tx:
        link = await spend_link(tx, LinkPurpose.SIGN_UP, token_digest)
        user = await insert_user(tx, actor, link.email, password_digest)
        organization = await insert_organization(tx, actor, organization_name, Plan.FREE)
        await insert_member(tx, actor, organization.org_id, user.user_id, Role.OWNER)
    return user, organization


async def request_reset(
    db: Database, actor: Actor, master_keys: MasterKeys, email: str, token_digest: bytes, letters: Letters
) -> None:
    """Sends a link to set a new password by, if there is such an account. Raises InvalidValue when it is no
    address."""
    email = normalize_email(email)
    async with db.transaction() as tx:
        found = await select_user_by_email(tx, email)
        if found is not None:
            user, _ = found
            await create_link(tx, LinkPurpose.RESET_PASSWORD, email, user.user_id, token_digest)
        await _post(tx, master_keys, letters, found is not None)
        subject = "unknown" if found is None else str(found[0].user_id)
        await audit.record(tx, actor, Event.PASSWORD_RESET_REQUESTED, None, subject, {})


async def reset_password(
    db: Database,
    actor: Actor,
    master_keys: MasterKeys,
    token_digest: bytes,
    password_digest: bytes,
    letter: Letter,
) -> UUID:
    """Sets a new password by a link, and ends every session. Signs nobody in. Raises NotFound for a spent
    link."""
    async with db.transaction() as tx:
        link = await spend_link(tx, LinkPurpose.RESET_PASSWORD, token_digest)
        user_id = _user_of(link)
        await _set_password(tx, user_id, password_digest)
        await end_sessions(tx, user_id)
        await post(tx, master_keys, letter)
        await record_account_change(tx, actor, Event.PASSWORD_CHANGED, user_id, _BY_LINK, _BY_LINK)
    return user_id


async def change_password(
    db: Database,
    actor: Actor,
    master_keys: MasterKeys,
    user_id: UUID,
    password_digest: bytes,
    letter: Letter,
    *,
    keep_session: bytes | None,
) -> None:
    """Sets a new password and ends all other sessions.

    Raises SessionEnded when the session that is kept has ended, NotFound for no user.
    """
    async with db.transaction() as tx:
        if keep_session is not None:
            await require_session(tx, user_id, keep_session)
        await _set_password(tx, user_id, password_digest)
        await end_sessions(tx, user_id, keep=keep_session)
        await post(tx, master_keys, letter)
        await record_account_change(tx, actor, Event.PASSWORD_CHANGED, user_id, _BY_USER, _BY_USER)


async def request_email_change(
    db: Database,
    actor: Actor,
    master_keys: MasterKeys,
    user_id: UUID,
    email: str,
    token_digest: bytes,
    letters: Letters,
    *,
    session: bytes,
) -> None:
    """Sends a link to the new address; to one that has an account already, word of that.

    Raises InvalidValue when it is no address, SessionEnded when the session it was asked for in has ended.
    """
    email = normalize_email(email)
    async with db.transaction() as tx:
        await require_session(tx, user_id, session)
        known = await select_user_by_email(tx, email) is not None
        await create_link(tx, LinkPurpose.CHANGE_EMAIL, email, user_id, token_digest)
        await _post(tx, master_keys, letters, known)
        await audit.record(tx, actor, Event.EMAIL_CHANGE_REQUESTED, None, str(user_id), {})


async def complete_email_change(
    db: Database, actor: Actor, master_keys: MasterKeys, token_digest: bytes, letter: Letter
) -> User:
    """Changes the address by a link; `letter` is told to the old one, whatever recipient it names.

    Whoever has the link may do it, signed in or not, as people read their mail on another device. It proves
    that the new address is theirs and nothing more: who they are was proved afresh when it was asked for, by
    somebody signed in, and nobody is signed in by it. It works for two hours, and a password that is set
    meanwhile ends it.

    Raises NotFound for a spent link, Conflict when the address has an account by now.
    """
    async with db.transaction() as tx:
        link = await spend_link(tx, LinkPurpose.CHANGE_EMAIL, token_digest)
        user_id = _user_of(link)
        before = await select_user(tx, user_id)
        await tx.execute("UPDATE users SET email = $2 WHERE user_id = $1", user_id, link.email)
        await delete_links(tx, user_id)
        await post(tx, master_keys, msgspec.structs.replace(letter, recipient=before.email))
        await record_account_change(tx, actor, Event.EMAIL_CHANGED, user_id, {})
        return await select_user(tx, user_id)


async def delete_account(
    db: Database, actor: Actor, master_keys: MasterKeys, user_id: UUID, letter: Letter, *, session: bytes
) -> None:
    """Takes address, password, factors, memberships and sessions of a user away; the bare row stays for
    what refers to it.

    Raises Conflict while the user is the only owner of an organization, SessionEnded when the session it was
    asked for in has ended.
    """
    async with db.transaction() as tx:
        # The organizations before their members, as everywhere: two owners who leave at once would wait for
        # each other.
        await tx.execute(
            """
            SELECT FROM organizations
             WHERE org_id IN (SELECT org_id FROM memberships WHERE user_id = $1)
             ORDER BY org_id
               FOR NO KEY UPDATE
            """,
            user_id,
        )
        rows = await tx.fetch(
            "SELECT org_id, role FROM memberships WHERE user_id = $1 ORDER BY org_id FOR UPDATE", user_id
        )
        for row in rows:
            if row["role"] == Role.OWNER.value:
                await require_other_owner(tx, row["org_id"], user_id)
        await require_session(tx, user_id, session)
        await tx.execute("DELETE FROM memberships WHERE user_id = $1", user_id)
        await end_sessions(tx, user_id)
        await delete_links(tx, user_id)
        for table in ("staff", "mail_opt_outs", "sign_in_places"):
            await tx.execute(f"DELETE FROM {table} WHERE user_id = $1", user_id)  # noqa: S608
        await post(tx, master_keys, letter)
        await tx.execute(
            """
            UPDATE users
               SET email = 'deleted-' || user_id || '@invalid', password_digest = $2, deleted_at = now()
             WHERE user_id = $1 AND deleted_at IS NULL
            """,
            user_id,
            REFERENCE_DIGEST,
        )
        # The user before what is pending, as a sign-in locks them.
        await delete_factors(tx, user_id)
        await audit.record(tx, actor, Event.USER_DELETED, None, str(user_id), {})
        for row in rows:
            await revoke_keys_of_member(tx, actor, row["org_id"], user_id)
            details = {"role": row["role"]}
            await audit.record(tx, actor, Event.MEMBER_REMOVED, row["org_id"], str(user_id), details)


async def require_other_owner(tx: Transaction, org_id: UUID, user_id: UUID) -> None:
    """Raises Conflict unless the organization has an owner besides this user. The organization must be locked
    already, so that two cannot leave at once."""
    owners = await tx.fetch(
        "SELECT user_id FROM memberships WHERE org_id = $1 AND role = 'owner'",
        org_id,
    )
    if not any(row["user_id"] != user_id for row in owners):
        raise Conflict("an organization keeps an owner: make somebody else an owner first")


async def _set_password(tx: Transaction, user_id: UUID, password_digest: bytes) -> None:
    done = await tx.fetch_value(
        "UPDATE users SET password_digest = $2 WHERE user_id = $1 AND deleted_at IS NULL RETURNING true",
        user_id,
        password_digest,
    )
    if not done:
        raise NotFound(f"there is no user {user_id}")
    await delete_links(tx, user_id)
    await tx.execute("DELETE FROM pending_sign_ins WHERE user_id = $1", user_id)


async def _post(tx: Transaction, master_keys: MasterKeys, letters: Letters, known: bool) -> None:
    letter = letters.known if known else letters.unknown
    if letter is not None:
        await post(tx, master_keys, letter)


def _user_of(link: EmailLink) -> UUID:
    if link.user_id is None:
        raise NotFound("this link is of nobody's account")
    return link.user_id
