"""Anything may come from a client. It gets one answer for each request it made, or a refusal in its dialect,
or a closed connection; the provider gets exactly the requests that were really made; others are not disturbed.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tests.fuzz.arena import Arena, check_upstream_request, running_arena
from tests.fuzz.examples import for_examples
from tests.fuzz.http import ReadAnswer, ReadRequest, read_answers, read_requests
from tests.fuzz.mutations import REQUEST_MUTATIONS, mutated, pieces
from tests.sdk.servers import Tenant

BODY = b'{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"hello"}]}'
FORM = (
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
    + b"x" * 300
    + b"\r\n--b--\r\n"
)


def chunks(body: bytes, size: int) -> bytes:
    framed = [
        b"%x\r\n%s\r\n" % (len(body[at : at + size]), body[at : at + size])
        for at in range(0, len(body), size)
    ]
    return b"".join(framed) + b"0\r\n\r\n"


def messages(token: str) -> list[bytes]:
    """Valid requests of every shape, each with a tag."""
    key = token.encode()
    bearer = b"authorization: Bearer " + key + b"\r\n"
    common = b"host: karta\r\ncontent-type: application/json\r\nx-tag: a\r\n" + bearer
    claude = b"host: karta\r\nanthropic-version: 2023-06-01\r\nx-tag: b\r\nx-api-key: " + key + b"\r\n"
    form = b"host: karta\r\ncontent-type: multipart/form-data; boundary=b\r\nx-tag: c\r\n" + bearer
    length = b"content-length: %d\r\n\r\n"
    coded = b"transfer-encoding: chunked\r\n\r\n"
    return [
        b"POST /v1/chat/completions HTTP/1.1\r\n" + common + length % len(BODY) + BODY,
        b"POST /v1/chat/completions HTTP/1.1\r\n" + common + coded + chunks(BODY, 20),
        b"POST /v1/messages HTTP/1.1\r\n" + claude + length % len(BODY) + BODY,
        b"POST /v1/messages?beta=true HTTP/1.1\r\n" + claude + coded + chunks(BODY, 7),
        b"GET /v1/models HTTP/1.1\r\n" + common + b"\r\n",
        b"HEAD /v1/models HTTP/1.1\r\n" + common + b"\r\n",
        b"DELETE /v1/files/f%2F1 HTTP/1.1\r\n" + common + b"\r\n",
        b"POST /v1/files HTTP/1.1\r\n" + form + length % len(FORM) + FORM,
        b"POST /v1/files HTTP/1.1\r\n" + form + coded + chunks(FORM, 50),
        b"POST /v1/chat/completions HTTP/1.1\r\n"
        + common
        + b"expect: 100-continue\r\n"
        + length % len(BODY)
        + BODY,
        b"POST /v1/responses/r/cancel HTTP/1.1\r\n" + common + b"\r\n",
    ]


def attacks(token: str) -> SearchStrategy[list[bytes]]:
    """A mutated request between honest ones, all on one connection, cut anywhere."""
    honest = st.sampled_from(messages(token))
    hostile = mutated(honest, REQUEST_MUTATIONS)
    runs = st.tuples(st.just(b"") | honest, hostile, st.just(b"") | honest).map(b"".join)
    return pieces(runs)


def is_answered(data: bytes, methods: list[bytes], asked: int) -> bool:
    answers, rest = read_answers(data, methods, ended=False)
    return len(answers) >= asked and not rest


def read_client(data: bytes, methods: list[bytes], *, ended: bool) -> tuple[list[ReadAnswer], bytes]:
    """What the client got. What looked like HEAD but did not parse has no method to go by: then the refusal,
    after which the connection ends, has its body."""
    answers, rest = read_answers(data, methods, ended=ended)
    if rest and ended and answers:
        methods = [*methods[: len(answers) - 1], b"GET"]
        others, other_rest = read_answers(data, methods, ended=ended)
        if others[-1].status in (400, 414, 431) and not other_rest:
            return others, b""
    return answers, rest


def check_answers(sent: list[ReadRequest], answers: list[ReadAnswer], rest: bytes, ended: bool) -> None:
    """Every answer is the provider's to the request in its place, or a refusal, which is the last one when the
    gateway did not understand."""
    assert rest == b"", f"the client got something that is no HTTP: {rest!r}"
    # One more than h11 read: what it took for rubbish is refused.
    assert len(answers) <= len(sent) + 1
    if not ended:
        # Whatever was asked whole has been answered: nobody is left waiting on an open connection.
        assert len(answers) >= sum(one.complete for one in sent)
    for number, answer in enumerate(answers):
        if answer.value(b"x-karta-request-id") is None:
            # A probe, which needs no host either.
            assert json.loads(answer.body or b"{}").keys() <= {"alive", "ready", "reasons"}
            continue
        # h11 knows no HTTP/0.9, so of the last one even the method may be unknown.
        method = sent[number].method if number < len(sent) else b"HEAD"
        assert answer.complete or ended or method == b"HEAD"
        if answer.status == 200:
            check_echo(sent[number], answer)
            continue
        assert 400 <= answer.status < 600
        if answer.body or method != b"HEAD":
            error = answer.error
            assert error is not None
            assert error["message"]
            assert error["type"]


def check_echo(request: ReadRequest, answer: ReadAnswer) -> None:
    if request.method == b"HEAD":
        assert answer.body == b""
        return
    told = json.loads(answer.body)
    if b"x-tag" not in b"".join(request.values(b"connection")):
        # Named there, it is for one hop only and does not travel.
        assert told["tag"].encode("latin-1") == b",".join(request.values(b"x-tag"))
    assert told["body"] == hashlib.sha256(request.body).hexdigest()


def check_received(arena: Arena, sent: list[ReadRequest]) -> None:
    """What reached the provider are requests the client made, in their order, whole, and nothing else."""
    made = [(one.method, own_target(one.target), one.body, one.complete) for one in sent]
    for requests, problem, line in arena.received():
        assert problem is None, f"the provider got no HTTP: {problem}: {line.received!r}"
        for number, request in enumerate(requests):
            check_upstream_request(request, arena.token)
            if not request.complete:
                # An upload whose client left: cut, and not to be taken for a whole one.
                assert number == len(requests) - 1
                assert line.closed.is_set()
                assert any(
                    one[:2] == (request.method, request.target) and one[2].startswith(request.body)
                    for one in made
                )
                continue
            assert (request.method, request.target, request.body, True) in made


def own_target(target: bytes) -> bytes:
    """As the provider gets it."""
    for prefix in (b"/openai/v1/", b"/anthropic/v1/"):
        if target.startswith(prefix):
            return b"/v1/" + target[len(prefix) :]
    return target


async def test_mutated_requests(fuzz_database: tuple[str, Tenant], tmp_path: Path) -> None:
    database_url, tenant = fuzz_database

    async with running_arena(database_url, tenant, tmp_path / "spool") as arena:

        async def examine(attack: list[bytes]) -> None:
            await arena.begin()
            sent, _ = read_requests(b"".join(attack))
            methods = [one.method for one in sent]
            asked = sum(one.complete for one in sent)
            data, ended = await arena.talk(attack, lambda data: is_answered(data, methods, asked))
            await arena.quiet()
            answers, rest = read_client(data, methods, ended=ended)
            check_answers(sent, answers, rest, ended)
            check_received(arena, sent)
            await arena.honest()

        await for_examples(attacks(tenant.token), examine, examples=400)


@pytest.mark.parametrize("prefix", [b"", b"POST /v1/files HTTP/1.1\r\nhost: x\r\n", b"GET "])
async def test_random_bytes(fuzz_database: tuple[str, Tenant], tmp_path: Path, prefix: bytes) -> None:
    database_url, tenant = fuzz_database

    async with running_arena(database_url, tenant, tmp_path / "spool") as arena:

        async def examine(attack: list[bytes]) -> None:
            data, ended = await arena.talk(attack)
            answers, rest = read_answers(data, [], ended=ended)
            assert rest == b""
            assert all(answer.error for answer in answers)
            assert arena.provider.received == b""

        await for_examples(
            pieces(st.binary(max_size=300).map(lambda data: prefix + data)), examine, examples=100
        )
        await arena.honest()
