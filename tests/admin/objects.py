"""One of each kind of thing that an id names, in an organization; and all that is kept of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from admin.web_session import digest
from storage.api_keys import mint_key
from storage.bridge import Database
from storage.credentials import set_credential
from storage.invitations import invite
from storage.letter_kinds import LetterKind
from storage.limits import LimitScope, set_limit
from storage.management_keys import Scope, mint_management_key
from storage.model import LimitKind, Mode, Period, Role
from storage.outbox import Letter
from storage.passkeys import insert_passkey
from storage.sessions import create_session
from storage.stripe_checkouts import begin_checkout
from storage.stripe_customers import ensure_customer_row
from storage.users import add_member, create_user
from storage.webhook_deliveries import spread
from storage.webhook_log import send_test
from storage.webhooks import NewEndpoint, create_endpoint
from tests.admin.conftest import ACTOR, MASTER_KEYS, Person, password_digest
from tests.storage.factor_people import make_passkey
from tests.storage.usage_records import insert_usage, usage

SECRET = b"sk-ant-0123456789abcdef"
URL = "https://localhost/hook"


async def furnish(admin_db: Database, owner_db: Database, person: Person, token: str) -> dict[str, str]:
    """Ids, by what routes call them. `token` is of a session that the organization's owner has from now
    on."""
    user_id, org_id = person.user.user_id, person.organization.org_id
    until = datetime.now(UTC) + timedelta(hours=1)
    await create_session(admin_db, ACTOR, user_id, digest(token), until)
    letter = Letter(kind=LetterKind.INVITATION, recipient="new@example.com", facts={})
    passkey = make_passkey(user_id, credential_id=org_id.bytes)
    await insert_passkey(admin_db, ACTOR, MASTER_KEYS, passkey, letter, keep_session=digest(token))
    session = await create_session(admin_db, ACTOR, user_id, digest(f"{token} elsewhere"), until)
    member = await create_user(
        admin_db, ACTOR, email=f"{org_id.hex}@example.com", password_digest=password_digest()
    )
    await add_member(admin_db, ACTOR, org_id, member.user_id, Role.VIEWER)
    key, _ = await mint_key(admin_db, ACTOR, org_id=org_id, name="k", mode=Mode.LIVE)
    managing, _ = await mint_management_key(
        admin_db, ACTOR, org_id=org_id, user_id=user_id, name="CI", scopes=list(Scope), days=1
    )
    limits = [
        await set_limit(
            admin_db,
            ACTOR,
            LimitScope(org_id=org_id, key_id=key_id, kind=LimitKind.REQUESTS, period=Period.MINUTE),
            100,
        )
        for key_id in (key.key_id, None)
    ]
    credential = await set_credential(
        admin_db, ACTOR, MASTER_KEYS, org_id=org_id, provider="anthropic", secret=bytearray(SECRET)
    )
    invitation = await invite(
        admin_db, ACTOR, MASTER_KEYS, org_id, letter.recipient, Role.VIEWER, digest(token), letter
    )
    await ensure_customer_row(admin_db, org_id)
    checkout = await begin_checkout(admin_db, ACTOR, org_id, uuid4())
    request = usage(org_id=org_id, key_id=key.key_id, started_at=datetime.now(UTC))
    await insert_usage(owner_db, [request])
    passkey_id = await owner_db.fetch_value("SELECT passkey_id FROM passkeys WHERE user_id = $1", user_id)
    return {
        "session_id": str(session.session_id),
        "passkey_id": str(passkey_id),
        "user_id": str(member.user_id),
        "key_id": key.key_id,
        "management_key_id": managing.key_id,
        "limit_id": str(limits[0].limit_id),
        "organization_limit_id": str(limits[1].limit_id),
        "credential_id": str(credential.credential_id),
        "invitation_id": str(invitation.invitation_id),
        "checkout_id": str(checkout.checkout_id),
        "request_id": request.request_id,
        **await _furnish_webhook(admin_db, owner_db, org_id),
    }


async def _furnish_webhook(admin_db: Database, owner_db: Database, org_id: UUID) -> dict[str, str]:
    chosen = NewEndpoint(url=URL, events=("key.minted",))
    endpoint, _ = await create_endpoint(admin_db, ACTOR, MASTER_KEYS, org_id, chosen)
    await send_test(admin_db, ACTOR, org_id, endpoint.endpoint_id)
    await spread(admin_db)
    delivery_id = await owner_db.fetch_value(
        "SELECT delivery_id FROM webhook_deliveries WHERE endpoint_id = $1", endpoint.endpoint_id
    )
    return {"endpoint_id": str(endpoint.endpoint_id), "delivery_id": str(delivery_id)}


async def everything_of(owner_db: Database, person: Person, ids: dict[str, str]) -> dict[str, str]:
    """A digest of all rows, by table, that name the organization, its owner, its member or its endpoint."""
    names = {
        "org_id": [str(person.organization.org_id)],
        "user_id": [str(person.user.user_id), ids["user_id"]],
        "endpoint_id": [ids["endpoint_id"]],
    }
    columns = await owner_db.fetch(
        """
        SELECT c.relname AS table, a.attname AS column
          FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
         WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
           AND a.attname = ANY ($1) AND NOT a.attisdropped
        """,
        list(names),
    )
    return {
        f"{row['table']} by {row['column']}": await owner_db.fetch_value(
            f"""
            SELECT md5(coalesce(string_agg(row, E'\\n' ORDER BY row), ''))
              FROM (SELECT t::text AS row FROM {row["table"]} t WHERE {row["column"]}::text = ANY ($1)) rows
            """,
            names[row["column"]],
        )
        for row in columns
    }
