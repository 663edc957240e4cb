"""The line between a supervisor and a worker: what is said arrives, and an end is told."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing

from gateway import control
from gateway.control import (
    SAMPLES_MAX,
    Begin,
    Claim,
    Cover,
    Entry,
    Failed,
    Figures,
    Forget,
    FromWorker,
    Go,
    Known,
    Leaving,
    Line,
    LineBroken,
    Orphaned,
    Retire,
    Scrape,
    Serve,
    Serving,
    ToWorker,
    Verified,
    Wrong,
    figures,
    packets,
    pair,
)
from gateway.metric_page import Family, merge
from tests.support.gateway import PATIENCE_SECONDS

MAC, MARK = bytes(32), b"0123456789abcdef"
ENTRY = Entry(MAC, MARK, "abcdefghijkl")
MESSAGES: list[ToWorker | FromWorker] = [
    Begin(1, [7, 8], {"database_url": "postgresql://"}, bytes(32), 0.5),
    Known([ENTRY]),
    Serve(),
    Go(MAC, MARK),
    Wrong(MAC, MARK),
    Scrape(3),
    Cover([1]),
    Retire(),
    Orphaned(),
    Serving(),
    Leaving(),
    Claim(MAC, MARK),
    Verified(ENTRY),
    Failed(MAC, MARK, True),
    Forget(["abcdefghijkl"]),
    Figures(3, [Family("up", "gauge", "Up.", "sum", {"": 1.0})]),
]


@pytest.fixture
async def lines() -> AsyncIterator[tuple[Line, Line]]:
    one, other = map(Line, pair())
    yield one, other
    one.close()
    other.close()


def test_figures_come_in_as_many_messages_as_they_need() -> None:
    few = Family("up", "gauge", "Up.", "sum", {"": 1.0})
    many = Family("ends", "counter", "Ends.", "sum", {f'status="{one}"': 1.0 for one in range(500)})
    times = Family(
        "seconds", "histogram", "Times.", "sum", {}, {f'stage="{one}"': [1.0] * 27 for one in range(250)}
    )
    parts = figures(7, [few, many, few, times])
    assert [part.more for part in parts] == [True] * (len(parts) - 1) + [False]
    assert {part.number for part in parts} == {7}
    for part in parts:
        assert sum(len(one.samples) + len(one.counts) for one in part.families) <= SAMPLES_MAX
    put_together = [family for part in parts for family in part.families]
    assert merge([("0", put_together)]) == merge([("0", [few, many, few, times])])
    assert figures(0, []) == [Figures(0, [])]


async def test_what_is_said_arrives_in_order(lines: tuple[Line, Line]) -> None:
    one, other = lines
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run)
        for message in MESSAGES:
            one.send(message)
        assert [await other.receive() for _ in MESSAGES] == MESSAGES
        nursery.cancel_scope.cancel()


async def test_saying_waits_for_nobody_and_what_was_said_can_be_waited_for(lines: tuple[Line, Line]) -> None:
    one, other = lines
    many = 5000
    for number in range(many):
        one.send(Scrape(number))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run)
        nursery.start_soon(one.flush)
        assert [await other.receive() for _ in range(many)] == [Scrape(number) for number in range(many)]
        with trio.fail_after(PATIENCE_SECONDS):
            await one.flush()
        nursery.cancel_scope.cancel()


async def test_an_end_is_told(lines: tuple[Line, Line]) -> None:
    one, other = lines
    one.close()
    with pytest.raises(LineBroken):
        await other.receive()
    # To nobody.
    other.send(Serve())
    await other.run()
    await other.flush()


async def test_what_nobody_understands_ends_the_line(lines: tuple[Line, Line]) -> None:
    one, other = lines
    await one._sock.send(b"as another release might say it")
    with pytest.raises(LineBroken):
        await other.receive()
    with pytest.raises(LineBroken):
        await one.receive()


async def test_closing_ends_what_waits(lines: tuple[Line, Line]) -> None:
    one, _ = lines
    with trio.fail_after(PATIENCE_SECONDS):
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def listen() -> None:
                with pytest.raises(LineBroken):
                    await one.receive()

            nursery.start_soon(one.run)
            await trio.testing.wait_all_tasks_blocked()
            one.close()


async def test_one_that_does_not_read_is_given_up(
    lines: tuple[Line, Line], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "QUEUE_MAX", 3)
    one, other = lines
    for _ in range(4):
        one.send(Serve())
    assert one.broken
    with pytest.raises(LineBroken):
        await other.receive()


async def test_a_message_that_does_not_fit_is_not_sent_in_part(lines: tuple[Line, Line]) -> None:
    one, _ = lines
    one.send(Forget(["abcdefghijkl"] * control.BYTES_MAX))
    assert one.broken


def test_any_number_of_entries_fits() -> None:
    entries = [Entry(MAC, MARK, f"{number:012}") for number in range(2 * control.ENTRIES_MAX + 1)]
    messages = packets(entries)
    assert [entry for message in messages for entry in message.entries] == entries
    assert all(len(control._encoder.encode(message)) < control.BYTES_MAX / 1.2 for message in messages)
    assert packets([]) == []


def test_a_line_keeps_messages_apart() -> None:
    one, other = pair()
    assert one.type == socket.SOCK_SEQPACKET
    one.close()
    other.close()
