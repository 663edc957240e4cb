from __future__ import annotations

import pytest
import trio

from storage.bridge import Database
from storage.email_links import LinkPurpose, create_link, delete_links, select_link, spend_link
from storage.errors import NotFound
from storage.model import Actor
from storage.passwords import REFERENCE_DIGEST
from storage.users import create_user

DIGEST, OTHER = bytes(32), bytes([1]) * 32
SIGN_UP, RESET = LinkPurpose.SIGN_UP, LinkPurpose.RESET_PASSWORD


async def test_a_link_works_once_for_its_purpose(admin_db: Database) -> None:
    async with admin_db.transaction() as tx:
        link = await create_link(tx, SIGN_UP, "ada@example.com", None, DIGEST)
    assert await select_link(admin_db, SIGN_UP, DIGEST) == link
    for purpose, digest in ((RESET, DIGEST), (SIGN_UP, OTHER)):
        with pytest.raises(NotFound):
            await select_link(admin_db, purpose, digest)
    spent = 0

    async def spend() -> None:
        nonlocal spent
        try:
            async with admin_db.transaction() as tx:
                await spend_link(tx, SIGN_UP, DIGEST)
                spent += 1
        except NotFound:
            pass

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(spend)
    assert spent == 1


async def test_a_newer_link_replaces_the_older(admin_db: Database) -> None:
    async with admin_db.transaction() as tx:
        await create_link(tx, SIGN_UP, "ada@example.com", None, DIGEST)
        await create_link(tx, SIGN_UP, "ada@example.com", None, OTHER)
    with pytest.raises(NotFound):
        await select_link(admin_db, SIGN_UP, DIGEST)
    assert (await select_link(admin_db, SIGN_UP, OTHER)).email == "ada@example.com"


async def test_an_expired_link_is_none_and_is_cleared_by_the_next(admin_db: Database) -> None:
    async with admin_db.transaction() as tx:
        await create_link(tx, SIGN_UP, "ada@example.com", None, DIGEST)
    await admin_db.execute("UPDATE email_links SET expires_at = now() - interval '1 second'")
    with pytest.raises(NotFound):
        await select_link(admin_db, SIGN_UP, DIGEST)
    with pytest.raises(NotFound):
        async with admin_db.transaction() as tx:
            await spend_link(tx, SIGN_UP, DIGEST)
    async with admin_db.transaction() as tx:
        await create_link(tx, SIGN_UP, "eve@example.com", None, OTHER)
    assert await admin_db.fetch_value("SELECT count(*) FROM email_links") == 1


async def test_all_links_of_a_user_end_together(admin_db: Database, actor: Actor) -> None:
    user = await create_user(admin_db, actor, email="ada@example.com", password_digest=REFERENCE_DIGEST)
    async with admin_db.transaction() as tx:
        await create_link(tx, RESET, "ada@example.com", user.user_id, DIGEST)
        await delete_links(tx, user.user_id)
    with pytest.raises(NotFound):
        await select_link(admin_db, RESET, DIGEST)
