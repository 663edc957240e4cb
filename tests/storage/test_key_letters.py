from __future__ import annotations

from storage.api_keys import mint_key, rotate_key
from storage.bridge import Database
from storage.key_letters import tell_minted
from storage.model import Actor, ActorKind, Mode, Organization, Role
from storage.outbox import Letter, select_waiting
from storage.passwords import REFERENCE_DIGEST
from storage.sealing import MasterKeys
from storage.users import add_member, create_user


async def test_owners_are_told_of_keys_that_people_make(
    admin_db: Database, actor: Actor, org: Organization, master_keys: MasterKeys
) -> None:
    user = await create_user(admin_db, actor, email="ada@example.com", password_digest=REFERENCE_DIGEST)
    await add_member(admin_db, actor, org.org_id, user.user_id, Role.OWNER)

    async def newest() -> Letter:
        found = (await select_waiting(admin_db, master_keys))[0].letter
        assert found is not None
        return found

    by_user = Actor(kind=ActorKind.USER, actor_id=str(user.user_id))
    key, token = await mint_key(admin_db, by_user, org_id=org.org_id, name="k", mode=Mode.LIVE)
    letter = await newest()
    assert (letter.recipient, letter.facts["by"]) == (user.email, user.email)
    assert (letter.facts["key_id"], letter.facts["successor_of"]) == (key.key_id, "")
    assert token.removeprefix(f"kt_live_{key.key_id}")[:28] not in str(letter.facts)
    await rotate_key(admin_db, actor, key.key_id)
    letter = await newest()
    assert (letter.facts["by"], letter.facts["by_kind"]) == ("tester", "cli")
    assert letter.facts["successor_of"] == key.key_id
    system = Actor(kind=ActorKind.SYSTEM, actor_id="karta up")
    await mint_key(admin_db, system, org_id=org.org_id, name="k", mode=Mode.LIVE)
    assert len(await select_waiting(admin_db, master_keys)) == 2


async def test_who_made_it_is_found_by_the_index(
    admin_db: Database, owner_db: Database, actor: Actor, org: Organization
) -> None:
    user = await create_user(admin_db, actor, email="ada@example.com", password_digest=REFERENCE_DIGEST)
    key, _ = await mint_key(admin_db, actor, org_id=org.org_id, name="k", mode=Mode.LIVE)
    await owner_db.execute(
        """
        INSERT INTO users (user_id, email, password_digest)
        SELECT gen_random_uuid(), 'user' || number || '@example.com', $1
          FROM generate_series(1, 5000) AS number
        """,
        REFERENCE_DIGEST,
    )
    await owner_db.execute("ANALYZE users")
    by_user = Actor(kind=ActorKind.USER, actor_id=str(user.user_id))
    async with admin_db.transaction() as tx:
        await tell_minted(tx, by_user, [key])
        read_whole = await tx.fetch_value(
            "SELECT seq_scan FROM pg_stat_xact_user_tables WHERE relname = 'users'"
        )
    assert read_whole == 0
