"""Web sessions, kept here rather than in a signed cookie so that they can be ended.

What is stored is a digest of the cookie's token (SHA-256 is enough for 128 random bits), so a copy of the
table signs nobody in. A session ends at a fixed time, when it was left idle, or when somebody ends it.

Step-up is a time, not a flag: when the person last proved who they are, by the database's clock. It is fresh
for `STEP_UP_SECONDS` and is not prolonged by use.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

import msgspec

from storage import audit
from storage.audit import ADDRESS_CHARS_MAX, USER_AGENT_CHARS_MAX, Event
from storage.bridge import Database, Transaction
from storage.errors import NotFound, ProofRequired, SessionEnded
from storage.model import Actor
from storage.pending_sign_ins import spend_pending_sign_in
from storage.queries import Queries, Record
from storage.sign_in_places import Place, note_place
from storage.users import has_factor, record_sign_in, require_password

STEP_UP_SECONDS = 300
IDLE_SECONDS = 2 * 3600
"""What a caller that has no setting of its own takes for idle."""
SHOWN_MAX = 100
_EXPIRED_ROWS_MAX = 100
"""Expired sessions cleared away by each new one: the table stays in proportion to its use without a job of
its own."""

COLUMNS = f"""
    s.session_id, s.user_id, s.created_at AS session_created_at, s.expires_at, s.last_seen_at, s.method,
    s.address, s.user_agent,
    coalesce(s.stepped_up_at BETWEEN now() - interval '{STEP_UP_SECONDS} seconds' AND now(), false)
        AS stepped_up
"""
"""What `to_session` reads, of sessions called `s`."""


class Method(StrEnum):
    """How somebody signed in."""

    PASSWORD = "password"  # noqa: S105 - names a method
    PASSWORD_TOTP = "password_totp"  # noqa: S105
    PASSWORD_PASSKEY = "password_passkey"  # noqa: S105
    PASSWORD_RECOVERY_CODE = "password_recovery_code"  # noqa: S105
    PASSKEY = "passkey"


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """One signed-in browser. `stepped_up` is whether its proof is fresh at the moment of reading."""

    session_id: UUID
    user_id: UUID
    created_at: datetime
    expires_at: datetime
    last_seen_at: datetime
    method: Method
    address: str | None
    user_agent: str | None
    stepped_up: bool


async def create_session(
    db: Database,
    actor: Actor,
    user_id: UUID,
    token_digest: bytes,
    expires_at: datetime,
    method: Method = Method.PASSWORD,
    place: Place | None = None,
    password_digest: bytes | None = None,
    pending_digest: bytes | None = None,
    credential_id: bytes | None = None,
) -> Session:
    """Signing in is proof as well, so a new session is stepped up. From a new `place` it is told by mail.

    Somebody signs in by the password of `password_digest` alone, or by a second factor, which spends the
    pending sign-in of `pending_digest`, or by neither; where a passkey was used, it is that of
    `credential_id`. The user's organizations are told that somebody signed in.

    Raises InvalidReference for an unknown user, CheckFailed unless the digest has 32 bytes, NotFound when
    that password or passkey is the user's no more, or that sign-in has ended, ProofRequired when the password
    alone is not enough any more.
    """
    async with db.transaction() as tx:
        if password_digest is not None:
            await require_password(tx, user_id, password_digest)
            # The same for a second factor, which ends the sessions that have none of it.
            if await has_factor(tx, user_id):
                raise ProofRequired("a second factor is set up by now: the password is not enough")
        if credential_id is not None:
            await _require_passkey(tx, user_id, credential_id)
        if pending_digest is not None:
            await spend_pending_sign_in(tx, user_id, pending_digest)
        await tx.execute(
            """
            DELETE FROM sessions
             WHERE token_digest IN (
                   SELECT token_digest FROM sessions WHERE expires_at < now() LIMIT $1 FOR UPDATE SKIP LOCKED)
            """,
            _EXPIRED_ROWS_MAX,
        )
        row = await tx.fetch_row(
            f"""
            INSERT INTO sessions AS s
                   (token_digest, user_id, expires_at, method, stepped_up_at, address, user_agent)
            VALUES ($1, $2, $3, $4, now(), $5, $6)
            RETURNING {COLUMNS}
            """,  # noqa: S608
            token_digest,
            user_id,
            expires_at,
            method.value,
            audit.printable(actor.address, ADDRESS_CHARS_MAX),
            audit.printable(actor.user_agent, USER_AGENT_CHARS_MAX),
        )
        if place is not None:
            await note_place(tx, user_id, place)
        details = {"expires_at": expires_at.isoformat(), "method": method.value}
        await audit.record(tx, actor, Event.SESSION_CREATED, None, str(user_id), details)
        await record_sign_in(tx, actor, user_id, method.value)
    assert row is not None
    return to_session(row)


async def _require_passkey(tx: Transaction, user_id: UUID, credential_id: bytes) -> None:
    """Raises NotFound unless the passkey is the user's still: who takes it away ends every session, and what
    it began must not come after that."""
    # The user first, as who takes one away has it.
    await tx.execute("SELECT FROM users WHERE user_id = $1 FOR SHARE", user_id)
    found = await tx.fetch_value(
        "SELECT true FROM passkeys WHERE credential_id = $1 AND user_id = $2", credential_id, user_id
    )
    if not found:
        raise NotFound("this passkey was removed")


async def require_session(tx: Transaction, user_id: UUID, token_digest: bytes) -> None:
    """Raises SessionEnded unless the user's session lives. It does until the transaction ends: a new
    password, or whatever else ends sessions, waits.

    What gives somebody a way in, or takes one away, asks first: of two who share a session or a password,
    what the one has ended must not be undone by a request of the other's that was under way.
    """
    # The user before the sessions, as a new password has it.
    await tx.execute("SELECT FROM users WHERE user_id = $1 FOR NO KEY UPDATE", user_id)
    found = await tx.fetch_value(
        "SELECT true FROM sessions WHERE token_digest = $1 AND user_id = $2 AND expires_at > now() FOR SHARE",
        token_digest,
        user_id,
    )
    if not found:
        raise SessionEnded("this session has ended: sign in again")


async def touch_session(db: Queries, token_digest: bytes) -> None:
    """Notes that the session was used just now."""
    await db.execute("UPDATE sessions SET last_seen_at = now() WHERE token_digest = $1", token_digest)


async def step_up(db: Database, actor: Actor, user_id: UUID, old_digest: bytes, new_digest: bytes) -> None:
    """Notes that the person has proved who they are, and gives the session a new token. Raises
    SessionEnded."""
    async with db.transaction() as tx:
        done = await tx.fetch_value(
            """
            UPDATE sessions SET token_digest = $2, stepped_up_at = now(), last_seen_at = now()
             WHERE token_digest = $1 AND user_id = $3
            RETURNING true
            """,
            old_digest,
            new_digest,
            user_id,
        )
        if not done:
            raise SessionEnded("this session has ended: sign in again")
        await audit.record(tx, actor, Event.SESSION_STEPPED_UP, None, str(user_id), {})


async def keep_interrupted(db: Queries, token_digest: bytes, interrupted: str | None) -> None:
    """Keeps what a prompt for proof interrupted; None forgets it."""
    await db.execute(
        "UPDATE sessions SET interrupted = $2 WHERE token_digest = $1", token_digest, interrupted
    )


async def select_interrupted(db: Queries, token_digest: bytes) -> str | None:
    """What was kept for this session."""
    kept: str | None = await db.fetch_value(
        "SELECT interrupted FROM sessions WHERE token_digest = $1", token_digest
    )
    return kept


async def delete_session(db: Database, actor: Actor, token_digest: bytes) -> bool:
    """Ends a session. False when there was none."""
    async with db.transaction() as tx:
        user_id = await tx.fetch_value(
            "DELETE FROM sessions WHERE token_digest = $1 RETURNING user_id", token_digest
        )
        if user_id is not None:
            await audit.record(tx, actor, Event.SESSION_ENDED, None, str(user_id), {})
    return user_id is not None


async def select_sessions(db: Queries, user_id: UUID, idle_seconds: float = IDLE_SECONDS) -> list[Session]:
    """A user's live sessions, the one used last first."""
    rows = await db.fetch(
        f"""
        SELECT {COLUMNS}
          FROM sessions s
         WHERE s.user_id = $1 AND s.expires_at > now() AND s.last_seen_at > now() - $2::interval
         ORDER BY s.last_seen_at DESC, s.session_id
         LIMIT $3
        """,  # noqa: S608
        user_id,
        timedelta(seconds=idle_seconds),
        SHOWN_MAX,
    )
    return [to_session(row) for row in rows]


