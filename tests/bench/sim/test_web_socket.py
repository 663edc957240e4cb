"""The simulated provider's WebSockets: the handshake, the frames, and the faults that work there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import trio
from wsproto.connection import ConnectionType

from tests.bench.sim.process import SimProcess, read_until, running_sim
from tests.gateway.websocket.sides import KEY, RESPONSES, Closed, Side, opening, proof


@pytest.fixture(scope="module")
def sim() -> Iterator[SimProcess]:
    with running_sim() as running:
        yield running


class Wire:
    """A raw connection as `Side` wants it."""

    def __init__(self, raw: trio.SocketStream) -> None:
        self._raw = raw

    async def send(self, data: bytes) -> None:
        await self._raw.send_all(data)

    async def receive(self) -> bytes:
        return bytes(await self._raw.receive_some())


async def connect(raw: trio.SocketStream, path: str) -> Side:
    await raw.send_all(opening("sk-test", path))
    head, _, first = (await read_until(raw, b"\r\n\r\n")).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    assert proof(KEY).encode() in head
    side = Side(Wire(raw), ConnectionType.CLIENT)
    side.take(first)
    return side


def asking(model: str) -> Any:
    return {"type": "response.create", "model": model, "input": "hello"}


async def test_a_response_has_a_ledger_entry_of_its_own(sim: SimProcess) -> None:
    async with await sim.dial() as raw:
        side = await connect(raw, RESPONSES)
        await side.send(asking("sim:tokens=3"))
        done = (await side.until("response.completed"))[-1]
        entry = await sim.latest(lambda entry: bool(entry["completed"]))
        assert (entry["model"], entry["usage"]) == ("sim:tokens=3", done["response"]["usage"])
        assert (entry["tokens_sent"], entry["credential"]) == (3, "sk-test")


async def test_a_close_is_answered(sim: SimProcess) -> None:
    async with await sim.dial() as raw:
        side = await connect(raw, "/v1/realtime?model=sim:tokens=1")
        assert (await side.next())["type"] == "session.created"
        await side.close()
        with pytest.raises(Closed):
            await side.next()
        with trio.fail_after(10), pytest.raises(EOFError):
            await side.next()


async def test_a_planned_death_ends_the_connection(sim: SimProcess) -> None:
    async with await sim.dial() as raw:
        side = await connect(raw, RESPONSES)
        await side.send(asking("sim:tokens=9,die_after=2"))
        assert (await side.next())["type"] == "response.created"
        with pytest.raises(trio.BrokenResourceError):
            await side.until("response.completed")


async def test_a_message_may_come_in_pieces(sim: SimProcess) -> None:
    async with await sim.dial() as raw:
        side = await connect(raw, RESPONSES)
        await side.send(asking("sim:tokens=2,split=3"))
        assert (await side.until("response.completed"))[-1]["response"]["usage"]["output_tokens"] == 2
        # A first piece: text, and not the last.
        assert side.raw[:2] == b"\x01\x03"


async def test_what_carries_no_key_is_refused(sim: SimProcess) -> None:
    async with await sim.dial() as raw:
        await raw.send_all(opening("kt_live_leaked", RESPONSES))
        head = await read_until(raw, b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 401 ")
        assert json.loads(head.partition(b"\r\n\r\n")[2] or await raw.receive_some())["error"]
