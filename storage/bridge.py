"""The one place that knows asyncpg, asyncio and trio-asyncio: PostgreSQL as a trio citizen.

Strategy. A trio-asyncio loop runs in a task of its own, shielded, so that it outlives everything that uses
it. All control flow is trio's: who may have a connection (a capacity limiter), how long anything may take
(deadlines), and what happens on cancellation. asyncpg only ever runs one coroutine at a time for us. Its own
pool is not used: it resets a connection by an extra round trip, it retries nothing that we need, and its
waits are not bounded by ours.

Cancellation. A query that was interrupted leaves its connection in an unknown state, so the connection is
*retired*: the caller goes on at once, while a background task tells the server to stop, closes the socket,
and only then frees the slot. A COMMIT is shielded and bounded, so that a cancelled caller still leaves a
decided transaction behind.

Bounds. Connections: `connections_max` (and one for each `listen`). Waits: those of `storage.deadlines`; so
every call ends within about `POOL_WAIT_SECONDS_MAX + CONNECT_SECONDS_MAX + query_seconds_max`, whatever the
network does.

Errors. Foreign exceptions are translated here, by SQLSTATE class, to those of `storage.errors`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import asyncpg
import trio
import trio_asyncio
from trio_asyncio import TrioExecutor

from storage import errors
from storage.deadlines import (
    CONNECT_SECONDS_MAX,
    LISTEN_PROBE_SECONDS,
    POOL_WAIT_SECONDS_MAX,
    QUERY_SECONDS_MAX,
    RETIRE_SECONDS_MAX,
)
from storage.loop_turns import take_turns_together
from storage.queries import Queries
from storage.session_settings import session_settings
from storage.sqlstate import sqlstate_error

LISTEN_BUFFER_ITEMS_MAX = 4096
"""Notifications not yet taken by the reader. On overflow the channel ends: the reader must reload everything
anyway."""

# Without a trailer: its bytes would complete a row that was cut off.
_COPY_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
_VALUE_ERRORS = (asyncpg.exceptions.DataError, ValueError, TypeError, OverflowError)
_DRIVER_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
_FOREIGN = (*_DRIVER_ERRORS, OSError, *_VALUE_ERRORS)
_log = logging.getLogger("karta.storage")


class _AbandoningExecutor(TrioExecutor):  # type: ignore[misc]
    """Runs asyncio's thread work (name look-ups) so that a deadline can walk away from a resolver that
    hangs."""

    async def submit(self, func: Callable[..., Any], *args: Any) -> Any:
        return await trio.to_thread.run_sync(func, *args, abandon_on_cancel=True)


class _Lease:
    """A connection in somebody's hands. `spoilt` means its state is unknown and nobody may use it again."""

    __slots__ = ("connection", "spoilt")

    def __init__(self, connection: _Connection) -> None:
        self.connection = connection
        self.spoilt = False


class Transaction(Queries):
    """Statements on one connection, all or nothing. Usable by one task at a time, inside its `async with`."""

    def __init__(self, database: Database, lease: _Lease) -> None:
        self._database = database
        self._lease: _Lease | None = lease

    async def _query(self, method: str, sql: str, args: tuple[Any, ...]) -> Any:
        lease = self._require_lease()
        return await self._database._ask(lease, getattr(lease.connection, method), sql, *args)

    async def copy_binary(self, table: str, columns: Sequence[str], tuples: bytes) -> int:
        """Sends rows in COPY's binary form, without its header and trailer; returns how many were written."""
        lease = self._require_lease()

        def copy() -> Coroutine[Any, Any, Any]:
            # No file: asyncpg reads one by a thread, and by a class made for it alone, in whose cycle of
            # references the data would stay until the collector of a busy process comes by. Buffers it takes,
            # too, though its types do not say so.
            source: Any = memoryview(_COPY_HEADER + tuples)
            return lease.connection.copy_to_table(table, source=source, columns=columns, format="binary")

        tag: str = await self._database._ask(lease, copy)
        return int(tag.rsplit(" ", 1)[-1])

    def _require_lease(self) -> _Lease:
        if self._lease is None:
            raise errors.StorageError(
                "this transaction has ended: use it inside its `async with db.transaction()`"
            )
        return self._lease

    def _end(self) -> None:
        self._lease = None


