"""What a right answer is, is learnt from a source that repeats itself, and only from one that is right."""

from zlib import crc32

import pytest

from bench.load.learn import LearnFailed, learn_expectation
from bench.load.plan import Expectation, Question
from tests.bench.scripted_server import CLOSE, Asked, chunk, events, scripted_server, stream_head, unary


async def test_the_simulated_provider_repeats_itself(provider_url: str) -> None:
    for question in (
        Question(behaviour="tokens=9"),
        Question(behaviour="tokens=9", stream=True),
        Question(behaviour="tokens=9,flush=1", stream=True, dialect="openai"),
    ):
        learnt = await learn_expectation(provider_url, question, "sk-one", span_seconds_min=0.5)
        assert learnt == await learn_expectation(provider_url, question, "sk-other", span_seconds_min=0.5)
        assert learnt.body_crc32 is not None
        assert (learnt.events is not None) is question.stream
        assert learnt.span_seconds_min == 0.5


async def test_what_differs_from_answer_to_answer_is_not_expected() -> None:
    asked = 0

    def script(_: Asked) -> list[bytes]:
        nonlocal asked
        asked += 1
        return [stream_head(), chunk(b"data: %d\n\n" % asked), chunk(events(1)[0]), chunk(b"")]

    with scripted_server(script) as server:
        learnt = await learn_expectation(server.base_url, Question(stream=True), "k")
    length = len(b"data: 1\n\n" + events(1)[0])
    assert learnt == Expectation(events=2, body_bytes=length, body_crc32=None)


async def test_a_unary_answer_is_learnt_by_checksum() -> None:
    with scripted_server(lambda _: [unary(b"{}")]) as server:
        learnt = await learn_expectation(server.base_url, Question(), "k")
    assert learnt == Expectation(body_bytes=2, body_crc32=crc32(b"{}"))


@pytest.mark.parametrize(
    ("pieces", "says"),
    [
        ([unary(b"no", status="401 Unauthorized")], "status 401"),
        ([CLOSE], "closed the connection"),
        ([b"not http at all\r\n\r\n"], "gave no answer"),
    ],
)
async def test_a_wrong_source_is_refused(pieces: list[bytes | float | str], says: str) -> None:
    with scripted_server(lambda _: pieces) as server, pytest.raises(LearnFailed, match=says):
        await learn_expectation(server.base_url, Question(), "k")
