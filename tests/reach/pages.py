"""A hundred signed-in people who click in the same instant: `python -m tests.reach.pages`, or `tox -e
capacity`.

Each has a browser's kept connection; round by round all ask for a page at once, while a gateway beside serves
steady traffic and somebody signs in, whose password is being verified meanwhile. Told are how long the pages
took, and how much of a core one of them cost the admin processes: the latter is the same on a busy machine.

"At once" is the hardest reading of a hundred people who use the pages: the last of a round waits for all
others, and this is what is held against the target. Told besides is what the same people meet who read what
they see: each clicks, reads for some seconds (`--reading`, on average), and clicks again, by themselves.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from time import perf_counter

import trio

from admin.web_session import COOKIE, digest
from bench.process_watch import cpu_seconds, descendants
from storage.bridge import open_database
from storage.model import Role
from storage.passwords import digest_password
from storage.sessions import create_session
from storage.users import add_member, create_user
from tests.admin.browsing import Visitor
from tests.gateway.conftest import ACTOR, Tenant
from tests.reach.stand import main, stand, tell
from tests.support.raw_client import RawClient

P95_MS_MAX = 300.0
PAGES: dict[str, Callable[[Tenant], str]] = {
    "keys": lambda tenant: f"/organizations/{tenant.org_id}",
    "key": lambda tenant: f"/organizations/{tenant.org_id}/keys/{tenant.key_id}",
    "members": lambda tenant: f"/organizations/{tenant.org_id}/members",
    "usage": lambda tenant: f"/organizations/{tenant.org_id}/usage",
    "requests": lambda tenant: f"/organizations/{tenant.org_id}/requests",
    "account": lambda _: "/account",
    "healthz": lambda _: "/healthz",
}
PASSWORD = "correct horse battery staple"
STOP_SECONDS_MAX = 30.0


class Admin:
    """The pages, in one process or several. `port` is where they are."""

    def __init__(self, process: trio.Process, port: int) -> None:
        self.process = process
        self.port = port

    def cpu_seconds(self) -> list[float]:
        """Of each process."""
        return [cpu_seconds([pid]) for pid in (self.process.pid, *descendants(self.process.pid))]


@asynccontextmanager
async def running_admin(tenant: Tenant, processes: int) -> AsyncIterator[Admin]:
    given = {
        "KARTA_DATABASE_URL": tenant.database_url,
        "KARTA_MASTER_KEYS": tenant.master_keys,
        "KARTA_ADMIN_BIND": "127.0.0.1:0",
        "KARTA_ADMIN_PROCESSES": str(processes),
    }
    command = [sys.executable, "-P", "-m", "karta", "admin", "--json"]
    process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE, env={**os.environ, **given})
    try:
        assert process.stdout is not None
        line = b""
        while not line.endswith(b"\n"):
            more = bytes(await process.stdout.receive_some(4096))
            assert more, "the admin pages ended before they were ready"
            line += more
        yield Admin(process, int(json.loads(line)["admin_url"].rpartition(":")[2]))
    finally:
        process.terminate()
        with trio.CancelScope(shield=True), trio.fail_after(STOP_SECONDS_MAX):
            await process.wait()


async def make_people(tenant: Tenant, number: int) -> list[str]:
    """Their sessions' tokens; `person0@example.com` also has a password."""
    tokens = [secrets.token_urlsafe(32) for _ in range(number)]
    until = datetime.now(UTC) + timedelta(hours=1)
    password = digest_password(PASSWORD)
    async with open_database(tenant.database_url, role=None) as db:
        # No longer one that is shown its first steps.
        await db.execute("UPDATE organizations SET created_at = now() - interval '30 days'")
        await db.execute("UPDATE api_keys SET last_used_at = now()")
        for index, token in enumerate(tokens):
            user = await create_user(db, ACTOR, email=f"person{index}@example.com", password_digest=password)
            await add_member(db, ACTOR, tenant.org_id, user.user_id, Role.DEVELOPER)
            await create_session(db, ACTOR, user.user_id, digest(token), until)
    return tokens


