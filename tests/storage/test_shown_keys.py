"""Which keys a page shows where there are more than it has room for."""

from __future__ import annotations

from storage.api_keys import mint_key
from storage.bridge import Database
from storage.model import Actor, Mode, Organization, Plan
from storage.organizations import create_organization
from storage.shown_keys import count_keys, select_key_names, select_shown_keys


async def insert_keys(owner_db: Database, org: Organization, ids: str, ended: bool) -> None:
    """Each a second younger than the one before."""
    await owner_db.execute(
        """
        INSERT INTO api_keys (key_id, org_id, name, mode, last_four, secret_digest, created_at, revoked_at)
        SELECT repeat(id, 12), $1, id, 'live', 'abcd', $3,
               now() - interval '1 day' + make_interval(secs => ascii(id)), CASE WHEN $4 THEN now() END
          FROM unnest(string_to_array($2, NULL)) AS id
        """,
        org.org_id,
        ids,
        b"$2b$12$" + b"a" * 53,
        ended,
    )


async def test_live_keys_are_shown_before_those_that_have_ended_and_the_newest_first(
    admin_db: Database, owner_db: Database, actor: Actor, org: Organization
) -> None:
    await insert_keys(owner_db, org, "bdfh", ended=False)
    await insert_keys(owner_db, org, "aceg", ended=True)

    async def shown(limit: int) -> str:
        return "".join(key.name for key in await select_shown_keys(admin_db, org.org_id, limit))

    assert await shown(9) == "hgfedcba"
    assert await shown(5) == "hgfdb"
    assert await shown(3) == "hfd"


async def test_names_of_keys_are_told_of_ones_own_alone(
    admin_db: Database, owner_db: Database, actor: Actor, org: Organization
) -> None:
    other = await create_organization(admin_db, actor, name="Other", plan=Plan.FREE)
    theirs, _ = await mint_key(admin_db, actor, org_id=other.org_id, name="theirs", mode=Mode.LIVE)
    await insert_keys(owner_db, org, "ab", ended=False)
    asked = ["a" * 12, None, "unknown", theirs.key_id]
    assert await select_key_names(admin_db, org.org_id, asked) == {"a" * 12: "a"}


async def test_keys_are_counted_as_far_as_they_live(
    admin_db: Database, owner_db: Database, actor: Actor, org: Organization
) -> None:
    assert await count_keys(admin_db, org.org_id) == (0, 0)
    await insert_keys(owner_db, org, "abc", ended=False)
    await insert_keys(owner_db, org, "de", ended=True)
    await owner_db.execute("UPDATE api_keys SET expires_at = now() WHERE name = 'a'")
    await owner_db.execute("UPDATE api_keys SET expires_at = now() + interval '1 day' WHERE name = 'b'")
    assert await count_keys(admin_db, org.org_id) == (2, 5)
