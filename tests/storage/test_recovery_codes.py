from __future__ import annotations

import pytest
import trio

from storage.bridge import Database
from storage.errors import SessionEnded
from storage.model import Actor, User
from storage.outbox import select_waiting
from storage.recovery_codes import (
    CODES,
    count_recovery_codes,
    drop_idle_codes,
    replace_recovery_codes,
    use_recovery_code,
)
from storage.sealing import MasterKeys
from tests.storage.factor_people import ELSEWHERE, HERE, LETTER, sign_in_here
from tests.storage.test_sessions import user

__all__ = ["user"]


async def test_each_works_once_in_any_spelling(
    admin_db: Database, owner_db: Database, actor: Actor, master_keys: MasterKeys, user: User
) -> None:
    await sign_in_here(admin_db, actor, user.user_id)
    codes = await replace_recovery_codes(admin_db, actor, user.user_id, session=HERE)
    assert len(set(codes)) == CODES

    async def use(code: str) -> bool:
        return await use_recovery_code(admin_db, actor, master_keys, user.user_id, code, LETTER)

    assert await use(f" {codes[0].upper().replace('-', ' ')} ")
    assert not await use(codes[0])
    for wrong in ("", "-", codes[1][:-1], codes[1] + "a", "x" * 10_000, "\udcff"):
        assert not await use(wrong)
    assert await count_recovery_codes(admin_db, user.user_id) == CODES - 1
    assert len(await select_waiting(admin_db, master_keys)) == 1
    stored = await owner_db.fetch("SELECT code_digest FROM recovery_codes")
    assert codes[1].encode() not in b"".join(row["code_digest"] for row in stored)


async def test_of_many_at_once_one_wins(
    admin_db: Database, actor: Actor, master_keys: MasterKeys, user: User
) -> None:
    await sign_in_here(admin_db, actor, user.user_id)
    code = (await replace_recovery_codes(admin_db, actor, user.user_id, session=HERE))[0]
    used = []

    async def use() -> None:
        used.append(await use_recovery_code(admin_db, actor, master_keys, user.user_id, code, LETTER))

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(use)
    assert sum(used) == 1


async def test_new_ones_end_the_old(
    admin_db: Database, actor: Actor, master_keys: MasterKeys, user: User
) -> None:
    await sign_in_here(admin_db, actor, user.user_id)
    old = await replace_recovery_codes(admin_db, actor, user.user_id, session=HERE)
    await replace_recovery_codes(admin_db, actor, user.user_id, session=HERE)
    assert not await use_recovery_code(admin_db, actor, master_keys, user.user_id, old[0], LETTER)
    assert await count_recovery_codes(admin_db, user.user_id) == CODES


async def test_with_nothing_to_stand_in_for_they_go(admin_db: Database, actor: Actor, user: User) -> None:
    await sign_in_here(admin_db, actor, user.user_id)
    await replace_recovery_codes(admin_db, actor, user.user_id, session=HERE)
    async with admin_db.transaction() as tx:
        await drop_idle_codes(tx, user.user_id)
    assert await count_recovery_codes(admin_db, user.user_id) == 0


async def test_a_session_that_has_ended_meanwhile_makes_none(
    admin_db: Database, actor: Actor, master_keys: MasterKeys, user: User
) -> None:
    await sign_in_here(admin_db, actor, user.user_id)
    old = await replace_recovery_codes(admin_db, actor, user.user_id, session=HERE)
    with pytest.raises(SessionEnded):
        await replace_recovery_codes(admin_db, actor, user.user_id, session=ELSEWHERE)
    assert await use_recovery_code(admin_db, actor, master_keys, user.user_id, old[0], LETTER)
