"""Counting, shared by everybody who counts in the same database."""

from __future__ import annotations

import trio

from storage.bridge import Database, open_database
from storage.throttles import Rule, _clear, forgive, give_back, use

RULE = Rule("sign_in", 3, 3600)


async def test_a_subject_has_its_uses_and_no_more(admin_db: Database) -> None:
    assert [await use(admin_db, RULE, "ada") for _ in range(3)] == [None] * 3
    seconds = await use(admin_db, RULE, "ada")
    assert seconds is not None
    assert 1100 < seconds <= 1200  # a third of the period: one use comes back then
    assert await use(admin_db, RULE, "eve") is None
    assert await use(admin_db, Rule("sign_up", 3, 3600), "ada") is None


async def test_a_refused_use_does_not_count(admin_db: Database) -> None:
    for _ in range(3):
        await use(admin_db, RULE, "ada")
    first = await use(admin_db, RULE, "ada")
    for _ in range(5):
        again = await use(admin_db, RULE, "ada")
    assert first is not None
    assert again is not None
    assert again <= first


async def test_uses_come_back_one_by_one(admin_db: Database) -> None:
    for _ in range(3):
        await use(admin_db, RULE, "ada")
    await admin_db.execute("UPDATE throttles SET free_at = free_at - interval '1201 seconds'")
    assert await use(admin_db, RULE, "ada") is None
    assert await use(admin_db, RULE, "ada") is not None


async def test_many_at_once_through_two_processes_worth_of_connections(database_url: str) -> None:
    granted = []
    async with (
        open_database(database_url, role="karta_admin") as one,
        open_database(database_url, role="karta_admin") as other,
        trio.open_nursery() as nursery,
    ):

        async def attempt(db: Database) -> None:
            granted.append(await use(db, Rule("sign_in", 7, 3600), "ada") is None)

        for _ in range(15):
            nursery.start_soon(attempt, one)
            nursery.start_soon(attempt, other)
    assert sum(granted) == 7


async def test_a_success_forgives(admin_db: Database) -> None:
    for _ in range(4):
        await use(admin_db, RULE, "ada")
    await forgive(admin_db, RULE, "ada")
    assert await use(admin_db, RULE, "ada") is None


async def test_what_has_run_out_is_cleared_away_and_names_nobody(admin_db: Database) -> None:
    for number in range(5):
        await use(admin_db, RULE, f"subject {number}")
    await admin_db.execute("UPDATE throttles SET free_at = now() - interval '1 second'")
    await use(admin_db, RULE, "ada\udcff")
    await _clear(admin_db)
    rows = await admin_db.fetch("SELECT subject FROM throttles")
    assert len(rows) == 1
    assert b"ada" not in rows[0]["subject"]


async def test_a_use_that_is_given_back_is_there_again(admin_db: Database) -> None:
    await give_back(admin_db, RULE, "ada")
    for _ in range(3):
        await use(admin_db, RULE, "ada")
    await give_back(admin_db, RULE, "ada")
    assert [await use(admin_db, RULE, "ada") is None for _ in range(2)] == [True, False]


async def test_and_never_more_than_was_taken(admin_db: Database) -> None:
    await use(admin_db, RULE, "ada")
    await admin_db.execute("UPDATE throttles SET free_at = now() - interval '1 hour'")
    for _ in range(2):
        await give_back(admin_db, RULE, "ada")
    assert [await use(admin_db, RULE, "ada") is None for _ in range(4)] == [True, True, True, False]
