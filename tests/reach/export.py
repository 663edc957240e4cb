"""An audit log of a million rows, exported over HTTP: `python -m tests.reach.export`, or `tox -e audit-load`.

A real admin server in a process of its own. Somebody who has just proved who they are takes the whole log in
each form, and proves the JSONL row by row as it comes; somebody else stops reading in the middle, and the
server lets go of them; a third leaves. What the server's process takes meanwhile must stay flat.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import httpx
import trio

from bench.process_watch import resident_bytes
from storage.audit_export import verify_lines
from storage.bridge import open_database
from storage.migrate import migrate
from tests.admin.browsing import Visitor
from tests.admin.conftest import MASTER_KEYS_TEXT, Person, make_person
from tests.audit_load import COLUMNS, values
from tests.support.postgres import PostgresServer, running_server

GROWTH_BYTES_MAX = 48 << 20
"""Some batches, in the making and on their way; and what a first request loads."""
STALLED_SECONDS_MAX = 45.0
FREED_SECONDS_MAX = 30.0


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument(
        "--stall", type=float, default=10.0, help="seconds after which a stalled reader is left"
    )
    return parser


def main() -> None:
    given = parser().parse_args()
    with running_server() as server:
        measure(server, "export", given.rows, given.stall)


def measure(server: PostgresServer, database: str, rows: int, stall: float) -> None:
    """Raises AssertionError where something is not as it should be."""
    server.sql(f"CREATE DATABASE {database}")
    trio.run(migrate, server.url(database))
    person = trio.run(_make_person, server.url(database))
    _fill(server, database, person.organization.org_id, rows)
    with _admin(server.url(database), stall) as (process, url):
        cookies = trio.run(_sign_in, url, person)
        export = _Export(process.pid, url, person, cookies)
        export.take("jsonl", 0)
        before = resident_bytes([process.pid])
        for form in ("jsonl", "csv"):
            export.take(form, rows)
        export.stall(stall)
        export.leave()
        grown = resident_bytes([process.pid]) - before
        print(f"the server's memory: {before >> 20} MB before, {grown / 2**20:+.1f} MB after it all")


async def _make_person(url: str) -> Person:
    async with open_database(url, role="karta_admin") as db:
        return await make_person(db, "ada@example.com")


async def _sign_in(url: str, person: Person) -> str:
    async with Visitor(url) as visitor:
        assert (await visitor.sign_in(person.email, person.password)).status_code == 303
        return "; ".join(f"{name}={value}" for name, value in visitor.cookies.items())


def _fill(server: PostgresServer, database: str, org_id: UUID, rows: int) -> None:
    """By many short transactions, since a chain's head is versioned within one."""
    loop = f"""
        DO $$ BEGIN FOR i IN 1..{-(-rows // 500)} LOOP
            INSERT INTO audit_log ({COLUMNS}) SELECT {values(org_id)} FROM generate_series(1, 500);
            COMMIT;
        END LOOP; END $$
    """
    server.sql(loop, database)
    server.sql("VACUUM ANALYZE audit_log", database)


@contextmanager
def _admin(database_url: str, stall: float) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The server's process, and its URL."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("KARTA_")}
    settings = {
        "KARTA_DATABASE_URL": database_url,
        "KARTA_MASTER_KEYS": MASTER_KEYS_TEXT,
        "KARTA_ADMIN_BIND": "127.0.0.1:0",
        "KARTA_ADMIN_STALLED_SECONDS": str(stall),
    }
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "karta", "admin", "--json"],
        stdout=subprocess.PIPE,
        text=True,
        env={**inherited, **settings},
    ) as process:
        try:
            assert process.stdout is not None
            yield process, json.loads(process.stdout.readline())["admin_url"]
        finally:
            process.terminate()


