"""Learn what a right answer is by asking a trusted source, so that every other answer can be compared with
it.

The simulated provider answers equal questions with equal bodies, so the checksum of one answer is the
checksum of all; a source that does not repeat itself is found out by asking twice, and then only its events
are counted.
"""

import ssl
from collections.abc import Mapping
from urllib.parse import SplitResult, urlsplit

import msgspec
import trio

from bench.load.answer import AnswerReader, HttpParserError
from bench.load.plan import Expectation, Question
from bench.load.request_bytes import request_bytes

answer_seconds_max = 60.0


class LearnFailed(Exception):
    """The trusted source gave no right answer; the message says what it did."""


async def ask_once(
    base_url: str,
    question: Question,
    key: str,
    *,
    headers: Mapping[str, str] | None = None,
    ca_file: str | None = None,
    status: int | None = 200,
) -> Expectation:
    """Ask one question and return what the answer was; LearnFailed unless it is a right one of `status`."""
    parts = urlsplit(base_url)
    reader = AnswerReader(Expectation(status=status), question.dialect, stream=question.stream, keep=True)
    data = b""
    try:
        with trio.fail_after(answer_seconds_max):
            stream = await _connect(parts, ca_file)
            async with stream:
                await stream.send_all(request_bytes(base_url, question, key, headers))
                while not reader.complete:
                    data = bytes(await stream.receive_some(65_536))
                    if not data:
                        raise LearnFailed(f"{base_url} closed the connection in mid-answer")
                    reader.feed(data)
    except (OSError, trio.BrokenResourceError, trio.TooSlowError, HttpParserError) as error:
        raise LearnFailed(f"{base_url} gave no answer: {type(error).__name__} {error}") from error
    failure = reader.failure()
    if failure is not None:
        raise LearnFailed(
            f"{base_url} gave a wrong answer ({failure}, status {reader.status}): {data[-300:]!r}"
        )
    return reader.as_expectation()


async def _connect(parts: SplitResult, ca_file: str | None) -> trio.abc.Stream:
    host = parts.hostname or ""
    if parts.scheme != "https":
        return await trio.open_tcp_stream(host, parts.port or 80)
    context = ssl.create_default_context(cafile=ca_file)
    return await trio.open_ssl_over_tcp_stream(host, parts.port or 443, ssl_context=context)


async def learn_expectation(
    base_url: str, question: Question, key: str, *, span_seconds_min: float = 0.0, ca_file: str | None = None
) -> Expectation:
    """Ask twice and return what every answer to `question` has in common; raises LearnFailed."""
    first = await ask_once(base_url, question, key, ca_file=ca_file)
    second = await ask_once(base_url, question, key, ca_file=ca_file)
    return msgspec.structs.replace(
        first,
        events=first.events if first.events == second.events else None,
        body_bytes=first.body_bytes if first.body_bytes == second.body_bytes else None,
        body_crc32=first.body_crc32 if first.body_crc32 == second.body_crc32 else None,
        text_crc32=first.text_crc32 if first.text_crc32 == second.text_crc32 else None,
        deltas=first.deltas if first.deltas == second.deltas else None,
        span_seconds_min=span_seconds_min,
    )
