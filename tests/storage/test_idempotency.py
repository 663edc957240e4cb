"""A name is claimed once, keeps its answer for a day, and is free again when nothing was done."""

from __future__ import annotations

from datetime import timedelta

import pytest
import trio

from storage import idempotency
from storage.bridge import Database
from storage.idempotency import Kept, claim, keep_answer, release, sweep
from storage.model import Actor, Organization
from tests.storage.test_management_keys import mint

NAME, REQUEST = b"n" * 32, b"r" * 32


@pytest.fixture
async def key_id(admin_db: Database, actor: Actor, org: Organization) -> str:
    _, key, _ = await mint(admin_db, actor, org)
    return key.key_id


async def test_an_answer_is_kept(admin_db: Database, key_id: str) -> None:
    assert await claim(admin_db, key_id, NAME, REQUEST) is None
    under_way = await claim(admin_db, key_id, NAME, b"x" * 32)
    assert under_way is not None
    assert (under_way.request_digest, under_way.status, under_way.answer) == (REQUEST, None, None)
    await keep_answer(admin_db, key_id, NAME, 201, b"{}")
    kept = await claim(admin_db, key_id, NAME, REQUEST)
    assert kept is not None
    assert (kept.status, kept.answer) == (201, b"{}")
    # What was done is not taken back.
    await release(admin_db, key_id, NAME)
    assert await claim(admin_db, key_id, NAME, REQUEST) == kept


async def test_what_was_not_done_may_be_tried_again(admin_db: Database, key_id: str) -> None:
    assert await claim(admin_db, key_id, NAME, REQUEST) is None
    await release(admin_db, key_id, NAME)
    assert await claim(admin_db, key_id, NAME, REQUEST) is None


async def test_of_many_at_once_one_goes_on(admin_db: Database, key_id: str) -> None:
    claimed: list[Kept | None] = []

    async def ask() -> None:
        claimed.append(await claim(admin_db, key_id, NAME, REQUEST))

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(ask)
    assert claimed.count(None) == 1


async def test_a_day_later_it_is_forgotten(
    admin_db: Database, owner_db: Database, key_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        assert await claim(admin_db, key_id, bytes([number]) * 32, REQUEST) is None
    age = "UPDATE idempotent_requests SET created_at = now() - $1::interval"
    await owner_db.execute(age, timedelta(hours=23))
    assert await sweep(admin_db) == 0
    await owner_db.execute(age, timedelta(hours=25))
    assert await claim(admin_db, key_id, bytes([0]) * 32, REQUEST) is None
    monkeypatch.setattr(idempotency, "SWEPT_ROWS_MAX", 3)
    assert [await sweep(admin_db) for _ in range(3)] == [3, 1, 0]
    assert await claim(admin_db, key_id, bytes([0]) * 32, REQUEST) is not None
