"""The bridge on a real server: queries, transactions, cancellation, and a database that goes away."""

from __future__ import annotations

import logging
import os
import signal
import socket
from pathlib import Path

import pytest
import trio
import trio.testing

from storage import bridge, errors
from storage.bridge import Database, open_database
from tests.support.postgres import running_server

PATIENCE_SECONDS = 20
"""For what must happen soon: generous, because it only matters when the test fails."""


async def wait_until_idle(db: Database, marker: str) -> None:
    """Returns when no session runs a statement that contains `marker`."""
    with trio.fail_after(PATIENCE_SECONDS):
        while await db.fetch_value(
            """
            SELECT count(*) FROM pg_stat_activity
             WHERE query LIKE $1 AND state = 'active' AND pid <> pg_backend_pid()
            """,
            f"%{marker}%",
        ):
            await trio.sleep(0.01)


async def test_runs_as_the_role(admin_db: Database, gateway_db: Database) -> None:
    assert await admin_db.fetch_value("SELECT current_user::text") == "karta_admin"
    assert await gateway_db.fetch_value("SELECT current_user::text") == "karta_gateway"


async def test_the_four_ways_to_ask(owner_db: Database) -> None:
    rows = await owner_db.fetch("SELECT n FROM generate_series(1, $1::integer) n", 3)
    assert [row["n"] for row in rows] == [1, 2, 3]
    row = await owner_db.fetch_row("SELECT 1 AS one, 'two' AS two")
    assert row is not None
    assert (row["one"], row["two"]) == (1, "two")
    assert await owner_db.fetch_row("SELECT 1 WHERE false") is None
    assert await owner_db.fetch_value("SELECT 7") == 7
    assert await owner_db.execute("CREATE TABLE t (n integer)") == "CREATE TABLE"


async def test_times_are_utc_whatever_the_server_thinks(owner_db: Database) -> None:
    assert str(await owner_db.fetch_value("SELECT 'epoch'::timestamptz")) == "1970-01-01 00:00:00+00:00"
    assert await owner_db.fetch_value("SELECT current_setting('TimeZone')") == "UTC"


async def test_a_transaction_is_all_or_nothing(owner_db: Database) -> None:
    await owner_db.execute("CREATE TABLE t (n integer)")
    async with owner_db.transaction() as tx:
        await tx.execute("INSERT INTO t VALUES (1)")
    with pytest.raises(ZeroDivisionError):
        async with owner_db.transaction() as tx:
            await tx.execute("INSERT INTO t VALUES (2)")
            raise ZeroDivisionError
    assert [row["n"] for row in await owner_db.fetch("SELECT n FROM t")] == [1]


async def test_a_swallowed_failure_is_not_taken_for_a_commit(owner_db: Database) -> None:
    with pytest.raises(errors.StorageError, match="rolled back"):
        async with owner_db.transaction() as tx:
            with pytest.raises(errors.StorageError):
                await tx.execute("SELECT * FROM nowhere")


async def test_an_ended_transaction_says_so(owner_db: Database) -> None:
    async with owner_db.transaction() as tx:
        pass
    with pytest.raises(errors.StorageError, match="has ended"):
        await tx.execute("SELECT 1")


async def test_two_tasks_in_one_transaction_are_a_bug_that_shows(owner_db: Database) -> None:
    with pytest.RaisesGroup(errors.StorageError):
        async with owner_db.transaction() as tx, trio.open_nursery() as nursery:
            nursery.start_soon(tx.execute, "SELECT pg_sleep(0.2)")
            nursery.start_soon(tx.execute, "SELECT pg_sleep(0.2)")


async def test_connections_are_bounded_and_reused(database_url: str) -> None:
    pids = []

    async def ask(db: Database) -> None:
        pids.append(await db.fetch_value("SELECT pg_backend_pid() FROM pg_sleep(0.005)"))

    async with (
        open_database(database_url, role=None, connections_max=2) as db,
        trio.open_nursery() as nursery,
    ):
        for _ in range(20):
            nursery.start_soon(ask, db)
    assert len(pids) == 20
    assert len(set(pids)) <= 2


