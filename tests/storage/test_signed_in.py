"""What one query tells of who is signed in; when a session lives is in `test_sessions`."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

from storage.bridge import Database
from storage.model import Actor, Organization, Plan, Role
from storage.organizations import create_organization
from storage.passwords import REFERENCE_DIGEST
from storage.sessions import create_session
from storage.signed_in import select_signed_in
from storage.staff import grant_staff
from storage.users import add_member, create_user

DIGEST = hashlib.sha256(b"token").digest()


async def test_all_of_it_at_once(
    admin_db: Database, owner_db: Database, actor: Actor, org: Organization
) -> None:
    user = await create_user(admin_db, actor, email="ada@example.com", password_digest=REFERENCE_DIGEST)
    await create_session(admin_db, actor, user.user_id, DIGEST, datetime.now(UTC) + timedelta(hours=1))
    found = await select_signed_in(admin_db, DIGEST)
    assert found is not None
    assert (found.user, found.memberships, found.has_factor, found.is_staff) == (user, (), False, False)
    second = await create_organization(admin_db, actor, name="Second", plan=Plan.FREE)
    await add_member(admin_db, actor, second.org_id, user.user_id, Role.VIEWER)
    await add_member(admin_db, actor, org.org_id, user.user_id, Role.OWNER)
    await owner_db.execute("INSERT INTO totp_factors (user_id, sealed_secret) VALUES ($1, 'x')", user.user_id)
    await grant_staff(owner_db, actor, "ada@example.com")
    found = await select_signed_in(admin_db, DIGEST)
    assert found is not None
    assert found.memberships == ((org, Role.OWNER), (second, Role.VIEWER))
    # A factor counts once it is confirmed.
    assert (found.has_factor, found.is_staff) == (False, True)
    await owner_db.execute("UPDATE totp_factors SET confirmed_at = now()")
    found = await select_signed_in(admin_db, DIGEST)
    assert found is not None
    assert found.has_factor
