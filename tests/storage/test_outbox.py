from __future__ import annotations

from uuid import UUID, uuid4

import pytest
import trio

from storage import outbox
from storage.bridge import Database
from storage.errors import CheckFailed, InvalidValue, NotFound, SealError
from storage.letter_kinds import LetterKind, MailTopic
from storage.mail_preferences import set_opt_outs
from storage.model import Actor, Organization, Role
from storage.outbox import (
    Letter,
    claim,
    mark_failed,
    mark_sent,
    post,
    post_open,
    put_off,
    select_failures,
    select_message,
    select_standing,
    select_waiting,
    sweep_ended,
    write_members,
)
from storage.passwords import REFERENCE_DIGEST
from storage.sealing import MasterKeys
from storage.users import add_member, create_user
from tests.storage.explaining import explain

LETTER = Letter(
    kind=LetterKind.RESET_PASSWORD, recipient="ada@example.com", facts={"path": "/link/reset/secret"}
)
OPEN = Letter(kind=LetterKind.NEW_SIGN_IN, recipient="ada@example.com", facts={"browser": "Firefox"})


async def put(db: Database, master_keys: MasterKeys) -> UUID:
    async with db.transaction() as tx:
        return await post(tx, master_keys, LETTER)


async def test_a_message_waits_until_it_was_sent_and_is_forgotten(
    admin_db: Database, owner_db: Database, master_keys: MasterKeys
) -> None:
    message_id = await put(admin_db, master_keys)
    (message,) = await select_waiting(admin_db, master_keys)
    assert (message.message_id, message.letter) == (message_id, LETTER)
    assert await select_message(admin_db, master_keys, message_id) == message
    assert b"secret" not in await owner_db.fetch_value("SELECT sealed FROM outbox")
    claimed, (mine,) = await claim(admin_db, master_keys, unsure=False, limit=10, seconds=60)
    assert (mine.letter, mine.attempts) == (LETTER, 1)
    with pytest.raises(NotFound):
        await mark_sent(admin_db, uuid4(), message_id, None)
    await mark_sent(admin_db, claimed, message_id, uuid4())
    assert await select_waiting(admin_db, master_keys) == []
    row = await owner_db.fetch_row("SELECT state, sealed, facts, postmark_id FROM outbox")
    assert row is not None
    assert (row["state"], row["sealed"], row["facts"]) == ("sent", None, None)
    with pytest.raises(NotFound):
        await mark_sent(admin_db, claimed, message_id, None)
    with pytest.raises(NotFound):
        await select_message(admin_db, master_keys, message_id)


async def test_a_claim_that_ran_out_is_unsure_and_its_holder_is_not_believed(
    admin_db: Database, owner_db: Database, master_keys: MasterKeys
) -> None:
    message_id = await put(admin_db, master_keys)
    first, _ = await claim(admin_db, master_keys, unsure=False, limit=10, seconds=60)
    for unsure in (False, True):
        assert (await claim(admin_db, master_keys, unsure=unsure, limit=10, seconds=60))[1] == []
    await owner_db.execute("UPDATE outbox SET due_at = now()")
    assert (await claim(admin_db, master_keys, unsure=False, limit=10, seconds=60))[1] == []
    second, (message,) = await claim(admin_db, master_keys, unsure=True, limit=10, seconds=60)
    assert (message.message_id, message.attempts) == (message_id, 2)
    with pytest.raises(NotFound):
        await mark_sent(admin_db, first, message_id, None)
    await put_off(admin_db, first, [message_id], 0, unsure=False)
    assert await owner_db.fetch_value("SELECT state FROM outbox") == "sending"
    await put_off(admin_db, second, [message_id], 0, unsure=False)
    assert await owner_db.fetch_value("SELECT state FROM outbox") == "waiting"


async def test_many_claim_each_message_once(admin_db: Database, master_keys: MasterKeys) -> None:
    ids = {await put(admin_db, master_keys) for _ in range(20)}
    claimed: list[UUID] = []

    async def take() -> None:
        _, messages = await claim(admin_db, master_keys, unsure=False, limit=7, seconds=60)
        claimed.extend(message.message_id for message in messages)

    async with trio.open_nursery() as nursery:
        for _ in range(6):
            nursery.start_soon(take)
    assert len(claimed) == len(set(claimed))
    assert set(claimed) <= ids


