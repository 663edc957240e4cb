"""A socket from both ends: frames as they came, pressure handed on, every response counted, and every way it
may end."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import trio
import trio.lowlevel

from gateway.websocket.relay import Relay
from gateway.wire import PlainTransport
from storage.api_keys import revoke_key
from storage.bridge import Database, open_database
from storage.model import LimitKind, Period
from tests.gateway.conftest import ACTOR, Stage, Tenant
from tests.gateway.limiting import limit_tenant
from tests.gateway.websocket.sides import (
    COMPLETED,
    CREATED,
    DELTA,
    DONE,
    REALTIME,
    RESPONSES,
    Closed,
    Side,
    accept,
    connected,
)
from tests.support.gateway import PATIENCE_SECONDS, poll
from tests.support.scripted_provider import Line

ASK = {"type": "response.create", "model": "gpt-test", "input": "hello"}
Handler = Callable[[Line], Awaitable[None]]


@pytest.fixture
async def admin(own_tenant: Tenant) -> AsyncIterator[Database]:
    async with open_database(own_tenant.database_url, role="karta_admin") as db:
        yield db


def provider(play: Callable[[Side, Line], Awaitable[None]]) -> Handler:
    """A provider that agrees to the socket and then plays its part, until the gateway closes."""

    async def handler(line: Line) -> None:
        with contextlib.suppress(Closed, EOFError):
            await play(await accept(line), line)
        await line.wait_closed()

    return handler


async def answering(side: Side, line: Line) -> None:
    """Answers each `response.create`."""
    while True:
        if (await side.next())["type"] == "response.create":
            await side.send(CREATED, DELTA, DELTA, DONE)


async def silent(side: Side, line: Line) -> None:
    """Says nothing."""


async def test_a_conversation_passes_and_each_response_is_a_row(stage: Stage, tenant: Tenant) -> None:
    async with stage(provider(answering)) as (gateway, provider_):
        async with connected(gateway, tenant.token) as client:
            for _ in range(2):
                await client.send({"type": "session.update", "session": {}}, {"type": "response.create"})
                assert await client.until("response.done") == [CREATED, DELTA, DELTA, DONE]
            await gateway.settled(2)
        rows = await gateway.settled(2)
    for row in rows:
        assert (row["outcome"], row["status"], row["usage_complete"]) == ("completed", 200, True)
        assert (row["model_asked"], row["provider_request_id"]) == ("gpt-realtime", "resp_1")
        assert (row["input_tokens"], row["cache_read_tokens"], row["output_tokens"]) == (20, 10, 5)
        assert row["streamed"]
    received = provider_.lines[0].received
    assert tenant.token.encode() not in received
    assert b"authorization: Bearer sk-platform-secret" in received


async def test_frames_are_the_bytes_that_came(stage: Stage, tenant: Tenant) -> None:
    """Also where a message comes in pieces, with a ping among them."""
    odd = b"\x01\x03abc" + b"\x89\x01p" + b"\x00\x00" + b"\x80\x7e\x00\x02de" + b"\x82\x02\x00\xff"

    async def play(side: Side, line: Line) -> None:
        for at in range(len(odd)):
            await line.send(odd[at : at + 1])
            await trio.lowlevel.checkpoint()

    async with stage(provider(play)) as (gateway, provider_), connected(gateway, tenant.token) as client:
        while len(client.raw) < len(odd):
            client.raw += await client.client.receive()
        assert client.raw == odd
        whole = b"\x81\x8cMASK" + bytes(byte ^ b"MASK"[at % 4] for at, byte in enumerate(b'{"type":"x"}'))
        await client.client.send(whole)
        await poll(lambda: provider_.lines[0].received.endswith(whole))


async def test_a_client_that_leaves_ends_the_providers_work(stage: Stage, tenant: Tenant) -> None:
    async def play(side: Side, line: Line) -> None:
        await side.next()
        await side.send(CREATED, DELTA, DELTA, DELTA)

    async with stage(provider(play)) as (gateway, provider_):
        async with connected(gateway, tenant.token) as client:
            await client.send({"type": "response.create"})
            await client.until("response.output_text.delta")
        await provider_.lines[0].closed.wait()
        row = await gateway.only_row()
    assert (row["outcome"], row["usage_complete"]) == ("client_gone", False)
    assert row["output_tokens"] >= 1


async def test_a_close_passes_both_ways(stage: Stage, tenant: Tenant) -> None:
    codes: list[int] = []

    async def play(side: Side, line: Line) -> None:
        try:
            await side.next()
        except Closed as closed:
            codes.append(closed.code)
            await side.close(closed.code)
            await line.stream.send_eof()

    async with stage(provider(play)) as (gateway, _), connected(gateway, tenant.token) as client:
        await client.close(1000)
        with pytest.raises(Closed) as found:
            await client.next()
        assert (codes, found.value.code) == ([1000], 1000)
        assert await client.client.read_to_end() == b""
        assert not client.client.was_reset
        await gateway.settled(0)


async def test_a_provider_that_breaks_off_is_told_of(stage: Stage, tenant: Tenant) -> None:
    async def play(side: Side, line: Line) -> None:
        await side.next()
        await side.send(CREATED, DELTA)
        await line.reset()

    async with stage(provider(play)) as (gateway, _):
        async with connected(gateway, tenant.token) as client:
            await client.send({"type": "response.create"})
            error = (await client.until("error"))[-1]
            assert (error["status"], error["error"]["code"]) == (502, "upstream_broken")
            with pytest.raises(Closed) as found:
                await client.next()
            assert found.value.code == 1011
        row = await gateway.only_row()
    assert (row["outcome"], row["usage_complete"]) == ("upstream_failed", False)


async def test_a_provider_that_breaks_off_within_a_frame_looks_broken(stage: Stage, tenant: Tenant) -> None:
    async def play(side: Side, line: Line) -> None:
        await line.send(b"\x81\x7e\x01\x00half")
        await line.reset()

    async with stage(provider(play)) as (gateway, _), connected(gateway, tenant.token) as client:
        assert (await client.client.read_to_end()).endswith(b"half")
        assert client.client.was_reset


@pytest.mark.parametrize(
    "said", [b"\xc1\x00", b"\x81\x80mask", b"\x83\x00", b"\x09\x00", b"\x89\x7e\x00\x7e", b"\x80\x00"]
)
async def test_a_provider_that_sends_no_frames_is_cut_off(said: bytes, stage: Stage, tenant: Tenant) -> None:
    async def play(side: Side, line: Line) -> None:
        await line.send(said)

    async with stage(provider(play)) as (gateway, _), connected(gateway, tenant.token) as client:
        assert (await client.client.read_to_end())[:2] != said[:2]


async def test_a_client_that_sends_no_frames_is_told_so(stage: Stage, tenant: Tenant) -> None:
    async with stage(provider(silent)) as (gateway, provider_), connected(gateway, tenant.token) as client:
        await client.client.send(b"\x81\x02{}")
        with pytest.raises(Closed) as found:
            await client.next()
        assert found.value.code == 1002
        await provider_.lines[0].closed.wait()


async def test_a_message_has_a_bound(stage: Stage, tenant: Tenant) -> None:
    stand = stage(provider(silent), body_bytes_max=1024)
    async with stand as (gateway, provider_), connected(gateway, tenant.token) as client:
        await client.client.send(b"\x81\xfe\x04\x01mask")
        with pytest.raises(Closed) as found:
            await client.next()
        assert found.value.code == 1009
        await provider_.lines[0].closed.wait()


async def test_pings_within_a_message_do_not_wait_for_its_end(stage: Stage, tenant: Tenant) -> None:
    begun, ping = b"\x01\x88mask" + bytes(8), b"\x89\x84mask" + bytes(4)
    async with stage(provider(silent)) as (gateway, provider_), connected(gateway, tenant.token) as client:
        before = len(provider_.lines[0].received)
        for at in range(len(begun)):
            await client.client.send(begun[at : at + 1])
        await client.client.send(ping + ping[:3])
        await poll(lambda: provider_.lines[0].received[before:] == ping)
        await client.client.send(ping[3:])
        await poll(lambda: provider_.lines[0].received[before:] == ping + ping)


async def test_a_message_of_endless_empty_pieces_is_cut_off(stage: Stage, tenant: Tenant) -> None:
    """Each adds nothing to its size, and six bytes to what is held."""
    stand = stage(provider(silent), body_bytes_max=1024)
    async with stand as (gateway, provider_), connected(gateway, tenant.token) as client:
        await client.client.send(b"\x01\x80mask" + b"\x00\x80mask" * 400)
        with pytest.raises(Closed) as found:
            await client.next()
        assert found.value.code == 1009
        await provider_.lines[0].closed.wait()


async def test_a_large_message_of_a_client_goes_up_whole(stage: Stage, tenant: Tenant) -> None:
    received: list[object] = []

    async def play(side: Side, line: Line) -> None:
        received.append(await side.next())

    message = {"type": "conversation.item.create", "text": "x" * 3_000_000}
    async with stage(provider(play)) as (gateway, _), connected(gateway, tenant.token) as client:
        await client.send(message)
        await poll(lambda: received == [message])


async def test_a_client_that_stops_reading_stops_the_provider(stage: Stage, tenant: Tenant) -> None:
    sent = 0

    async def play(side: Side, line: Line) -> None:
        nonlocal sent
        while True:
            await line.send(b"\x82\x7f" + (60_000).to_bytes(8, "big") + bytes(60_000))
            sent += 60_000

    stand = stage(provider(play), limits={"write_stall_seconds": 0.5})
    async with stand as (gateway, provider_), connected(gateway, tenant.token, receive_buffer=4096):
        with trio.fail_after(PATIENCE_SECONDS):
            await provider_.lines[0].closed.wait()
        # Kernel buffers of both connections, and no more.
        assert sent < 4_000_000


# What may be asked.


async def test_a_spent_limit_refuses_the_response_and_keeps_the_socket(
    stage: Stage, own_tenant: Tenant, admin: Database
) -> None:
    async def play(side: Side, line: Line) -> None:
        while True:
            asked.append(await side.next())
            await side.send({**CREATED}, COMPLETED)

    asked: list[object] = []
    await limit_tenant(admin, own_tenant, LimitKind.REQUESTS, 1)
    stand = stage(provider(play), of=own_tenant)
    async with stand as (gateway, _), connected(gateway, own_tenant.token, RESPONSES) as client:
        await client.send(ASK)
        await client.until("response.completed")
        await client.send(ASK)
        error = await client.next()
        assert (error["type"], error["status"]) == ("error", 429)
        assert error["error"]["code"] == "rate_limit_exceeded"
        assert asked == [ASK]
        row = await gateway.only_row()
        assert (row["model_asked"], row["model_answered"]) == ("gpt-test", "gpt-test-1")
        assert (row["input_tokens"], row["output_tokens"]) == (8, 2)


async def test_an_open_socket_too_waits_while_nothing_can_be_recorded(
    stage: Stage, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def play(side: Side, line: Line) -> None:
        while True:
            asked.append(await side.next())
            await side.send({**CREATED}, COMPLETED)

    asked: list[object] = []
    stand = stage(provider(play))
    async with stand as (gateway, _), connected(gateway, tenant.token, RESPONSES) as client:
        with monkeypatch.context() as patch:
            patch.setattr("gateway.spool.SPOOL_BYTES_MAX", 0)
            await client.send(ASK)
            error = await client.next()
        assert (error["type"], error["status"]) == ("error", 503)
        await client.send(ASK)
        await client.until("response.completed")
        assert asked == [ASK]


async def test_a_response_that_nobody_asked_for_counts_against_limits_too(
    stage: Stage, own_tenant: Tenant, admin: Database
) -> None:
    """A realtime provider begins one by itself when it hears somebody stop speaking."""

    async def play(side: Side, line: Line) -> None:
        await side.next()
        await side.send(CREATED, DONE)
        await side.next()
        await side.send(CREATED, DELTA)

    await limit_tenant(admin, own_tenant, LimitKind.REQUESTS, 1)
    stand = stage(provider(play), of=own_tenant)
    async with stand as (gateway, provider_), connected(gateway, own_tenant.token) as client:
        await client.send({"type": "input_audio_buffer.commit"})
        await client.until("response.done")
        await client.send({"type": "input_audio_buffer.commit"})
        error = (await client.until("error"))[-1]
        assert error["status"] == 429
        with pytest.raises(Closed) as found:
            await client.next()
        assert found.value.code == 1008
        await provider_.lines[0].closed.wait()
        await gateway.only_row()


async def test_a_client_keeps_its_place_in_the_stream_when_what_is_begun_is_refused(
    stage: Stage, own_tenant: Tenant, admin: Database
) -> None:
    """The half of the message that has gone already is not followed by an error in the place of the rest."""

    async def play(side: Side, line: Line) -> None:
        await side.next()
        await side.send(CREATED, DONE)
        await side.next()
        again = json.dumps(CREATED).encode()
        await line.send(b"\x81" + bytes((len(again),)) + again[:10])
        await half_read.wait()
        await line.send(again[10:])

    half_read = trio.Event()
    await limit_tenant(admin, own_tenant, LimitKind.REQUESTS, 1)
    stand = stage(provider(play), of=own_tenant)
    async with stand as (gateway, _), connected(gateway, own_tenant.token) as client:
        await client.send({"type": "input_audio_buffer.commit"})
        await client.until("response.done")
        await client.send({"type": "input_audio_buffer.commit"})
        client.take(await client.client.receive())
        half_read.set()
        told = await client.until("error")
        assert told[:-1] == [CREATED]
        assert told[-1]["status"] == 429
        with pytest.raises(Closed) as found:
            await client.next()
        assert found.value.code == 1008


async def test_an_error_waits_for_the_end_of_a_message_that_is_being_written(
    stage: Stage, tenant: Tenant
) -> None:
    """Not only for that of one that has been read: somebody else writes at this moment."""

    async def play(side: Side, line: Line) -> None:
        await line.send(message[:10])
        await half_read.wait()
        await line.send(message[10:])

    message = b"\x81" + bytes((len(json.dumps(DELTA)),)) + json.dumps(DELTA).encode()
    half_read = trio.Event()
    async with stage(provider(play)) as (gateway, _), connected(gateway, tenant.token) as client:
        client.take(await client.client.receive())
        (connection,) = gateway.worker.acceptor.connections
        relay = connection.exchange
        assert isinstance(relay, Relay)
        async with relay._down_lock:
            await client.send(b"nonsense")
            await poll(lambda: bool(relay._unsent))
            half_read.set()
            await poll(lambda: relay._down_reader.between_messages)
        assert await client.next() == DELTA
        assert (await client.next())["type"] == "error"


async def test_a_burst_of_frames_keeps_nobody_waiting(
    stage: Stage, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read holds ten thousand pings, each of which is written by itself."""
    at_once, most = 0, 0
    send_now = PlainTransport.send_now

    def counted(self: PlainTransport, data: bytes | bytearray) -> int:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        return send_now(self, data)

    class Steps(trio.abc.Instrument):
        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            nonlocal at_once
            at_once = 0

    ping = b"\x89\x80mask"
    async with stage(provider(silent)) as (gateway, provider_), connected(gateway, tenant.token) as client:
        before = len(provider_.lines[0].received)
        monkeypatch.setattr(PlainTransport, "send_now", counted)
        trio.lowlevel.add_instrument(Steps())
        await client.client.send(ping * 2000)
        await poll(lambda: provider_.lines[0].received[before:] == ping * 2000)
    assert 0 < most <= 32


