"""Row 19: a provider whose answers are poison.

What bytes may be is fuzzed in tests/fuzz; these are the large and endless ones, and the figures that cannot
be, against a process whose memory is looked at.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import trio

from storage.bridge import Database, open_database
from tests.faults.arena import GAP_SECONDS_MAX, scaled
from tests.faults.conftest import Table
from tests.faults.history import percentile
from tests.gateway.conftest import Tenant
from tests.support.gateway import POLL_SECONDS
from tests.support.gateway_process import GatewayProcess, gateway_process
from tests.support.raw_client import RawClient
from tests.support.requests import ANSWER, post
from tests.support.scripted_provider import Line, scripted_provider
from tests.support.streams import ANTHROPIC

GROWTH_BYTES_MAX = 32 * 1024 * 1024
PACE_SECONDS = 0.02
TOKENS_MAX = 1_000_000_000
ENDLESS_BYTES = scaled(16, 8) * 1024 * 1024
_PIECE = 64 * 1024

Poison = Callable[[Line], Awaitable[None]]


def stream(*events: bytes) -> Poison:
    async def send(line: Line) -> None:
        await line.begin_stream()
        for event in events:
            await line.send_chunk(event)
        await line.end_stream()

    return send


def usage(figures: str, *more: bytes) -> Poison:
    """A stream whose last figures are these."""
    delta = b'event: message_delta\ndata: {"type":"message_delta","usage":%s}\n\n' % figures.encode()
    return stream(ANTHROPIC[0], ANTHROPIC[1], delta, ANTHROPIC[-1], *more)


def raw(*pieces: bytes) -> Poison:
    async def send(line: Line) -> None:
        for piece in pieces:
            await line.send(piece)
        await line.stream.aclose()

    return send


def endless(first: bytes, piece: bytes) -> Poison:
    """Until it is cut, or a great deal was sent."""

    async def send(line: Line) -> None:
        await line.send(first)
        repeated = piece * max(1, _PIECE // len(piece))
        for _ in range(ENDLESS_BYTES // len(repeated)):
            await line.send(repeated)
        await line.stream.aclose()

    return send


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
DEEP = b"[" * 100_000 + b"]" * 100_000
POISONS: dict[str, Poison] = {
    "a line of 10 MB": stream(ANTHROPIC[0], *[b"data: " + b"a" * 1_000_000] * 10),
    "an endless line": endless(STREAM + b"\r\n", b"a"),
    "depth of 100,000": raw(HEAD + b"content-length: %d\r\n\r\n" % len(DEEP), DEEP),
    "an event of that depth": stream(ANTHROPIC[0], b"event: message_delta\ndata: " + DEEP + b"\n\n"),
    "integers of 5,000 digits": usage('{"output_tokens":%s}' % ("9" * 5000)),
    "usage below zero": usage('{"output_tokens":-5,"input_tokens":-1}'),
    "usage of 1e309": usage('{"output_tokens":1e309}'),
    "usage that is text": usage('{"output_tokens":"many"}'),
    "usage twice": usage('{"output_tokens":5},"usage":{"output_tokens":7}'),
    "usage after the end": usage('{"output_tokens":5}', ANTHROPIC[3]),
    "no usage": stream(ANTHROPIC[1], ANTHROPIC[-1]),
    "UTF-8 cut and wrong": stream(ANTHROPIC[0], b"data: \xe2\x82", b"\xff\xfe\n\n", ANTHROPIC[-1]),
    "gzip nobody asked for": raw(
        HEAD + b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(gzip.compress(ANSWER)),
        gzip.compress(ANSWER),
    ),
    "a chunk of no size": raw(STREAM + b"transfer-encoding: chunked\r\n\r\nzz\r\n"),
    "a chunk of 2^64": raw(STREAM + b"transfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\na"),
    "less than its length": raw(HEAD + b"content-length: 100\r\n\r\n0123456789"),
    "more than its length": raw(HEAD + b"content-length: 2\r\n\r\n{}{}{}{}"),
    "endless interim answers": endless(b"", b"HTTP/1.1 103 Early Hints\r\nlink: <x>\r\n\r\n"),
    "an endless head": endless(b"HTTP/1.1 200 OK\r\n", b"x-more: and more\r\n"),
    "an endless field": endless(b"HTTP/1.1 200 OK\r\nx-long: ", b"a"),
    "no HTTP": raw(b"SSH-2.0-OpenSSH_9.2\r\n"),
}


async def provide(line: Line) -> None:
    """What the model's name says: a healthy stream without end, or a poison."""
    while True:
        head, body = await line.read_request()
        if not head:
            return
        model = json.loads(body)["model"]
        if model in POISONS:
            await POISONS[model](line)
            return
        if model == "healthy":
            await line.answer(ANSWER)
            continue
        await line.begin_stream()
        await line.send_chunk(ANTHROPIC[0])
        while True:
            await trio.sleep(PACE_SECONDS)
            await line.send_chunk(ANTHROPIC[1])


