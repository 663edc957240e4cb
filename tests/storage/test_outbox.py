from __future__ import annotations

import pytest

from storage.bridge import Database
from storage.errors import NotFound, SealError
from storage.outbox import Letter, mark_sent, post, select_waiting
from storage.sealing import MasterKeys

LETTER = Letter(
    kind="reset_password", recipient="ada@example.com", subject="Hello", text="https://link/secret"
)


async def test_a_message_waits_until_it_was_sent_and_is_forgotten(
    admin_db: Database, owner_db: Database, master_keys: MasterKeys
) -> None:
    async with admin_db.transaction() as tx:
        message_id = await post(tx, master_keys, LETTER)
    (message,) = await select_waiting(admin_db, master_keys)
    assert (message.message_id, message.letter) == (message_id, LETTER)
    sealed = await owner_db.fetch_value("SELECT sealed FROM outbox")
    assert b"secret" not in sealed
    async with admin_db.transaction() as tx:
        await mark_sent(tx, message_id)
    assert await select_waiting(admin_db, master_keys) == []
    assert await owner_db.fetch_value("SELECT sealed FROM outbox") is None
    with pytest.raises(NotFound):
        async with admin_db.transaction() as tx:
            await mark_sent(tx, message_id)


async def test_what_is_rolled_back_is_not_sent(admin_db: Database, master_keys: MasterKeys) -> None:
    with pytest.raises(ZeroDivisionError):
        async with admin_db.transaction() as tx:
            await post(tx, master_keys, LETTER)
            raise ZeroDivisionError
    assert await select_waiting(admin_db, master_keys) == []


async def test_a_message_too_long_is_refused(admin_db: Database, master_keys: MasterKeys) -> None:
    long = Letter(kind="x", recipient="ada@example.com", subject="", text="x" * 20_000)
    with pytest.raises(SealError):
        async with admin_db.transaction() as tx:
            await post(tx, master_keys, long)


def test_its_repr_tells_no_text() -> None:
    assert "secret" not in repr(LETTER)