class Database(Queries):
    """A bounded set of connections, opened when first needed. Made by `open_database`; any task of the run
    may use it."""

    def __init__(
        self,
        loop: trio_asyncio.TrioEventLoop,
        nursery: trio.Nursery,
        url: str,
        role: str | None,
        connections_max: int,
        query_seconds_max: float,
    ) -> None:
        self._loop = loop
        self._nursery = nursery
        self._url = url
        self._query_seconds_max = query_seconds_max
        self._slots = trio.CapacityLimiter(connections_max)
        self._idle: list[_Connection] = []
        self._settings = session_settings(role)

    def __repr__(self) -> str:
        # The URL may hold a password.
        return f"<Database {self._settings['application_name']!r}>"

    async def _query(self, method: str, sql: str, args: tuple[Any, ...]) -> Any:
        async with self._borrow() as lease:
            return await self._ask(lease, getattr(lease.connection, method), sql, *args)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """BEGIN … COMMIT; rolls back when the body raises or is cancelled.

        Raises CommitUnknown when the connection died during COMMIT.
        """
        async with self._borrow() as lease:
            await self._ask(lease, lease.connection.execute, "BEGIN")
            transaction = Transaction(self, lease)
            try:
                yield transaction
            except BaseException:
                await self._roll_back(lease)
                raise
            finally:
                transaction._end()
            await self._commit(lease)

    @asynccontextmanager
    async def listen(self, channel: str) -> AsyncIterator[trio.MemoryReceiveChannel[str]]:
        """Payloads NOTIFYed on `channel`, from the moment this is entered, over a connection of its own.

        The channel *ends* (its `async for` stops; `receive` raises trio.EndOfChannel) when the connection is
        lost or the reader is too far behind: notifications may then have been missed, so reload what they
        would have told, and listen again. Raises DatabaseUnavailable when the connection cannot be made.
        """
        send, receive = trio.open_memory_channel[str](LISTEN_BUFFER_ITEMS_MAX)

        def on_notice(_connection: object, _pid: int, _channel: str, payload: object) -> None:
            try:
                send.send_nowait(str(payload))
            except trio.WouldBlock:
                send.close()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass  # The reader has left or the channel has ended: nobody is waiting for this.

        lease = _Lease(await self._connect())
        probing = trio.CancelScope()
        try:
            lease.connection.add_termination_listener(lambda _connection: send.close())
            await self._ask(lease, lease.connection.add_listener, channel, on_notice)
            self._nursery.start_soon(self._probe, lease, send, probing)
            yield receive
        finally:
            probing.cancel()
            send.close()
            receive.close()
            self._nursery.start_soon(self._retire, lease.connection, None)

    async def _ask(self, lease: _Lease, method: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> Any:
        """Runs one asyncpg coroutine on a lease, bounded, with its exceptions translated."""
        try:
            with trio.fail_after(self._query_seconds_max):
                return await self._loop.run_aio_coroutine(method(*args))
        except trio.TooSlowError:
            lease.spoilt = True
            raise errors.DatabaseUnavailable(
                f"the database did not answer within {self._query_seconds_max:g} s"
            ) from None
        except _FOREIGN as exc:
            # After these the session is well; a COPY that broke off in our own encoder is not among them.
            lease.spoilt |= not isinstance(exc, asyncpg.PostgresError | asyncpg.exceptions.DataError)
            raise _translate(exc, connected=not lease.connection.is_closed()) from None
        except asyncio.CancelledError:
            # Not trio's cancellation (that is trio.Cancelled): asyncpg gave up a waiter because its socket
            # went away.
            lease.spoilt = True
            raise errors.DatabaseUnavailable("the connection to the database was lost") from None
        except BaseException:
            lease.spoilt = True
            raise

    @asynccontextmanager
    async def _borrow(self) -> AsyncIterator[_Lease]:
        slot = object()
        await self._take_slot(slot)
        lease: _Lease | None = None
        try:
            lease = _Lease(self._take_idle() or await self._connect())
            yield lease
        finally:
            self._give_back(slot, lease)

    async def _take_slot(self, slot: object) -> None:
        if self._slots.available_tokens:  # then without a checkpoint, of which a page has many
            return self._slots.acquire_on_behalf_of_nowait(slot)
        with trio.move_on_after(POOL_WAIT_SECONDS_MAX):
            return await self._slots.acquire_on_behalf_of(slot)
        total = self._slots.total_tokens
        raise errors.DatabaseBusy(f"all {total:g} connections were busy for {POOL_WAIT_SECONDS_MAX} s")

    def _take_idle(self) -> _Connection | None:
        while self._idle:
            # Last in, first out: what is not needed stays idle, and the one used is the one known to be well.
            connection = self._idle.pop()
            if not connection.is_closed():
                return connection
        return None

    def _give_back(self, slot: object, lease: _Lease | None) -> None:
        if lease is None:
            self._slots.release_on_behalf_of(slot)
        elif lease.spoilt or lease.connection.is_closed() or lease.connection.is_in_transaction():
            self._nursery.start_soon(self._retire, lease.connection, slot)
        else:
            self._idle.append(lease.connection)
            self._slots.release_on_behalf_of(slot)

    async def _connect(self) -> _Connection:
        try:
            with trio.fail_after(CONNECT_SECONDS_MAX):
                connection: _Connection = await self._loop.run_aio_coroutine(
                    asyncpg.connect(self._url, loop=self._loop, server_settings=self._settings)
                )
                return connection
        except trio.TooSlowError:
            raise errors.DatabaseUnavailable(
                f"no connection to the database within {CONNECT_SECONDS_MAX} s: is KARTA_DATABASE_URL right?"
            ) from None
        except _FOREIGN as exc:
            raise _translate(exc, connected=False) from None
        except asyncio.CancelledError as exc:
            raise errors.DatabaseUnavailable(
                f"the connection to the database failed ({type(exc).__name__}): is KARTA_DATABASE_URL right?"
            ) from None

    async def _retire(self, connection: _Connection, slot: object | None) -> None:
        with trio.CancelScope(shield=True):
            try:
                with trio.move_on_after(RETIRE_SECONDS_MAX):
                    # Waits for the server to have stopped the query, so that the slot stands for a session
                    # that ended.
                    await self._loop.run_aio_coroutine(connection.close())
            except (Exception, asyncio.CancelledError):  # noqa: S110 - it is being thrown away; nothing to tell
                pass
            finally:
                connection.terminate()
                if slot is not None:
                    self._slots.release_on_behalf_of(slot)

    async def _roll_back(self, lease: _Lease) -> None:
        if lease.spoilt:
            return
        with trio.CancelScope(shield=True, deadline=trio.current_time() + RETIRE_SECONDS_MAX):
            try:
                await self._ask(lease, lease.connection.execute, "ROLLBACK")
            except errors.StorageError:
                lease.spoilt = True

    async def _commit(self, lease: _Lease) -> None:
        try:
            with trio.CancelScope(shield=True):
                tag = await self._ask(lease, lease.connection.execute, "COMMIT")
        except errors.DatabaseUnavailable as exc:
            if isinstance(exc, errors.DatabaseBusy):
                raise  # PostgreSQL itself said no: it is known not to have happened.
            raise errors.CommitUnknown(
                "the connection was lost during COMMIT: read before trying again"
            ) from exc
        if tag != "COMMIT":
            raise errors.StorageError(
                "the transaction was rolled back: one of its statements failed and that was swallowed"
            )

    async def _probe(self, lease: _Lease, send: trio.MemorySendChannel[str], scope: trio.CancelScope) -> None:
        with scope, send:
            while True:
                await trio.sleep(LISTEN_PROBE_SECONDS)
                try:
                    with trio.fail_after(LISTEN_PROBE_SECONDS):
                        await self._ask(lease, lease.connection.execute, "SELECT 1")
                except (errors.StorageError, trio.TooSlowError):
                    return

    async def _close(self) -> None:
        while self._idle:
            await self._retire(self._idle.pop(), None)


@asynccontextmanager
async def open_database(
    url: str, *, role: str | None, connections_max: int = 4, query_seconds_max: float = QUERY_SECONDS_MAX
) -> AsyncIterator[Database]:
    """A database that connects when it is first used; it need not be up yet.

    Args:
      url: `postgresql://user:password@host:port/database` or with `?host=/directory/of/the/socket`.
      role: the PostgreSQL role all statements run as (the login must be a member of it); None: as logged in.
      connections_max: sessions at once, listeners not counted.
      query_seconds_max: the client's patience for one statement.
    """
    failure: BaseException | None = None
    closing = trio.Event()
    try:
        async with trio.open_nursery() as loop_nursery:
            # Shielded, because a `start` that is cancelled waits for its task, which here waits to be told to
            # close. It takes no time: a loop is made, nothing is connected.
            with trio.CancelScope(shield=True):
                loop = await loop_nursery.start(_run_loop, closing)
            try:
                async with trio.open_nursery() as nursery:
                    database = Database(loop, nursery, url, role, connections_max, query_seconds_max)
                    try:
                        yield database
                    except trio.Cancelled:
                        raise
                    except BaseException as exc:
                        # Carried round the nurseries, which would wrap it in an ExceptionGroup.
                        failure = exc
                    finally:
                        with trio.CancelScope(shield=True):
                            await database._close()
            finally:
                closing.set()
    finally:
        if failure is not None:
            raise failure


async def _run_loop(closing: trio.Event, task_status: trio.TaskStatus[trio_asyncio.TrioEventLoop]) -> None:
    """Hosts the asyncio loop until told to close: shielded, as cleaning up after a cancellation needs it."""
    with trio.CancelScope(shield=True):
        async with trio_asyncio.open_loop() as loop:
            loop.set_exception_handler(_on_stray_exception)
            loop.set_default_executor(_AbandoningExecutor())
            take_turns_together(loop)
            task_status.started(loop)
            await closing.wait()


def _on_stray_exception(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Logs by type what nobody awaited; its text may quote a row. (trio-asyncio would end the program.)"""
    exception = context.get("exception")
    told = type(exception).__name__ if exception else context.get("message")
    _log.warning("in asyncpg's background: %s", told)


def _translate(exc: Exception, *, connected: bool) -> errors.StorageError:
    """The domain error for a foreign one. `connected` is whether the connection outlived it."""
    if not isinstance(exc, asyncpg.PostgresError):
        if isinstance(exc, _VALUE_ERRORS) and connected:
            return errors.InvalidValue("a value is of the wrong type or form for its column")
        if isinstance(exc, _VALUE_ERRORS):
            return errors.StorageError("the database URL is not valid: see KARTA_DATABASE_URL")
        if connected and isinstance(exc, asyncpg.InterfaceError):
            return errors.StorageError(f"the driver was misused: {exc}")
        return errors.DatabaseUnavailable(f"the database cannot be reached ({type(exc).__name__})")
    return sqlstate_error(
        exc.sqlstate or "",
        text=exc.args[0],
        constraint=getattr(exc, "constraint_name", None),
        connected=connected,
    )
