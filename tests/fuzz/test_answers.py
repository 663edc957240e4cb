"""Anything may come from a provider. The client gets the answer if there was one, or a refusal in its dialect,
or an answer that is visibly cut; never a made-up end, and never bytes that belong to another's answer.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import trio
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tests.fuzz.arena import PATIENCE_SECONDS, Arena, echo, echo_answer, running_arena
from tests.fuzz.examples import for_examples
from tests.fuzz.http import ReadAnswer, read_answers
from tests.fuzz.mutations import ANSWER_MUTATIONS, mutated, pieces
from tests.sdk.servers import Tenant
from tests.support.scripted_provider import Line

_INTERIM = re.compile(rb"HTTP/1\.[01] 1(?!01)\d\d[ \r]")
_REASON = re.compile(rb"\A(HTTP/1\.[01] \d\d\d) [^\r\n]*")
POISON = b'{"tag":"poison"}'
EVENTS = b'data: {"choices":[{"index":0,"delta":{"content":"one"}}]}\n\n', b"data: [DONE]\n\n"
ENDLESS_BYTES_MAX = 4 * 1024 * 1024
"""More than any bound of the gateway's on what is no body; a provider that sent that much was not stopped."""


def whole(status: bytes, fields: bytes, body: bytes) -> bytes:
    return b"HTTP/1.1 %s\r\ncontent-type: application/json\r\nrequest-id: r-1\r\n%s\r\n%s" % (
        status,
        fields,
        body,
    )


