"""Many clients at once over a provider that misbehaves in every way at any time: each gets its own answer, or
an error, and never a byte of another's.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

import trio
from hypothesis import strategies as st

from tests.fuzz.arena import Arena, echo_answer, running_arena
from tests.fuzz.examples import for_examples
from tests.fuzz.http import read_answers
from tests.sdk.servers import Tenant
from tests.support.scripted_provider import Line

CLIENTS = 6
REQUESTS_EACH = 3
GIVE_UP_SECONDS = 0.2
POISON = b'HTTP/1.1 200 OK\r\ncontent-length: 16\r\n\r\n{"tag":"poison"}'

# What becomes of one answer. (Poison that arrives by itself on an idle connection is in test_answers: when it
# crosses a request on the wire, nobody can tell it from that request's answer.)
BEHAVIOURS = [
    "honest", "honest", "honest", "poison behind", "poison later", "extra bytes", "short", "cut and close",
    "reset", "close", "connection: close", "twice", "interim poison",
]  # fmt: skip


class Misbehaving:
    """Takes the next behaviour for each request that arrives, on whichever connection."""

    def __init__(self, arena: Arena, behaviours: list[str]) -> None:
        self._arena = arena
        self._behaviours = list(behaviours)

    async def __call__(self, line: Line, head: bytes, body: bytes) -> bool:
        behaviour = self._behaviours.pop() if self._behaviours else "honest"
        right = echo_answer(head, body, b"connection: close\r\n" if behaviour == "connection: close" else b"")
        await trio.lowlevel.checkpoint()
        match behaviour:
            case "poison behind":
                await line.send(right + POISON)
            case "extra bytes":
                await line.send(right + b"x")
            case "twice":
                await line.send(right + right)
            case "interim poison":
                await line.send(b"HTTP/1.1 103 Early Hints\r\nx: poison\r\n\r\n" + right)
            case "short":
                await line.send(right[:-3])
                await line.wait_closed()
            case "cut and close":
                await line.send(right[: len(right) // 2])
                return False
            case "reset":
                await line.reset()
                return False
            case "close":
                return False
            case _:
                await line.send(right)
        return behaviour not in ("connection: close", "twice", "poison behind")


async def visit(arena: Arena, name: str, seen: dict[str, int]) -> None:
    """One client with a few requests, on one connection for as long as it lives."""
    stream = await arena.gateway.connect()
    for number in range(REQUESTS_EACH):
        tag = f"{name}-{number}"
        data, ended = b"", False
        try:
            await stream.send_all(arena.honest_request(tag))
        except trio.BrokenResourceError:
            ended = True
        while not ended:
            answers, rest = read_answers(data, [b"POST"], ended=False)
            if (answers and answers[0].complete) or len(data) > 10_000:
                break
            with trio.move_on_after(GIVE_UP_SECONDS) as waiting:
                try:
                    piece = bytes(await stream.receive_some())
                except trio.BrokenResourceError:
                    piece = b""
            if waiting.cancelled_caught:
                # An answer of which the rest never comes ("short"): the client gives up.
                ended = True
                break
            data, ended = data + piece, not piece
        answers, rest = read_answers(data, [b"POST"], ended=ended)
        assert b"poison" not in data
        assert rest == b""
        for answer in answers:
            if answer.complete and answer.status == 200:
                assert json.loads(answer.body)["tag"] == tag, "an answer of another request"
                seen["own"] += 1
            elif answer.complete:
                assert answer.status == 502
                seen["refused"] += 1
        if ended or not answers or answers[0].value(b"connection") == b"close":
            await stream.aclose()
            stream = await arena.gateway.connect()
    await stream.aclose()


async def test_no_answer_reaches_another_client(fuzz_database: tuple[str, Tenant], tmp_path: Path) -> None:
    database_url, tenant = fuzz_database
    seen = {"own": 0, "refused": 0}
    lists = st.lists(st.sampled_from(BEHAVIOURS), min_size=4, max_size=CLIENTS * REQUESTS_EACH)

    async with running_arena(database_url, tenant, tmp_path / "spool") as arena:

        async def examine(behaviours: list[str]) -> None:
            arena.answering = Misbehaving(arena, behaviours)
            order = list(range(CLIENTS))
            random.Random(len(behaviours)).shuffle(order)
            async with trio.open_nursery() as nursery:
                for number in order:
                    nursery.start_soon(visit, arena, f"{arena.new_tag()}-{number}", seen)
            await arena.begin()
            await arena.honest()

        await for_examples(lists, examine, examples=40)
    assert seen["own"] > seen["refused"] > 0