async def test_requests_at_once_are_responses_at_once(
    stage: Stage, own_tenant: Tenant, admin: Database
) -> None:
    async def play(side: Side, line: Line) -> None:
        await side.next()
        await side.send(CREATED)
        await finish.wait()
        await side.send(COMPLETED)

    finish = trio.Event()
    await limit_tenant(admin, own_tenant, LimitKind.CONCURRENT, 1, Period.NONE)
    stand = stage(provider(play), of=own_tenant)
    async with stand as (gateway, _), connected(gateway, own_tenant.token, RESPONSES) as client:
        await client.send(ASK, ASK)
        told = [await client.next(), await client.next()]
        assert {one["type"] for one in told} == {"response.created", "error"}
        finish.set()
        await client.until("response.completed")
        await gateway.only_row()
        assert gateway.worker.refill.ledger.reserved().get(LimitKind.CONCURRENT, 0) == 0


@pytest.mark.parametrize(
    "message", [b"nonsense", b"[1]", b'"text"', b'{"type":"a","type":"response.create"}']
)
async def test_what_is_no_event_does_not_go_up(message: bytes, stage: Stage, tenant: Tenant) -> None:
    async with stage(provider(silent)) as (gateway, provider_), connected(gateway, tenant.token) as client:
        before = len(provider_.lines[0].received)
        await client.send(message)
        if message.startswith(b"{"):
            # Of two types the last counts, which is then admitted like any other.
            await poll(lambda: len(provider_.lines[0].received) > before)
        else:
            assert (await client.next())["error"]["message"] == "A message that is not a JSON object."
            assert len(provider_.lines[0].received) == before