def chunked(*parts: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


BODY = b'{"usage":{"prompt_tokens":1,"completion_tokens":2},"choices":[]}'
ANSWERS = [
    whole(b"200 OK", b"content-length: %d\r\n" % len(BODY), BODY),
    whole(b"200 OK", b"transfer-encoding: chunked\r\n", chunked(BODY[:9], BODY[9:])),
    whole(b"200 OK", b"connection: close\r\n", BODY),
    whole(b"429 Too Many Requests", b"retry-after: 1\r\ncontent-length: 2\r\n", b"{}"),
    whole(b"204 No Content", b"", b""),
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    + chunked(*EVENTS),
    b"HTTP/1.1 103 Early Hints\r\nlink: <x>\r\n\r\n" + whole(b"200 OK", b"content-length: 2\r\n", b"{}"),
    # What is queued behind an answer must never be taken for the next one's.
    whole(b"200 OK", b"content-length: 2\r\n", b"{}")
    + whole(b"200 OK", b"content-length: %d\r\n" % len(POISON), POISON),
    whole(b"200 OK", b"transfer-encoding: chunked\r\n", chunked(b"{}"))
    + whole(b"200 OK", b"content-length: %d\r\n" % len(POISON), POISON),
]
attacks: SearchStrategy[tuple[list[bytes], bool]] = st.tuples(
    pieces(st.sampled_from(ANSWERS) | mutated(st.sampled_from(ANSWERS), ANSWER_MUTATIONS)), st.booleans()
)


class Attack:
    """A provider that gives one hostile answer, then honest ones, also on the same connection."""

    def __init__(self, arena: Arena, parts: list[bytes], *, closes: bool) -> None:
        self._arena = arena
        self._parts = parts
        self._closes = closes
        self.line: Line | None = None

    async def __call__(self, line: Line, head: bytes, body: bytes) -> bool:
        if self.line is not None:
            return await echo(line, head, body)
        self.line = line
        await self._arena.send(line.stream, self._parts)
        if self._closes:
            await line.stream.send_eof()
            return False
        return True


def check_answer(answers: list[ReadAnswer], rest: bytes, provided: list[ReadAnswer], ended: bool) -> None:
    """What the client got of a hostile answer, against what h11 makes of what the provider wrote."""
    assert len(answers) <= 1, "one request, one answer"
    if not answers:
        # Nothing, or a head that was cut.
        return
    (answer,) = answers
    if answer.error is not None and answer.status == 502:
        assert answer.complete
        assert answer.value(b"x-karta-request-id")
        return
    # Line ends after the last chunk are nobody's, so the connection ends with them.
    assert rest == b"" or (ended and rest.strip(b"\r\n") == b"")
    if b'"tag": "victim"' in answer.body:
        # The connection was an idle one and ended without a byte: then the request goes up once more.
        assert not provided
        return
    if answer.complete:
        assert provided, "an answer was made up"
        assert provided[0].status == answer.status
        assert provided[0].complete, "an end was made up"
        assert provided[0].body == answer.body
        return
    # Cut: what came of it is a part of what was written, and after that only Karta's word that it was cut.
    written = provided[0].body if provided else b""
    told = answer.body.rfind(b'data: {"error"')
    if told >= 0 and b"broke off" in answer.body[told:]:
        answer.body = answer.body[:told]
    assert written.startswith(answer.body)


def readable(written: bytes) -> bytes:
    """Without what h11 stumbles over and the gateway mends: interim answers end with their head, whatever they
    announce, and control characters in a reason are not passed on."""
    while _INTERIM.match(written):
        written = written.partition(b"\r\n\r\n")[2]
    return _REASON.sub(rb"\1", written)


async def test_mutated_answers(fuzz_database: tuple[str, Tenant], tmp_path: Path) -> None:
    database_url, tenant = fuzz_database

    async with running_arena(database_url, tenant, tmp_path / "spool") as arena:

        async def examine(drawn: tuple[list[bytes], bool]) -> None:
            parts, closes = drawn
            arena.answering = echo
            await arena.begin()
            attack = arena.answering = Attack(arena, parts, closes=closes)
            written = b"".join(parts)
            provided, _ = read_answers(readable(written), [b"POST"], ended=closes)
            async with await arena.gateway.connect() as victim:
                await arena.send(victim, [arena.honest_request("victim")])
                must_end = bool(provided and provided[0].complete)
                data, ended = await arena.receive(victim, lambda data: bool(data) or not must_end)
                answers, rest = read_answers(data, [b"POST"], ended=ended)
                # Inside the answer's own body it is the client's; as an answer of its own it is nobody's.
                assert POISON not in data or any(POISON in one.body for one in provided[:1])
                check_answer(answers, rest, provided, ended)
                await arena.honest()
                if answers and answers[0].complete and not ended:
                    await arena.honest(victim)
            if attack.line is not None and not closes and not must_end:
                # The client has left: an answer that was never whole must not be read on for ever.
                await arena.eventually(attack.line.closed.is_set)

        await for_examples(attacks, examine, examples=400)


async def test_bytes_that_come_while_a_connection_is_idle(
    fuzz_database: tuple[str, Tenant], tmp_path: Path
) -> None:
    """Written after the answer's end, when the gateway has put the connection away for the next tenant."""
    database_url, tenant = fuzz_database

    async with running_arena(database_url, tenant, tmp_path / "spool") as arena:

        async def examine(late: bytes) -> None:
            arena.answering = echo
            await arena.begin()
            before = len(arena.provider.lines)

            async def answer_and_more(line: Line, head: bytes, body: bytes) -> bool:
                arena.answering = echo
                await line.send(echo_answer(head, body))
                await arena.quiet()
                await line.send(late)
                return True

            arena.answering = answer_and_more
            await arena.honest()
            await arena.quiet()
            await arena.honest()
            assert len(arena.provider.lines) == before + 1, "the spoiled connection was used again"

        poison = whole(b"200 OK", b"content-length: %d\r\n" % len(POISON), POISON)
        late = (
            st.just(poison) | st.binary(min_size=1, max_size=20) | mutated(st.just(poison), ANSWER_MUTATIONS)
        )
        await for_examples(late.filter(bool), examine, examples=100)


async def check_endless(
    fuzz_database: tuple[str, Tenant], spool_dir: Path, start: bytes, again: bytes
) -> ReadAnswer | None:
    """A provider that never stops: the gateway does. The client's answer, if it got a whole one."""
    database_url, tenant = fuzz_database
    sent = 0

    async def endless(line: Line, head: bytes, body: bytes) -> bool:
        nonlocal sent
        await line.send(start)
        try:
            while sent < ENDLESS_BYTES_MAX:
                await line.send(again)
                sent += len(again)
        except trio.BrokenResourceError:
            line.closed.set()
        return False

    async with running_arena(database_url, tenant, spool_dir) as arena:
        arena.answering = endless
        async with await arena.gateway.connect() as client:
            await client.send_all(arena.honest_request("a"))
            with trio.fail_after(PATIENCE_SECONDS):
                data, ended = await arena.receive(client, lambda data: b'"error"' in data)
        answers, _ = read_answers(data, [b"POST"], ended=ended)
        assert sent < ENDLESS_BYTES_MAX
        arena.answering = echo
        await arena.honest()
        return answers[0] if answers else None


async def test_endless_interim_answers(fuzz_database: tuple[str, Tenant], tmp_path: Path) -> None:
    for status in (b"100 Continue", b"102 Processing", b"103 Early Hints"):
        one = b"HTTP/1.1 " + status + b"\r\nlink: <x>\r\n\r\n"
        answer = await check_endless(fuzz_database, tmp_path / status[:3].decode(), b"", one * 50)
        assert answer is not None
        assert answer.status == 502


async def test_endless_heads(fuzz_database: tuple[str, Tenant], tmp_path: Path) -> None:
    endless = {
        "fields": (b"HTTP/1.1 200 OK\r\n", b"x-a: b\r\n" * 100),
        "one field": (b"HTTP/1.1 200 OK\r\nx-a: ", b"b" * 4096),
        "one name": (b"HTTP/1.1 200 OK\r\n", b"b" * 4096),
        "reason": (b"HTTP/1.1 200 ", b"O" * 4096),
        "line ends": (b"", b"\r\n" * 2000),
    }
    for name, (start, again) in endless.items():
        answer = await check_endless(fuzz_database, tmp_path / name, start, again)
        assert answer is not None, name
        assert answer.status == 502, name
        assert json.loads(answer.body)["error"]["code"] == "upstream_broken"


async def test_endless_framing(fuzz_database: tuple[str, Tenant], tmp_path: Path) -> None:
    head = whole(b"200 OK", b"transfer-encoding: chunked\r\n", b"2\r\n{}\r\n")
    endless = {
        "extension": (head + b"5;", b"e" * 4096),
        "size": (head, b"0" * 4096),
        "trailers": (head + b"0\r\n", b"x: y\r\n" * 500),
    }
    for name, (start, again) in endless.items():
        answer = await check_endless(fuzz_database, tmp_path / name, start, again)
        assert answer is None or not answer.complete or answer.status == 502, name