async def test_a_full_pool_does_not_wait_for_ever(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridge, "POOL_WAIT_SECONDS_MAX", 0.05)
    async with open_database(database_url, role=None, connections_max=1) as db, db.transaction():
        with pytest.raises(errors.DatabaseBusy, match="all 1 connections"):
            await db.fetch_value("SELECT 1")


async def test_a_cancelled_query_is_stopped_on_the_server_and_frees_its_slot(
    database_url: str, owner_db: Database
) -> None:
    async with open_database(database_url, role=None, connections_max=1) as db:
        with trio.move_on_after(0.1) as scope:
            await db.execute("SELECT pg_sleep(60) /* cancelled */")
        assert scope.cancelled_caught
        await wait_until_idle(owner_db, "/* cancelled */")
        assert await db.fetch_value("SELECT 1") == 1


async def test_a_cancelled_transaction_is_rolled_back(owner_db: Database) -> None:
    await owner_db.execute("CREATE TABLE t (n integer)")
    for sql in ("SELECT pg_sleep(60)", None):
        with trio.move_on_after(0.1) as scope:
            async with owner_db.transaction() as tx:
                await tx.execute("INSERT INTO t VALUES (1)")
                if sql is None:
                    await trio.sleep_forever()
                else:
                    await tx.execute(sql)
        assert scope.cancelled_caught
    # The lock shows that the server has let go of both.
    async with owner_db.transaction() as tx:
        await tx.execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        assert await tx.fetch_value("SELECT count(*) FROM t") == 0


async def test_a_commit_that_has_begun_is_finished(owner_db: Database) -> None:
    await owner_db.execute("CREATE TABLE t (n integer)")
    with trio.CancelScope() as scope:
        async with owner_db.transaction() as tx:
            await tx.execute("INSERT INTO t VALUES (1)")
            scope.cancel()
    assert await owner_db.fetch_value("SELECT count(*) FROM t") == 1


async def test_a_lost_commit_says_that_it_does_not_know(database_url: str, owner_db: Database) -> None:
    async with open_database(database_url, role=None) as db:
        with pytest.raises(errors.CommitUnknown):
            async with db.transaction() as tx:
                pid = await tx.fetch_value("SELECT pg_backend_pid()")
                await owner_db.fetch_value("SELECT pg_terminate_backend($1, 10000)", pid)


async def test_terminated_sessions_are_replaced(database_url: str, owner_db: Database) -> None:
    async with open_database(database_url, role=None, connections_max=1) as db:
        pid = await db.fetch_value("SELECT pg_backend_pid()")
        await owner_db.fetch_value("SELECT pg_terminate_backend($1, 10000)", pid)
        with trio.fail_after(PATIENCE_SECONDS):
            while True:
                try:
                    assert await db.fetch_value("SELECT pg_backend_pid()") != pid
                    break
                except errors.DatabaseUnavailable:
                    # The loss had not reached us yet; it has now.
                    continue


async def test_a_server_that_stops_and_comes_back() -> None:
    with running_server() as server:
        async with open_database(server.url(), role=None) as db:
            assert await db.fetch_value("SELECT 1") == 1
            async with db.listen("news") as news:
                await trio.to_thread.run_sync(server.stop)
                with trio.fail_after(PATIENCE_SECONDS), pytest.raises(trio.EndOfChannel):
                    await news.receive()
            for _ in range(3):
                with pytest.raises(errors.DatabaseUnavailable):
                    await db.fetch_value("SELECT 1")
            with pytest.raises(errors.DatabaseUnavailable):
                async with db.listen("news"):
                    pass
            await trio.to_thread.run_sync(server.start)
            assert await db.fetch_value("SELECT 1") == 1
            # A crash, in the middle of a query.
            with pytest.raises(errors.DatabaseUnavailable):
                async with db.transaction() as tx:
                    server.stop(signal.SIGQUIT)
                    await tx.execute("SELECT pg_sleep(1)")
            await trio.to_thread.run_sync(server.start)
            assert await db.fetch_value("SELECT 1") == 1


