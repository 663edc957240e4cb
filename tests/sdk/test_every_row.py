"""Every operation of the tables by raw bytes: odd paths and queries, every way to write a body, HEAD,
`Expect`, on connections that are kept alive, one after the other and pipelined."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from gateway.operations import Operation
from gateway.refusal import Dialect
from tests.sdk import table
from tests.sdk.compare import Answer, Side, Sides
from tests.sdk.table import Sent
from tests.sdk.wire import RawAnswer, RawClient

PIPELINED = 8

rows = pytest.mark.parametrize(
    "operations",
    [
        pytest.param(members, id=f"{dialect}-{name}")
        for dialect in (Dialect.ANTHROPIC, Dialect.OPENAI)
        for name, members in table.rows(dialect)
    ],
)


def shown(side: Side, sent: Sent, answer: RawAnswer) -> list[Any]:
    """What is compared of an answer; its status and headers go where those of SDK calls go."""
    _, status, reason = answer.status_line.split(" ", 2)
    side.answers.append(Answer(int(status), reason, answer.headers))
    body = answer.raw.decode("latin-1")
    return [sent.name, sent.data.split(b" HTTP/")[0].decode(), answer.framing, len(answer.interim), body]


def one_after_the_other(side: Side, operations: list[Operation]) -> list[Any]:
    """All requests on one connection, or as many connections as the other side makes necessary."""
    seen: list[Any] = []
    with contextlib.ExitStack() as opened:
        client = opened.enter_context(RawClient(side.url))
        for operation in operations:
            for sent in table.requests(operation, client.host, side.key):
                if sent.pause_at:
                    client.send(sent.data[: sent.pause_at])
                    seen.append(client.read_interim())
                    client.send(sent.data[sent.pause_at :])
                else:
                    client.send(sent.data)
                answer = client.read_answer(sent.method)
                seen.append(shown(side, sent, answer))
                if answer.header("connection") == "close":
                    client = opened.enter_context(RawClient(side.url))
    return seen


def pipelined(side: Side, operations: list[Operation]) -> list[Any]:
    """The same requests, several in one write, the answers in order."""
    seen = []
    with RawClient(side.url) as client:
        everything = [
            sent
            for operation in operations
            for sent in table.requests(operation, client.host, side.key)
            if sent.name in {"plain", "chunked", "odd query"}
        ]
        for start in range(0, len(everything), PIPELINED):
            portion = everything[start : start + PIPELINED]
            client.send(b"".join(sent.data for sent in portion))
            seen += [shown(side, sent, client.read_answer(sent.method)) for sent in portion]
    return seen


@rows
def test_every_row_in_every_way(sides: Sides, operations: list[Operation]) -> None:
    seen = sides.same(lambda side: one_after_the_other(side, operations), requests=None)
    assert len(seen.entries) >= 3 * len(operations)


@rows
def test_every_row_pipelined(sides: Sides, operations: list[Operation]) -> None:
    seen = sides.same(lambda side: pipelined(side, operations), requests=None)
    assert len(seen.entries) >= 2 * len(operations)