class _Export:
    """Requests for one organization's log; `pid` is the server's."""

    def __init__(self, pid: int, url: str, person: Person, cookies: str) -> None:
        self._pid = pid
        self._url = httpx.URL(url)
        self._path = f"/organizations/{person.organization.org_id}/audit."
        self._cookies = cookies

    def take(self, form: str, rows: int) -> None:
        """All of it, as fast as it comes."""
        began, before, size, count = time.perf_counter(), resident_bytes([self._pid]), 0, 0
        with (
            _Peak(self._pid) as peak,
            httpx.stream(
                "GET", self._url.join(self._path + form), headers={"Cookie": self._cookies}, timeout=60
            ) as answer,
        ):
            assert answer.status_code == 200, answer.status_code
            if form == "jsonl":
                report = verify_lines(line.encode() + b"\n" for line in answer.iter_lines())
                assert report.problem is None, report.problem
                assert report.first_seq == 1
                count = report.rows
            else:
                # Each row is a line: details are JSON, which has no line ends.
                for chunk in answer.iter_bytes():
                    size += len(chunk)
                    count += chunk.count(b"\n")
        grown = max(0, peak.bytes - before)
        seconds = time.perf_counter() - began
        print(f"{form}: {count:,} rows in {seconds:.0f} s; at most {grown / 2**20:.1f} MB more in the server")
        assert count >= rows
        assert grown <= GROWTH_BYTES_MAX or not rows, f"{grown >> 20} MB"

    def stall(self, seconds: float) -> None:
        """Reads the beginning, and then nothing: the server neither keeps making rows nor keeps us."""
        before = resident_bytes([self._pid])
        began = time.monotonic()
        with self._begin() as connection, _Peak(self._pid) as peak:
            answered = httpx.get(self._url.join("/sign-in"), timeout=30).status_code
            _wait(lambda: not self._holds(connection), seconds + STALLED_SECONDS_MAX)
        grown = max(0, peak.bytes - before)
        print(
            f"a reader who stops: let go of after {time.monotonic() - began:.0f} s,"
            f" others meanwhile: {answered}, {grown / 2**20:.1f} MB more in the server"
        )
        assert answered == 200
        assert grown <= GROWTH_BYTES_MAX

    def leave(self) -> None:
        """Reads the beginning, and goes."""
        connection = self._begin()
        port = connection.getsockname()[1]
        assert self._holds(connection)
        connection.close()
        began = time.monotonic()
        _wait(lambda: not self._holds(port), FREED_SECONDS_MAX)
        print(f"a reader who leaves: let go of after {time.monotonic() - began:.1f} s")

    def _holds(self, connection: socket.socket | int) -> bool:
        """Whether the server has its end of a connection open: one that belongs to a descriptor."""
        port = connection if isinstance(connection, int) else connection.getsockname()[1]
        ends = f":{self._url.port:04X}", f":{port:04X}"
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[1].endswith(ends[0]) and fields[2].endswith(ends[1]):
                return fields[9] != "0"
        return False

    def _begin(self) -> socket.socket:
        connection = socket.socket()
        # A small window, so that what is on its way is little.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
        connection.settimeout(30)
        connection.connect(("127.0.0.1", self._url.port or 0))
        request = f"GET {self._path}jsonl HTTP/1.1\r\nHost: {self._url.host}:{self._url.port}\r\n"
        connection.sendall(f"{request}Cookie: {self._cookies}\r\n\r\n".encode())
        assert connection.recv(1024).startswith(b"HTTP/1.1 200")
        return connection


class _Peak:
    """The most memory a process takes while this is entered, looked at a hundred times a second."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.bytes = 0

    def _watch(self) -> None:
        while not self._done.wait(0.01):
            self.bytes = max(self.bytes, resident_bytes([self._pid]))

    def __enter__(self) -> _Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


def _wait(condition: Callable[[], bool], seconds_max: float) -> None:
    deadline = time.monotonic() + seconds_max
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds_max:.0f} s"
        threading.Event().wait(0.05)


if __name__ == "__main__":
    main()