async def test_a_session_that_no_longer_answers(database_url: str) -> None:
    """As behind a cut cable: the server's process is stopped, its socket stays open."""
    async with open_database(database_url, role=None, query_seconds_max=0.3) as db:
        with pytest.raises(errors.DatabaseUnavailable, match="did not answer"):
            async with db.transaction() as tx:
                pid = await tx.fetch_value("SELECT pg_backend_pid()")
                os.kill(pid, signal.SIGSTOP)
                await tx.fetch_value("SELECT 1")
        try:
            assert await db.fetch_value("SELECT pg_backend_pid()") != pid
        finally:
            os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("listening", [False, True])
async def test_a_server_that_cannot_be_reached(
    listening: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody there; and somebody who accepts and says nothing."""
    monkeypatch.setattr(bridge, "CONNECT_SECONDS_MAX", 0.2)
    with socket.socket(socket.AF_UNIX) as deaf:
        path = tmp_path / ".s.PGSQL.5432"
        if listening:
            deaf.bind(str(path))
            deaf.listen()
        async with open_database(f"postgresql://postgres@/x?host={tmp_path}", role=None) as db:
            with trio.fail_after(PATIENCE_SECONDS), pytest.raises(errors.DatabaseUnavailable):
                await db.fetch_value("SELECT 1")


async def test_a_connection_that_is_refused() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"postgresql://karta:hunter2@127.0.0.1:{unused.getsockname()[1]}/karta"
        async with open_database(url, role="karta_admin") as db:
            with pytest.raises(errors.DatabaseUnavailable) as caught:
                await db.fetch_value("SELECT 1")
            assert "hunter2" not in str(caught.value) + repr(db)
            assert caught.value.__suppress_context__


@pytest.mark.parametrize("url", ["", "nonsense", "postgresql://host:port/x", "mysql://x/y"])
async def test_a_malformed_url_names_the_setting(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHOST", "/nowhere")
    async with open_database(url, role=None) as db:
        with pytest.raises(errors.StorageError, match=r"KARTA_DATABASE_URL|cannot be reached"):
            await db.fetch_value("SELECT 1")


async def test_a_role_that_does_not_exist(database_url: str) -> None:
    async with open_database(database_url, role="karta_nobody") as db:
        with pytest.raises(errors.DatabaseUnavailable, match="karta_nobody"):
            await db.fetch_value("SELECT 1")


async def test_notifications_arrive_in_order(owner_db: Database) -> None:
    async with owner_db.listen("news") as news:
        for number in range(100):
            await owner_db.execute("SELECT pg_notify('news', $1)", str(number))
        with trio.fail_after(PATIENCE_SECONDS):
            assert [await news.receive() for _ in range(100)] == [str(number) for number in range(100)]


async def test_a_listener_learns_that_its_session_ended(owner_db: Database) -> None:
    async with owner_db.listen("news") as news:
        await owner_db.execute("SELECT pg_notify('news', 'last')")
        with trio.fail_after(PATIENCE_SECONDS):
            assert await news.receive() == "last"
        await owner_db.execute(
            """
            SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE query LIKE 'LISTEN%' AND datname = current_database()
            """
        )
        with trio.fail_after(PATIENCE_SECONDS):
            assert [payload async for payload in news] == []


async def test_a_listener_learns_that_its_session_is_dumb(
    database_url: str, owner_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridge, "LISTEN_PROBE_SECONDS", 0.02)
    async with open_database(database_url, role=None, query_seconds_max=0.3) as db, db.listen("news") as news:
        pid = await owner_db.fetch_value(
            "SELECT pid FROM pg_stat_activity"
            " WHERE query ~ '^LISTEN|^SELECT 1' AND datname = current_database() AND pid <> pg_backend_pid()"
        )
        os.kill(pid, signal.SIGSTOP)
        try:
            with trio.fail_after(PATIENCE_SECONDS), pytest.raises(trio.EndOfChannel):
                await news.receive()
        finally:
            os.kill(pid, signal.SIGCONT)


async def test_a_listener_that_is_too_slow_is_told(
    owner_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridge, "LISTEN_BUFFER_ITEMS_MAX", 3)
    async with owner_db.listen("news") as news:
        await owner_db.execute("SELECT pg_notify('news', n::text) FROM generate_series(1, 10) n")
        with trio.fail_after(PATIENCE_SECONDS):
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert [payload async for payload in news] == ["1", "2", "3"]


async def test_leaving_a_listener_frees_its_session(owner_db: Database) -> None:
    async with owner_db.listen("news"):
        pass
    with trio.fail_after(PATIENCE_SECONDS):
        while await owner_db.fetch_value("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"):
            await trio.sleep(0.01)


@pytest.mark.parametrize(
    ("sql", "kind", "sqlstate"),
    [
        ("INSERT INTO parent VALUES (1)", errors.Conflict, "23505"),
        ("INSERT INTO child VALUES (99)", errors.InvalidReference, "23503"),
        ("INSERT INTO parent VALUES (-1)", errors.CheckFailed, "23514"),
        ("INSERT INTO parent VALUES (NULL)", errors.CheckFailed, "23502"),
        ("SELECT 1/0", errors.InvalidValue, "22012"),
        ("SELECT 'sk-secret'::integer", errors.InvalidValue, "22P02"),
        ("SELECT * FROM nowhere", errors.StorageError, "42P01"),
        ("SET LOCAL statement_timeout = 20; SELECT pg_sleep(5)", errors.DatabaseBusy, "57014"),
        ("SET ROLE karta_gateway; SELECT * FROM users", errors.Denied, "42501"),
    ],
)
async def test_faults_become_ours_and_the_connection_lives_on(
    sql: str, kind: type[errors.StorageError], sqlstate: str, owner_db: Database
) -> None:
    await owner_db.execute("CREATE TABLE parent (n integer PRIMARY KEY CHECK (n > 0))")
    await owner_db.execute("CREATE TABLE child (n integer REFERENCES parent); INSERT INTO parent VALUES (1)")
    with pytest.raises(errors.StorageError) as caught:
        await owner_db.execute(sql)
    assert type(caught.value) is kind
    assert caught.value.sqlstate == sqlstate
    assert "sk-secret" not in str(caught.value)
    assert "(1)" not in str(caught.value), "PostgreSQL's detail quotes the row"
    await owner_db.execute("RESET ROLE")
    assert await owner_db.fetch_value("SELECT count(*) FROM parent") == 1


@pytest.mark.parametrize("value", ["a\0b", "\ud800", 5, 2**70])
async def test_values_that_do_not_fit(value: object, owner_db: Database) -> None:
    cast = "text" if isinstance(value, str | int) and value != 2**70 else "bigint"
    with pytest.raises(errors.InvalidValue):
        await owner_db.fetch_value(f"SELECT $1::{cast}", value)
    assert await owner_db.fetch_value("SELECT 1") == 1


async def test_exceptions_leave_a_database_as_they_are(database_url: str) -> None:
    error = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError) as caught:
        async with open_database(database_url, role=None) as db:
            await db.fetch_value("SELECT 1")
            raise error
    assert caught.value is error
    with trio.CancelScope() as scope:
        async with open_database(database_url, role=None) as db:
            scope.cancel()
            await db.fetch_value("SELECT 1")
    assert scope.cancelled_caught


async def test_leaving_a_database_closes_its_sessions(database_url: str, owner_db: Database) -> None:
    count = (
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'karta karta_admin'"
        " AND datname = current_database()"
    )
    async with open_database(database_url, role="karta_admin") as db:
        await db.fetch_value("SELECT 1")
        assert await owner_db.fetch_value(count) >= 1
    with trio.fail_after(PATIENCE_SECONDS):
        while await owner_db.fetch_value(count):
            await trio.sleep(0.01)


async def test_what_asyncpg_mutters_is_logged_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        bridge._on_stray_exception(None, {"message": "m", "exception": ValueError("sk-secret")})  # type: ignore[arg-type]
    assert "ValueError" in caplog.text
    assert "sk-secret" not in caplog.text
