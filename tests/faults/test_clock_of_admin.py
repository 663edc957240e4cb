"""Row 16 for the control plane: the clock of an admin host jumps, and leaps back.

Whoever signs in there has a phone, and the database a clock, that tell the right time. What proves who
somebody is, and what keeps others from guessing it, goes by those.
"""

from __future__ import annotations

import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pyotp
import pytest
import trio

from admin import throttle
from storage.bridge import Database, open_database
from storage.clock import tell_time
from tests.admin.browsing import Visitor, token_of
from tests.admin.conftest import MASTER_KEYS_TEXT, PASSWORD, Person, make_person, make_stale
from tests.admin.mfa.codes import App, set_up_app
from tests.faults.arena import scaled
from tests.faults.conftest import Table
from tests.faults.wall_clock import Clock, FakedClock, make_clock
from tests.support.admin_process import admin_process

HOUR = 3600.0
JUMPS = scaled((HOUR, -HOUR, 30.0, -30.0, 0.0), (HOUR, 30.0, -HOUR))
STEP = 30
PATIENCE_SECONDS = 240
SENSITIVE = "/account/email"


async def tell_step(db: Database) -> int:
    """Which code a phone shows now."""
    return int((await tell_time(db)).timestamp()) // STEP


class Scene:
    """A person with an authenticator app, and the admin process of a host whose clock is `clock`."""

    def __init__(self, db: Database, clock: Clock, url: str, person: Person, app: App) -> None:
        self.db = db
        self.clock = clock
        self.url = url
        self.person = person
        self.app = app

    async def begin(self, visitor: Visitor) -> str:
        """The password is given; the token of the form that asks for the code."""
        answer = await visitor.sign_in(self.person.email, PASSWORD)
        assert answer.headers["location"].startswith("/sign-in/second-factor")
        return token_of((await visitor.get("/sign-in/second-factor")).text)

    async def code_of(self, steps: int) -> str:
        """What the phone shows so many steps from now."""
        now = (await tell_time(self.db)).timestamp()
        return pyotp.TOTP(self.app.secret).at(int(now) + steps * STEP)

    async def try_code(self, visitor: Visitor, token: str, code: str) -> int:
        form = {"csrf_token": token, "code": code}
        return (await visitor.post("/sign-in/second-factor/code", form)).status_code

    async def try_step(self, visitor: Visitor, token: str, steps: int) -> int:
        """The same, again if the step ended meanwhile: at its edge a code is of another one."""
        while True:
            before = await tell_step(self.db)
            status = await self.try_code(visitor, token, await self.code_of(steps))
            if await tell_step(self.db) == before:
                return status
            assert status == 422, "a code that may be right is tried once"

    async def unspend(self) -> None:
        """As if the last code had been given long ago."""
        await self.db.execute("UPDATE totp_factors SET last_step = 0")

    async def unthrottle(self) -> None:
        await self.db.execute("DELETE FROM throttles")


@pytest.fixture
async def scene(database_url: str, tmp_path: Path) -> AsyncIterator[Scene]:
    clock = make_clock(tmp_path)
    variables = {"KARTA_MASTER_KEYS": MASTER_KEYS_TEXT, **clock.variables}
    async with (
        open_database(database_url, role=None) as db,
        admin_process(database_url, tmp_path, **variables) as url,
    ):
        person = await make_person(db, "ada@example.com")
        async with Visitor(url) as visitor:
            assert (await visitor.sign_in(person.email, PASSWORD)).status_code == 303
            with trio.fail_after(PATIENCE_SECONDS):
                while True:
                    before = await tell_step(db)
                    app, confirmed = await set_up_app(visitor, db)
                    if confirmed.status_code == 303:
                        break
                    # On a machine that is busy enough a code is of the past when it is looked at.
                    assert await tell_step(db) != before, "a code of the present is refused"
        yield Scene(db, clock, url, person, app)


@asynccontextmanager
async def signed_in(scene: Scene) -> AsyncIterator[Visitor]:
    await scene.unspend()
    async with Visitor(scene.url) as visitor:
        token = await scene.begin(visitor)
        assert await scene.try_code(visitor, token, await scene.code_of(0)) == 303
        yield visitor


async def test_an_admin_host_whose_clock_jumps(scene: Scene, table: Table) -> None:
    """One process for all of it, since a start takes its time."""
    for survive in (
        connections_wait_as_long_as_ever_and_rows_tell_the_right_time,
        no_code_is_taken_twice_nor_of_another_hour,
        proof_is_neither_prolonged_nor_cut_short,
        a_throttle_is_neither_opened_nor_locked,
    ):
        scene.clock.set(0)
        await scene.unthrottle()
        with trio.fail_after(PATIENCE_SECONDS):
            await survive(scene, table)


