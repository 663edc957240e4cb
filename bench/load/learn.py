"""Learn what a right answer is by asking a trusted source, so that every other answer can be compared with
it.

The simulated provider answers equal questions with equal bodies, so the checksum of one answer is the
checksum of all; a source that does not repeat itself is found out by asking twice, and then only its events
are counted.
"""

from urllib.parse import urlsplit

import msgspec
import trio

from bench.load.answer import AnswerReader, HttpParserError
from bench.load.plan import Expectation, Question
from bench.load.request_bytes import request_bytes

answer_seconds_max = 60.0


class LearnFailed(Exception):
    """The trusted source gave no right answer; the message says what it did."""


async def _ask(base_url: str, question: Question, key: str) -> Expectation:
    parts = urlsplit(base_url)
    reader = AnswerReader(Expectation(), question.dialect, stream=question.stream)
    data = b""
    try:
        with trio.fail_after(answer_seconds_max):
            stream = await trio.open_tcp_stream(parts.hostname or "", parts.port or 80)
            async with stream:
                await stream.send_all(request_bytes(base_url, question, key))
                while not reader.complete:
                    data = await stream.receive_some(65_536)
                    if not data:
                        raise LearnFailed(f"{base_url} closed the connection in mid-answer")
                    reader.feed(data)
    except (OSError, trio.TooSlowError, HttpParserError) as error:
        raise LearnFailed(f"{base_url} gave no answer: {type(error).__name__} {error}") from error
    failure = reader.failure()
    if failure is not None:
        raise LearnFailed(
            f"{base_url} gave a wrong answer ({failure}, status {reader.status}): {data[-300:]!r}"
        )
    return reader.as_expectation()


async def learn_expectation(
    base_url: str, question: Question, key: str, *, span_seconds_min: float = 0.0
) -> Expectation:
    """Ask twice and return what every answer to `question` has in common; raises LearnFailed."""
    first = await _ask(base_url, question, key)
    second = await _ask(base_url, question, key)
    return msgspec.structs.replace(
        first,
        events=first.events if first.events == second.events else None,
        body_bytes=first.body_bytes if first.body_bytes == second.body_bytes else None,
        body_crc32=first.body_crc32 if first.body_crc32 == second.body_crc32 else None,
        span_seconds_min=span_seconds_min,
    )