class Crowd:
    """People before their browsers; `milliseconds` are how long their pages took."""

    def __init__(self, port: int, path: str, tokens: list[str]) -> None:
        self._port = port
        self._requests = [
            f"GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\nCookie: {COOKIE}={token}\r\n\r\n".encode()
            for token in tokens
        ]
        self._browsers: list[RawClient] = []
        self.milliseconds: list[float] = []

    async def sit_down(self) -> None:
        for _ in self._requests:
            self._browsers.append(RawClient(await trio.open_tcp_stream("127.0.0.1", self._port)))

    async def click(self) -> None:
        """All at once, until all have their page."""
        async with trio.open_nursery() as nursery:
            for browser, request in zip(self._browsers, self._requests, strict=True):
                nursery.start_soon(self._click, browser, request)

    async def read(self, mean_seconds: float, seconds: float) -> None:
        """Each clicks and reads by themselves, for so long."""
        async with trio.open_nursery() as nursery:
            for index, (browser, request) in enumerate(zip(self._browsers, self._requests, strict=True)):
                nursery.start_soon(self._read, Random(index), browser, request, mean_seconds, seconds)

    async def _read(
        self, choose: Random, browser: RawClient, request: bytes, mean_seconds: float, seconds: float
    ) -> None:
        ends = trio.current_time() + seconds
        while True:
            pause = choose.expovariate(1 / mean_seconds)
            if trio.current_time() + pause >= ends:
                return
            await trio.sleep(pause)
            await self._click(browser, request)

    async def _click(self, browser: RawClient, request: bytes) -> None:
        began = perf_counter()
        await browser.send(request)
        answer = await browser.read_answer()
        self.milliseconds.append((perf_counter() - began) * 1000)
        assert answer.status == 200, answer.raw[:200]

    async def leave(self) -> None:
        for browser in self._browsers:
            await browser.stream.aclose()


async def measure(tenant: Tenant, folder: Path, given: argparse.Namespace) -> None:
    tokens = await make_people(tenant, given.people)
    async with stand(tenant, folder, workers=1) as gateway, running_admin(tenant, given.processes) as admin:
        crowd = Crowd(admin.port, PAGES[given.page](tenant), tokens)
        await crowd.sit_down()
        await crowd.click()  # every process has compiled its templates and knows its statements
        crowd.milliseconds.clear()
        async with trio.open_nursery() as nursery:
            if given.rate:
                seconds = given.rounds * given.pause + given.reading_seconds + 2.0
                plan = gateway.plan(
                    driver="open", rate_per_second=given.rate, connections=32, seconds=seconds
                )
                nursery.start_soon(gateway.load, plan)
            # The load's own programs start meanwhile.
            await trio.sleep(given.pause)
            before = admin.cpu_seconds()
            for _ in range(given.rounds):
                if given.sign_ins:
                    nursery.start_soon(_sign_in, admin.port)
                await crowd.click()
                await trio.sleep(given.pause)
            spent = [after - one for one, after in zip(before, admin.cpu_seconds(), strict=True)]
            at_once, crowd.milliseconds = crowd.milliseconds, []
            await crowd.read(given.reading, given.reading_seconds)
        await crowd.leave()
    if crowd.milliseconds:
        p50, p95 = _quantiles(crowd.milliseconds)
        pages = f"{len(crowd.milliseconds)} pages, {len(crowd.milliseconds) / given.reading_seconds:.0f}/s"
        tell(f"clicking by themselves, reading {given.reading:g} s", pages)
        tell("p50, p95, the slowest", f"{p50:.0f}, {p95:.0f}, {max(crowd.milliseconds):.0f} ms")
    _judge(at_once, spent, given)


async def _sign_in(port: int) -> None:
    async with Visitor(f"http://localhost:{port}") as visitor:
        answer = await visitor.sign_in("person0@example.com", PASSWORD)
        assert answer.status_code == 303, answer.status_code


def _quantiles(milliseconds: list[float]) -> tuple[float, float]:
    found = sorted(milliseconds)
    return found[len(found) // 2], found[int(len(found) * 0.95)]


def _judge(milliseconds: list[float], spent: list[float], given: argparse.Namespace) -> None:
    p50, p95 = _quantiles(milliseconds)
    pages = len(milliseconds)
    each = sum(spent) / pages * 1000
    tell(f"{given.people} at once, page of {given.page}", f"{pages} pages by {given.processes} process(es)")
    tell("p50, p95, the slowest", f"{p50:.0f}, {p95:.0f}, {max(milliseconds):.0f} ms")
    tell("admin CPU for a page", f"{each:.2f} ms" + (", sign-ins included" if given.sign_ins else ""))
    tell("the busiest process did", f"{max(spent) / sum(spent):.0%} of it")
    if given.assert_figures:
        assert p95 <= P95_MS_MAX, f"the p95 of all at once is {p95:.0f} ms, not {P95_MS_MAX:.0f} ms at most"


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--people", type=int, default=100)
    made.add_argument("--rounds", type=int, default=10, help="how often they click")
    made.add_argument("--pause", type=float, default=1.0, help="seconds between two rounds")
    made.add_argument("--reading", type=float, default=5.0, help="seconds that each reads, on average")
    made.add_argument(
        "--reading-seconds", type=float, default=15.0, help="how long they do; 0 for not at all"
    )
    made.add_argument("--page", choices=list(PAGES), default="keys")
    made.add_argument("--processes", type=int, default=1, help="of the admin pages")
    made.add_argument("--rate", type=float, default=100.0, help="the gateway's requests a second; 0 for none")
    made.add_argument(
        "--no-sign-ins", dest="sign_ins", action="store_false", help="nobody signs in meanwhile"
    )
    made.add_argument("--no-assert", dest="assert_figures", action="store_false", help="only print figures")
    return made


if __name__ == "__main__":
    main(measure, parser())