async def end_session(db: Database, actor: Actor, user_id: UUID, session_id: UUID) -> None:
    """Ends one of a user's sessions by the id it is shown under. Raises NotFound."""
    async with db.transaction() as tx:
        ended = await tx.fetch_value(
            "DELETE FROM sessions WHERE session_id = $1 AND user_id = $2 RETURNING true", session_id, user_id
        )
        if not ended:
            raise NotFound("there is no such session: it may have ended")
        await audit.record(tx, actor, Event.SESSION_ENDED, None, str(user_id), {})


async def end_sessions(tx: Transaction, user_id: UUID, *, keep: bytes | None = None) -> int:
    """Ends all of a user's sessions but the one of the digest `keep`, in the transaction of what calls for
    it; that writes the audit row. Returns how many."""
    ended: int = await tx.fetch_value(
        """
        WITH gone AS (
             DELETE FROM sessions
              WHERE user_id = $1 AND ($2::bytea IS NULL OR token_digest <> $2)
             RETURNING 1)
        SELECT count(*) FROM gone
        """,
        user_id,
        keep,
    )
    return ended


async def end_other_sessions(db: Database, actor: Actor, user_id: UUID, keep: bytes) -> int:
    """Ends all of a user's sessions but one. Returns how many. Raises SessionEnded when that one has
    ended."""
    async with db.transaction() as tx:
        await require_session(tx, user_id, keep)
        ended = await end_sessions(tx, user_id, keep=keep)
        await audit.record(tx, actor, Event.SESSION_ENDED, None, str(user_id), {"sessions": ended})
    return ended


async def end_member_sessions(db: Database, actor: Actor, org_id: UUID, user_id: UUID) -> int:
    """Ends all sessions of an organization's member, for somebody else: told both in the system's log and in
    the organization's. Returns how many. Raises NotFound for no member."""
    async with db.transaction() as tx:
        member = await tx.fetch_value(
            "SELECT true FROM memberships WHERE org_id = $1 AND user_id = $2", org_id, user_id
        )
        if not member:
            raise NotFound("there is no such member")
        ended = await end_sessions(tx, user_id)
        for told in (None, org_id):
            await audit.record(tx, actor, Event.SESSION_ENDED, told, str(user_id), {"sessions": ended})
    return ended


def to_session(row: Record) -> Session:
    """From any row with `COLUMNS`."""
    return Session(
        session_id=row["session_id"],
        user_id=row["user_id"],
        created_at=row["session_created_at"],
        expires_at=row["expires_at"],
        last_seen_at=row["last_seen_at"],
        method=Method(row["method"]),
        address=row["address"],
        user_agent=row["user_agent"],
        stepped_up=row["stepped_up"],
    )