async def test_a_key_that_may_use_some_models_asks_for_no_others(
    stage: Stage, own_tenant: Tenant, admin: Database
) -> None:
    await admin.execute(
        "UPDATE api_keys SET allowed_models = $1 WHERE key_id = $2", ["gpt-test"], own_tenant.key_id
    )
    stand = stage(provider(answering), of=own_tenant)
    async with stand as (gateway, _), connected(gateway, own_tenant.token, RESPONSES) as client:
        twice = json.dumps(ASK)[:-1].encode() + b',"model":"gpt-other"}'
        hidden = b'{"type":"response.create","type":"x","model":"gpt-other"}'
        await client.send({**ASK, "model": "gpt-other"}, twice, hidden, ASK)
        for words in ("may not use that model", "may not use that model", "type twice"):
            assert words in (await client.next())["error"]["message"]
        assert (await client.next())["type"] == "response.created"


@pytest.mark.parametrize("shared", [True, False])
async def test_a_shared_account_is_not_for_what_others_left_there(
    shared: bool, stage: Stage, tenant: Tenant
) -> None:
    stand = stage(provider(answering), platform_account_shared=shared)
    async with stand as (gateway, _), connected(gateway, tenant.token, RESPONSES) as client:
        for kept in ({"previous_response_id": "resp_1"}, {"conversation": {"id": "conv_1"}}):
            await client.send({**ASK, **kept})
            told = await client.next()
            if shared:
                assert "karta byok set" in told["error"]["message"]
            else:
                assert told["type"] == "response.created"
                await client.until("response.done")
        await client.send(ASK)
        assert (await client.next())["type"] == "response.created"