async def test_what_is_given_up_is_told_and_forgotten_in_time(
    admin_db: Database, owner_db: Database, master_keys: MasterKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    message_id = await put(admin_db, master_keys)
    await put(admin_db, master_keys)
    claimed, _ = await claim(admin_db, master_keys, unsure=False, limit=10, seconds=60)
    await mark_failed(admin_db, claimed, message_id, "no such address" * 100)
    (failure,) = await select_failures(admin_db)
    assert (failure.kind, failure.recipient) == ("reset_password", "ada@example.com")
    assert failure.reason.startswith("no such address")
    standing = await select_standing(admin_db)
    assert (standing.waiting, standing.sent, standing.failed) == (1, 0, 1)
    assert standing.oldest_seconds is not None
    assert await sweep_ended(admin_db) == 0
    await owner_db.execute("UPDATE outbox SET ended_at = now() - interval '31 days' WHERE ended_at < now()")
    monkeypatch.setattr(outbox, "_SWEPT_ROWS_MAX", 1)
    assert [await sweep_ended(admin_db), await sweep_ended(admin_db)] == [1, 0]
    assert len(await select_waiting(admin_db, master_keys)) == 1


async def test_what_opens_nothing_need_not_be_sealed(admin_db: Database, master_keys: MasterKeys) -> None:
    async with admin_db.transaction() as tx:
        await post_open(tx, OPEN)
    assert [message.letter for message in await select_waiting(admin_db, master_keys)] == [OPEN]
    with pytest.raises(InvalidValue):
        async with admin_db.transaction() as tx:
            await post_open(tx, LETTER)


async def test_what_does_not_open_waits_without_words(
    admin_db: Database, owner_db: Database, master_keys: MasterKeys
) -> None:
    await put(admin_db, master_keys)
    async with admin_db.transaction() as tx:
        await post_open(tx, OPEN)
    await owner_db.execute("UPDATE outbox SET kind = 'of_tomorrow' WHERE facts IS NOT NULL")
    others = MasterKeys({1: bytes(32)})
    assert [message.letter for message in await select_waiting(admin_db, others)] == [None, None]


async def test_what_is_rolled_back_is_not_sent(admin_db: Database, master_keys: MasterKeys) -> None:
    with pytest.raises(ZeroDivisionError):
        async with admin_db.transaction() as tx:
            await post(tx, master_keys, LETTER)
            raise ZeroDivisionError
    assert await select_waiting(admin_db, master_keys) == []


async def test_a_message_too_long_is_refused(admin_db: Database, master_keys: MasterKeys) -> None:
    long = Letter(kind=LetterKind.SIGN_UP, recipient="ada@example.com", facts={"path": "x" * 20_000})
    with pytest.raises(SealError):
        async with admin_db.transaction() as tx:
            await post(tx, master_keys, long)
    with pytest.raises(CheckFailed):
        async with admin_db.transaction() as tx:
            await post_open(tx, Letter(kind=LetterKind.INCIDENT, recipient="a@b.example", facts=long.facts))


async def test_members_are_written_by_role_and_wish(
    admin_db: Database, actor: Actor, org: Organization, master_keys: MasterKeys
) -> None:
    people = {}
    for role in Role:
        user = await create_user(
            admin_db, actor, email=f"{role.value}@example.com", password_digest=REFERENCE_DIGEST
        )
        await add_member(admin_db, actor, org.org_id, user.user_id, role)
        people[role] = user.user_id
    await set_opt_outs(admin_db, actor, people[Role.ADMIN], {MailTopic.BUDGETS})

    async def told(kind: LetterKind) -> set[str]:
        async with admin_db.transaction() as tx:
            number = await write_members(tx, org.org_id, kind, {"a": "b"})
        letters = [message.letter for message in await select_waiting(admin_db, master_keys, number)]
        assert all(letter is not None and letter.facts["organization"] == org.name for letter in letters)
        return {letter.recipient.partition("@")[0] for letter in letters if letter is not None}

    assert await told(LetterKind.BUDGET_REACHED) == {"owner", "billing"}
    assert await told(LetterKind.KEY_MINTED) == {"owner", "admin"}
    assert await told(LetterKind.PAYMENT_FAILED) == {"owner", "billing"}


def test_its_repr_tells_no_fact() -> None:
    assert "secret" not in repr(LETTER)


async def test_the_few_that_failed_are_found_without_the_many_that_were_sent(admin_db: Database) -> None:
    assert "outbox_failed" in await explain(admin_db, select_failures)