def request(tenant: Tenant, model: str) -> bytes:
    document = {"model": model, "max_tokens": 100, "messages": [], "stream": model in POISONS}
    return post(tenant.token, json.dumps(document).encode(), close=model in POISONS)


async def listen(port: int, tenant: Tenant, gaps: list[float], begun: trio.Event) -> None:
    """The stream that must not notice."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as sock:
        client = RawClient(sock)
        await client.send(request(tenant, "control"))
        last = trio.current_time()
        while await client.receive():
            now = trio.current_time()
            if begun.is_set():
                gaps.append(now - last - PACE_SECONDS)
            last = now
            begun.set()
        raise AssertionError("the control stream was cut")


async def take(gateway: GatewayProcess, tenant: Tenant, name: str) -> bytes:
    """All that a client gets of a poison."""
    async with await gateway.connect() as sock:
        client = RawClient(sock)
        await client.send(request(tenant, name))
        return await client.read_to_end()


async def test_poison_costs_its_own_answer_alone(own_tenant: Tenant, tmp_path: Path, table: Table) -> None:
    gaps: list[float] = []
    # Client and provider of all this are this process, which is busy itself: the same stream without Karta.
    own_gaps: list[float] = []
    begun = trio.Event()
    with trio.fail_after(scaled(300.0, 120.0)):
        async with (
            scripted_provider(provide) as provider,
            gateway_process(
                own_tenant.database_url, tmp_path / "spool", provider_url=provider.base_url
            ) as gateway,
            open_database(own_tenant.database_url, role=None) as db,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(listen, gateway.port, own_tenant, gaps, begun)
            await begun.wait()
            nursery.start_soon(listen, provider.port, own_tenant, own_gaps, begun)
            before = gateway.resident_bytes()
            for _ in range(scaled(3, 1)):
                for name in POISONS:
                    got = await take(gateway, own_tenant, name)
                    assert got.startswith(b"HTTP/1.1 "), name
                    assert not gateway.ended, name
            growth = gateway.resident_bytes() - before
            healthy = await healthy_answer(gateway, own_tenant)
            assert healthy == ANSWER
            await check_rows(db, scaled(3, 1))
            nursery.cancel_scope.cancel()
    assert growth < GROWTH_BYTES_MAX
    added = percentile(gaps, 0.99) - percentile(own_gaps, 0.99)
    assert added < GAP_SECONDS_MAX
    table.add(
        19,
        f"poison, {len(POISONS)} kinds",
        f"worker lives, 0 figures that cannot be; grew by {growth / 2**20:.0f} MiB (max 32); control "
        f"stream p99 {added * 1000:+.0f} ms",
    )


async def healthy_answer(gateway: GatewayProcess, tenant: Tenant) -> bytes:
    async with await gateway.connect() as sock:
        client = RawClient(sock)
        await client.send(request(tenant, "healthy"))
        return (await client.read_answer()).body


async def check_rows(db: Database, times: int) -> None:
    """One for each, with figures that can be."""
    rows = []
    with trio.fail_after(30):
        while len(rows) < times * len(POISONS):
            rows = await db.fetch("SELECT * FROM usage WHERE model_asked = ANY($1)", list(POISONS))
            await trio.sleep(POLL_SECONDS)
    assert len(rows) == times * len(POISONS)
    for row in rows:
        for name in ("input_tokens", "output_tokens", "cost_picodollars"):
            assert 0 <= (row[name] or 0) <= TOKENS_MAX * 1_000_000, (row["model_asked"], name, row[name])
        assert not (row["usage_complete"] and row["model_asked"] in ("usage below zero", "usage of 1e309"))