async def test_on_a_shared_account_a_socket_goes_on_from_what_it_was_told_itself(
    stage: Stage, tenant: Tenant
) -> None:
    own = {**ASK, "previous_response_id": "resp_1"}
    twice = json.dumps(own)[:-1].replace("{", '{"previous_response_id":"resp_2",', 1).encode() + b"}"
    async with stage(provider(answering), platform_account_shared=True) as (gateway, _):
        async with connected(gateway, tenant.token, RESPONSES) as client:
            await client.send(ASK)
            await client.until("response.done")
            for foreign in ({**own, "previous_response_id": "x"}, {**own, "conversation": "conv_1"}, twice):
                await client.send(foreign)
                assert "karta byok set" in (await client.next())["error"]["message"]
            await client.send(own)
            assert (await client.next())["type"] == "response.created"
        # Another socket's is anybody's.
        async with connected(gateway, tenant.token, RESPONSES) as client:
            await client.send(own)
            assert "karta byok set" in (await client.next())["error"]["message"]


# Ends that Karta brings.


async def test_a_revoked_key_is_cut_off(stage: Stage, own_tenant: Tenant, admin: Database) -> None:
    async def play(side: Side, line: Line) -> None:
        await side.next()
        await side.send(CREATED)

    stand = stage(provider(play), of=own_tenant)
    async with stand as (gateway, provider_), connected(gateway, own_tenant.token) as client:
        await client.send({"type": "response.create"})
        await client.until("response.created")
        await poll(lambda: gateway.worker.snapshot.listening)
        await revoke_key(admin, ACTOR, own_tenant.key_id)
        error = (await client.until("error"))[-1]
        assert error["status"] == 401
        with pytest.raises(Closed) as found:
            await client.next()
        assert found.value.code == 1008
        await provider_.lines[0].closed.wait()


