"""The mail worker killed by SIGKILL between any two of its steps, and while a call is under way: each letter
is sent once, none is lost, and none is noted as sent that Postmark has not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
import trio

from storage.bridge import Database
from tests.admin.conftest import MASTER_KEYS_TEXT
from tests.admin.mail.examples import ORIGIN
from tests.admin.mail.test_mailer import make_due, reset, write
from tests.support.postmark import PostmarkServer, running_postmark

STEPS_MAX = 80
SECONDS_MAX = 120


@pytest.fixture
def server() -> Iterator[PostmarkServer]:
    with running_postmark() as server:
        yield server


class Rounds:
    """Rounds of the mail worker, each a process."""

    def __init__(self, process: trio.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._stdin, self._stdout, self._left = process.stdin, process.stdout, b""

    async def begin(self, step: int) -> int:
        """Returns the process's id."""
        await self._stdin.send_all(f"{step}\n".encode())
        return await self._read()

    async def end(self) -> int:
        """By which signal it ended; 0 for none."""
        return await self._read()

    async def _read(self) -> int:
        while b"\n" not in self._left:
            piece = await self._stdout.receive_some(1024)
            assert piece, "the worker's parent is gone"
            self._left += piece
        line, _, self._left = self._left.partition(b"\n")
        return int(line)


@asynccontextmanager
async def rounds(database_url: str, server: PostmarkServer) -> AsyncIterator[Rounds]:
    command = [sys.executable, "-m", "tests.admin.mail.killed_mailer", database_url, server.url, ORIGIN]
    environment = {**os.environ, "KARTA_MASTER_KEYS": MASTER_KEYS_TEXT}
    process = await trio.lowlevel.open_process(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        yield Rounds(process)
    finally:
        with trio.CancelScope(shield=True):
            process.kill()
            await process.wait()


async def check_noted(owner_db: Database, server: PostmarkServer) -> None:
    """What is noted as sent is at Postmark, by the id that Postmark gave it."""
    noted = await owner_db.fetch("SELECT message_id, postmark_id FROM outbox WHERE state = 'sent'")
    for row in noted:
        assert [one["MessageID"] for one in server.of(row["message_id"])] == [str(row["postmark_id"])]


async def test_killed_between_any_two_steps_each_letter_is_sent_once(
    admin_db: Database, owner_db: Database, database_url: str, server: PostmarkServer
) -> None:
    ids, step = [], 0
    with trio.fail_after(SECONDS_MAX):
        async with rounds(database_url, server) as worker:
            for step in range(STEPS_MAX):
                ids += await write(admin_db, reset("ada@example.com"), reset("eve@example.com"))
                await worker.begin(step)
                if await worker.end() == 0:
                    break
                await check_noted(owner_db, server)
                # The claims of the dead have run out.
                await make_due(owner_db)
            assert step >= 12, "claims, the call, notes: before and after each"
            for _ in range(STEPS_MAX):
                await make_due(owner_db)
                if not await owner_db.fetch_value("SELECT count(*) FROM outbox WHERE ended_at IS NULL"):
                    break
                await worker.begin(-1)
                assert await worker.end() == 0
    assert [len(server.of(message_id)) for message_id in ids] == [1] * len(ids)
    assert await owner_db.fetch_value("SELECT count(*) FROM outbox WHERE state = 'sent'") == len(ids)
    await check_noted(owner_db, server)


async def test_killed_while_postmark_answers_it_is_asked_for_and_not_sent_again(
    admin_db: Database, owner_db: Database, database_url: str, server: PostmarkServer
) -> None:
    ids = await write(admin_db, reset("ada@example.com"), reset("eve@example.com"))
    server.script.append("taken and hung")
    with trio.fail_after(SECONDS_MAX):
        async with rounds(database_url, server) as worker:
            pid = await worker.begin(-1)
            while len(server.taken) < len(ids):
                await trio.sleep(0.02)
            os.kill(pid, signal.SIGKILL)
            assert await worker.end() == signal.SIGKILL
            assert await owner_db.fetch_value("SELECT count(*) FROM outbox WHERE state = 'sending'") == 2
            await make_due(owner_db)
            await worker.begin(-1)
            assert await worker.end() == 0
    assert [len(server.of(message_id)) for message_id in ids] == [1, 1]
    assert server.calls.count("GET /messages/outbound") == 2
    await check_noted(owner_db, server)
