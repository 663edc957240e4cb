from __future__ import annotations

import hashlib
from uuid import UUID

import pytest
import trio

from storage.bridge import Database
from storage.errors import NotFound
from storage.letter_kinds import LetterKind
from storage.model import Actor
from storage.outbox import Letter, select_waiting
from storage.sealing import MasterKeys
from storage.subscriptions import Topic, announce, confirm_subscription, request_subscription

TOPIC = Topic.SUB_PROCESSORS


def digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def letter(recipient: str) -> Letter:
    return Letter(kind=LetterKind.SUBSCRIPTION_CONFIRM, recipient=recipient, facts={"path": "/x"})


async def test_a_newer_link_replaces_an_older_one(
    admin_db: Database, actor: Actor, master_keys: MasterKeys
) -> None:
    for token in ("one", "two"):
        await request_subscription(
            admin_db, actor, master_keys, TOPIC, digest(token), letter("a@example.com")
        )
    with pytest.raises(NotFound):
        await confirm_subscription(admin_db, actor, digest("one"))
    await confirm_subscription(admin_db, actor, digest("two"))
    await request_subscription(admin_db, actor, master_keys, TOPIC, digest("three"), letter("a@example.com"))
    assert len(await select_waiting(admin_db, master_keys)) == 2, "who is subscribed is not asked again"


async def test_a_link_does_not_work_for_ever(
    admin_db: Database, owner_db: Database, actor: Actor, master_keys: MasterKeys
) -> None:
    await request_subscription(admin_db, actor, master_keys, TOPIC, digest("one"), letter("a@example.com"))
    await owner_db.execute("UPDATE subscriptions SET created_at = now() - interval '8 days'")
    with pytest.raises(NotFound):
        await confirm_subscription(admin_db, actor, digest("one"))
    await request_subscription(admin_db, actor, master_keys, TOPIC, digest("two"), letter("b@example.com"))
    assert await owner_db.fetch_value("SELECT count(*) FROM subscriptions") == 1, "what is spent is cleared"


async def test_many_processes_announce_once(
    admin_db: Database, actor: Actor, master_keys: MasterKeys
) -> None:
    await request_subscription(admin_db, actor, master_keys, TOPIC, digest("one"), letter("a@example.com"))
    await confirm_subscription(admin_db, actor, digest("one"))
    told = []

    async def tell(content: str) -> None:
        told.append(
            await announce(
                admin_db,
                actor,
                TOPIC,
                digest(content),
                LetterKind.SUB_PROCESSORS_CHANGED,
                {"changes": [content]},
            )
        )

    await tell("first")
    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(tell, "second")
    assert sorted(told) == [0, 0, 0, 0, 1]
    newest = (await select_waiting(admin_db, master_keys))[0].letter
    assert newest is not None
    assert newest.facts["changes"] == ["second"]
    assert UUID(str(newest.facts["subscription_id"]))
