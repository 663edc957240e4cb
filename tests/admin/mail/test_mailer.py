"""Each letter is sent once, whatever dies or fails in between, and none is lost."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import pytest
import trio
from pydantic import SecretStr

from admin.mail import mailer as mailing
from admin.mail.mailer import Mailer, keep_sending, wait_seconds
from admin.mail.postmark import open_postmark
from admin.services import Services
from admin.settings import AdminSettings
from storage.bridge import Database
from storage.letter_kinds import LetterKind
from storage.outbox import Letter, post, post_open, select_failures, select_waiting
from storage.queries import Queries
from storage.sealing import MasterKeys
from storage.suppressions import EVERY_STREAM, Reason, select_suppressions, suppress
from tests.admin.conftest import ACTOR, MASTER_KEYS, MASTER_KEYS_TEXT, running_admin
from tests.admin.mail.examples import LETTERS, ORIGIN
from tests.support.postmark import TOKEN, PostmarkServer, running_postmark


@pytest.fixture
def server() -> Iterator[PostmarkServer]:
    with running_postmark() as server:
        yield server


class Killed(BaseException):
    """What a process does not survive: nothing that tidies up may run after it."""


class DyingDatabase(Queries):
    """Dies before or after its nth statement, with what that changed kept or not as PostgreSQL would."""

    def __init__(self, db: Database, statements: int, *, after: bool) -> None:
        self._db, self._left, self._after = db, statements, after

    async def _query(self, method: str, sql: str, args: tuple[Any, ...]) -> Any:
        self._left -= 1
        if self._left == 0 and not self._after:
            raise Killed
        answer = await self._db._query(method, sql, args)
        if self._left == 0:
            raise Killed
        return answer

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        self._left -= 1
        if self._left == 0 and not self._after:
            raise Killed
        async with self._db.transaction() as tx:
            yield tx
        if self._left == 0:
            raise Killed


@asynccontextmanager
async def mailing_by(db: Any, server: PostmarkServer) -> AsyncIterator[Mailer]:
    async with open_postmark(server.url, SecretStr(TOKEN), "karta@example.com") as postmark:
        yield Mailer(db, MASTER_KEYS, postmark, ORIGIN)


async def write(db: Database, *letters: Letter) -> list[UUID]:
    async with db.transaction() as tx:
        return [await post(tx, MASTER_KEYS, letter) for letter in letters]


def reset(recipient: str) -> Letter:
    return Letter(kind=LetterKind.RESET_PASSWORD, recipient=recipient, facts={"path": "/link/reset/x"})


async def make_due(owner_db: Database) -> None:
    """As if all waits and claims had run out."""
    await owner_db.execute("UPDATE outbox SET due_at = now() WHERE ended_at IS NULL")


async def drain(db: Database, owner_db: Database, server: PostmarkServer, rounds_max: int = 200) -> int:
    """Rounds until nothing waits; how many it took."""
    async with mailing_by(db, server) as mailer:
        for number in range(rounds_max):
            if not await owner_db.fetch_value("SELECT count(*) FROM outbox WHERE ended_at IS NULL"):
                return number
            await mailer.do_round()
            await make_due(owner_db)
    raise AssertionError("letters are left")


async def test_every_kind_of_letter_is_sent_and_forgotten(
    admin_db: Database, owner_db: Database, server: PostmarkServer
) -> None:
    ids = await write(admin_db, *LETTERS)
    async with mailing_by(admin_db, server) as mailer:
        assert await mailer.do_round() == 0
        assert await mailer.do_round() == mailing.EVERY_SECONDS
    assert [len(server.of(message_id)) for message_id in ids] == [1] * len(LETTERS)
    assert sorted(set(server.calls)) == ["POST /email/batch"]
    streams = {message["Tag"]: message["MessageStream"] for message in server.taken}
    assert {tag for tag, stream in streams.items() if stream == "broadcast"} == {
        "incident",
        "sub_processors_changed",
    }
    assert await owner_db.fetch_value("SELECT count(*) FROM outbox WHERE sealed IS NOT NULL") == 0
    assert await owner_db.fetch_value("SELECT count(*) FROM outbox WHERE postmark_id IS NOT NULL") == len(ids)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_killed_at_any_statement_each_is_sent_once(
    admin_db: Database, owner_db: Database, server: PostmarkServer, *, after: bool
) -> None:
    server.inactive = {"gone@example.com"}
    ids, kills = [], 0
    for number in range(1, 60):
        ids += await write(admin_db, reset("ada@example.com"), reset("eve@example.com"))
        await write(admin_db, reset("gone@example.com"))
        dying: Any = DyingDatabase(admin_db, number, after=after)
        try:
            async with mailing_by(dying, server) as mailer:
                await mailer.do_round()
        except Killed:
            kills += 1
            await make_due(owner_db)
            continue
        break
    assert kills >= 6, "claims, suppressions, notes"
    await make_due(owner_db)
    await drain(admin_db, owner_db, server)
    assert [len(server.of(message_id)) for message_id in ids] == [1] * len(ids)


@pytest.mark.parametrize("end", ["taken and cut", "taken and lost"])
async def test_taken_without_an_answer_it_is_asked_for_and_not_sent_again(
    admin_db: Database, owner_db: Database, server: PostmarkServer, end: str
) -> None:
    ids = await write(admin_db, *(reset(f"{number}@example.com") for number in range(7)))
    server.script.append(end)
    async with mailing_by(admin_db, server) as mailer:
        await mailer.do_round()
        assert await mailer.do_round() == mailing.EVERY_SECONDS, "until the claim has run out it is let alone"
    await make_due(owner_db)
    await drain(admin_db, owner_db, server)
    assert [len(server.of(message_id)) for message_id in ids] == [1] * 7
    assert server.calls.count("GET /messages/outbound") == 7


async def test_while_nobody_can_say_whether_it_was_sent_it_is_not_sent_again(
    admin_db: Database, owner_db: Database, server: PostmarkServer
) -> None:
    (message_id,) = await write(admin_db, reset("ada@example.com"))
    server.script.extend(["taken and cut", "unavailable", "lost", "throttled"])
    async with mailing_by(admin_db, server) as mailer:
        for _ in range(4):
            await mailer.do_round()
            assert await owner_db.fetch_value("SELECT state FROM outbox") == "sending"
            await make_due(owner_db)
        await mailer.do_round()
    assert len(server.of(message_id)) == 1
    assert await owner_db.fetch_value("SELECT state FROM outbox") == "sent"


async def test_with_a_third_of_all_calls_failing_none_is_lost_and_none_sent_twice(
    admin_db: Database, owner_db: Database, server: PostmarkServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mailing, "BATCH_MESSAGES_MAX", 5)
    ids = await write(admin_db, *(reset(f"{number}@example.com") for number in range(60)))
    server.failing_share = 0.3
    async with contextlib.AsyncExitStack() as stack:
        mailers = [await stack.enter_async_context(mailing_by(admin_db, server)) for _ in range(3)]
        for _ in range(500):
            async with trio.open_nursery() as nursery:
                for mailer in mailers:
                    nursery.start_soon(mailer.do_round)
            # Nobody is at work any more: what is claimed now has an unknown end.
            await make_due(owner_db)
            if not await owner_db.fetch_value("SELECT count(*) FROM outbox WHERE ended_at IS NULL"):
                break
    assert [len(server.of(message_id)) for message_id in ids] == [1] * 60
    assert len(server.calls) > 12, "as many as it takes where nothing fails"


async def test_what_is_suppressed_is_not_even_tried(
    admin_db: Database, owner_db: Database, server: PostmarkServer
) -> None:
    now = await owner_db.fetch_value("SELECT now()")
    await suppress(admin_db, ACTOR, "bounced@example.com", EVERY_STREAM, Reason.HARD_BOUNCE, now)
    await suppress(admin_db, ACTOR, "quiet@example.com", "broadcast", Reason.UNSUBSCRIBED, now)
    server.inactive = {"gone@example.com"}
    incident = next(letter for letter in LETTERS if letter.kind is LetterKind.INCIDENT)
    async with admin_db.transaction() as tx:
        for recipient in ("bounced@example.com", "quiet@example.com"):
            await post_open(tx, Letter(kind=incident.kind, recipient=recipient, facts=incident.facts))
    await write(admin_db, reset("bounced@example.com"), reset("quiet@example.com"))
    await write(admin_db, reset("gone@example.com"))
    await drain(admin_db, owner_db, server)
    assert [message["To"] for message in server.taken] == ["quiet@example.com"]
    told = sorted((failure.recipient, failure.kind) for failure in await select_failures(admin_db))
    assert told == [
        ("bounced@example.com", "incident"),
        ("bounced@example.com", "reset_password"),
        ("gone@example.com", "reset_password"),
        ("quiet@example.com", "incident"),
    ]
    (inactive,) = await select_suppressions(admin_db, email="gone@example.com")
    assert (inactive.reason, inactive.stream) == (Reason.INACTIVE, "outbound")


async def test_what_postmark_will_never_take_ends_with_its_reason(
    admin_db: Database, owner_db: Database, server: PostmarkServer
) -> None:
    await write(admin_db, reset("a@nowhere"), reset("a@b.example,c@d.example"), reset("ada@example.com"))
    await drain(admin_db, owner_db, server)
    reasons = {failure.recipient: failure.reason for failure in await select_failures(admin_db)}
    assert set(reasons) == {"a@nowhere", "a@b.example,c@d.example"}
    assert "address" in reasons["a@nowhere"]


async def test_the_accounts_trouble_is_no_letters_end(
    admin_db: Database, owner_db: Database, server: PostmarkServer
) -> None:
    (message_id,) = await write(admin_db, reset("ada@example.com"))
    server.script.extend(["no credits", "throttled"])
    async with mailing_by(admin_db, server) as mailer:
        assert await mailer.do_round() == mailing.AFTER_TROUBLE_SECONDS
        assert await owner_db.fetch_value("SELECT state FROM outbox") == "waiting"
        await make_due(owner_db)
        assert await mailer.do_round() == 20, "as long as Postmark wants"
        wait = await owner_db.fetch_value("SELECT extract(epoch FROM due_at - now())::float8 FROM outbox")
        assert wait > 15
    await make_due(owner_db)
    await drain(admin_db, owner_db, server)
    assert len(server.of(message_id)) == 1


async def test_a_letter_that_cannot_be_written_keeps_no_other_from_leaving(
    admin_db: Database, owner_db: Database, server: PostmarkServer, caplog: pytest.LogCaptureFixture
) -> None:
    broken = Letter(kind=LetterKind.RESET_PASSWORD, recipient="ada@example.com", facts={"what": "s3cret"})
    await write(admin_db, broken)
    async with admin_db.transaction() as tx:
        await post(tx, MasterKeys({9: bytes(32)}), reset("ada@example.com"))
    (sound,) = await write(admin_db, reset("eve@example.com"))
    async with mailing_by(admin_db, server) as mailer:
        await mailer.do_round()
    assert len(server.of(sound)) == 1
    assert len(await select_waiting(admin_db, MASTER_KEYS)) == 2
    assert "s3cret" not in caplog.text
    await owner_db.execute("UPDATE outbox SET created_at = now() - interval '4 days'")
    await make_due(owner_db)
    await drain(admin_db, owner_db, server, rounds_max=2)
    assert len(await select_failures(admin_db)) == 2


async def test_the_control_plane_sends(database_url: str, admin_db: Database, server: PostmarkServer) -> None:
    (message_id,) = await write(admin_db, reset("ada@example.com"))
    settings = {"postmark_url": server.url, "postmark_token": TOKEN, "mail_from": "Karta <k@example.com>"}
    async with running_admin(database_url, **settings) as url:
        with trio.fail_after(30):
            while not server.of(message_id):
                await trio.sleep(0.02)
    (message,) = server.of(message_id)
    assert f"{url}/link/reset/x" in message["TextBody"]
    assert f'href="{url}/link/reset/x"' in message["HtmlBody"]


async def test_without_a_token_production_says_so(
    admin_db: Database, caplog: pytest.LogCaptureFixture
) -> None:
    nobody: Any = None
    for env, expected in (("development", 0), ("production", 1)):
        settings = AdminSettings.load(
            database_url="postgresql://x/y",
            env=env,
            master_keys=MASTER_KEYS_TEXT,
            trusted_proxies=["10.0.0.0/8"],
            admin_url="https://admin.example.com",
        )
        await keep_sending(Services(admin_db, settings, nobody, ORIGIN, MASTER_KEYS))
        assert caplog.text.count("KARTA_POSTMARK_TOKEN") == expected


def test_waits_grow_differ_and_end() -> None:
    for attempts, expected in ((1, 15), (2, 30), (5, 240), (30, 3600)):
        waits = {wait_seconds(attempts) for _ in range(50)}
        assert len(waits) > 10
        assert all(expected * 0.5 <= wait <= expected * 1.5 for wait in waits)