async def no_code_is_taken_twice_nor_of_another_hour(scene: Scene, table: Table) -> None:
    for jump in JUMPS:
        await scene.unspend()
        async with Visitor(scene.url) as visitor, Visitor(scene.url) as thief:
            token, stolen = await scene.begin(visitor), await scene.begin(thief)
            scene.clock.set(jump)
            # Right by the host's clock, of the last step that it would take; and wrong by all others.
            ahead = int(jump) // STEP + (1 if jump > 0 else -1)
            if abs(ahead) > 1:
                assert await scene.try_step(thief, stolen, ahead) == 422, jump
            code = await scene.code_of(0)
            assert await scene.try_code(visitor, token, code) == 303, jump
            assert await scene.try_code(thief, stolen, code) == 422, jump
            scene.clock.set(0)
            assert await scene.try_code(thief, stolen, code) == 422, jump
            scene.clock.set(-jump)
            assert await scene.try_code(thief, stolen, code) == 422, jump
        scene.clock.set(0)
        await scene.unthrottle()
    by = "libfaketime" if isinstance(scene.clock, FakedClock) else "an injected clock"
    table.add(16, "codes while the clock jumps", f"{len(JUMPS)} jumps by {by}: 0 replayed, 0 of another hour")


async def proof_is_neither_prolonged_nor_cut_short(scene: Scene, table: Table) -> None:
    async with signed_in(scene) as visitor:
        for jump in JUMPS:
            scene.clock.set(jump)
            assert (await visitor.get(SENSITIVE)).status_code == 200, jump
        await make_stale(scene.db)
        for jump in (*JUMPS, 0.0):
            scene.clock.set(jump)
            assert (await visitor.get(SENSITIVE)).headers["location"] == "/prove", jump
        # Proof that is given while the clock is wrong is fresh for as long as ever.
        scene.clock.set(HOUR)
        await scene.unspend()
        form = {"csrf_token": await visitor.token("/prove"), "code": await scene.code_of(0)}
        assert (await visitor.post("/prove/code", form)).headers["location"] == "/prove/resume"
        proved = await scene.db.fetch_value(
            "SELECT max(extract(epoch FROM now() - stepped_up_at))::float8 FROM sessions"
        )
        assert proved >= 0
        assert (await visitor.get(SENSITIVE)).status_code == 200
        await make_stale(scene.db)
        scene.clock.set(-HOUR)
        assert (await visitor.get(SENSITIVE)).headers["location"] == "/prove"
    table.add(16, "fresh proof while the clock jumps", "as long as ever, by the database's clock")


async def a_throttle_is_neither_opened_nor_locked(scene: Scene, table: Table) -> None:
    rule = throttle.PROOF_ACCOUNT
    async with Visitor(scene.url) as visitor:
        token = await scene.begin(visitor)
        taken = 0
        for number in range(rule.uses + 2):
            # It jumps to and fro with every try.
            scene.clock.set(HOUR if number % 2 else -HOUR)
            taken += await scene.try_code(visitor, token, "000000") == 422
        # One more comes free for each share of the period, which a slow machine may see.
        assert rule.uses <= taken <= rule.uses + 1
        for jump in (HOUR, -HOUR, 30.0, -30.0, 0.0):
            scene.clock.set(jump)
            assert await scene.try_code(visitor, token, "000000") == 429, jump
        locked = await scene.db.fetch_value(
            "SELECT max(extract(epoch FROM free_at - now()))::float8 FROM throttles WHERE rule = $1",
            rule.name,
        )
        assert 0 < locked <= rule.period_seconds
    table.add(
        16, "throttle while the clock jumps", f"{taken} of {rule.uses} tries; locked {locked:.0f} s at most"
    )


async def connections_wait_as_long_as_ever_and_rows_tell_the_right_time(scene: Scene, table: Table) -> None:
    """A request that is half sent is waited for by the monotonic clock; what it writes is stamped by the
    database."""
    host, port = scene.url.removeprefix("http://").split(":")
    began = await tell_time(scene.db)
    for jump in JUMPS:
        scene.clock.set(0)
        with socket.create_connection((host, int(port)), timeout=60) as half:
            half.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n")
            async with Visitor(scene.url) as other:
                assert (await other.get("/healthz")).status_code == 200
                scene.clock.set(jump)
                assert (await other.get("/healthz")).status_code == 200
            half.sendall(b"Connection: close\r\n\r\n")
            answer = await trio.to_thread.run_sync(half.recv, 65536)
            assert answer.startswith(b"HTTP/1.1 200 "), jump
        async with signed_in(scene):
            pass
    scene.clock.set(0)
    ended = await tell_time(scene.db)
    stamps: list[dict[str, Any]] = [
        dict(row)
        for query in (
            "SELECT min(created_at) AS first, max(created_at) AS last FROM audit_log WHERE created_at > $1",
            "SELECT min(last_seen_at) AS first, max(last_seen_at) AS last FROM sessions WHERE created_at>$1",
        )
        for row in await scene.db.fetch(query, began)
    ]
    assert all(began < one["first"] <= one["last"] < ended for one in stamps), stamps
    (lives,) = await scene.db.fetch(
        "SELECT min(expires_at - created_at) AS shortest, max(expires_at - created_at) AS longest"
        " FROM sessions"
    )
    assert (lives["longest"] - lives["shortest"]).total_seconds() < 60
    assert abs(ended.timestamp() - time.time()) < HOUR / 2, "it is this test's own clock that jumps"
    table.add(16, "rows of a host whose clock jumps", "stamped by the database; half a request is waited for")