async def test_silence_ends_a_socket(stage: Stage, tenant: Tenant) -> None:
    stand = stage(provider(silent), limits={"socket_idle_seconds": 0.1})
    async with stand as (gateway, provider_), connected(gateway, tenant.token) as client:
        with pytest.raises(Closed) as found:
            await client.next()
        assert found.value.code == 1001
        await provider_.lines[0].closed.wait()


async def test_a_provider_that_stops_within_a_response_is_too_late(stage: Stage, tenant: Tenant) -> None:
    async def play(side: Side, line: Line) -> None:
        await side.next()
        await side.send(CREATED, DELTA)

    async with stage(provider(play), between_bytes_seconds=0.2) as (gateway, _):
        async with connected(gateway, tenant.token) as client:
            await client.send({"type": "response.create"})
            assert (await client.until("error"))[-1]["status"] == 504
            with pytest.raises(Closed):
                await client.next()
        row = await gateway.only_row()
    assert (row["outcome"], row["usage_complete"]) == ("timed_out", False)


async def test_a_stop_ends_idle_sockets_and_waits_for_a_response(stage: Stage, tenant: Tenant) -> None:
    async def play(side: Side, line: Line) -> None:
        await side.next()
        await side.send(CREATED)
        await finish.wait()
        await side.send(DONE)

    finish = trio.Event()
    async with stage(provider(play)) as (gateway, _), trio.open_nursery() as nursery:
        async with connected(gateway, tenant.token) as idle, connected(gateway, tenant.token) as busy:
            await busy.send({"type": "response.create"})
            await busy.until("response.created")
            nursery.start_soon(gateway.worker.acceptor.drain)
            with pytest.raises(Closed) as found:
                await idle.next()
            assert found.value.code == 1001
            await busy.send({"type": "response.create"})
            assert (await busy.next())["status"] == 503
            finish.set()
            assert await busy.until("response.done") == [DONE]
            with pytest.raises(Closed) as found:
                await busy.next()
            assert found.value.code == 1001
        await gateway.only_row()


async def test_the_end_of_patience_ends_a_response(stage: Stage, tenant: Tenant) -> None:
    async def play(side: Side, line: Line) -> None:
        await side.next()
        await side.send(CREATED, DELTA)

    async with stage(provider(play)) as (gateway, _), connected(gateway, tenant.token, REALTIME) as client:
        await client.send({"type": "response.create"})
        await client.until("response.output_text.delta")
        gateway.worker.acceptor.cut()
        assert (await client.next())["status"] == 503
        with pytest.raises(Closed) as found:
            await client.next()
        assert found.value.code == 1001
        assert (await gateway.only_row())["outcome"] == "stopped"
