"""Errors: every status, in the stream and before it, with every retry header, gives the same exception; and
the SDKs' own retries do the same through Karta."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from tests.sdk.clients import CURRENT, EARLIER, claude, gpt, with_async_claude, with_async_gpt
from tests.sdk.compare import Side, Sides
from tests.sdk.plain import plain

SAID: Any = [{"role": "user", "content": "hello"}]
STATUSES = [
    300,
    400,
    401,
    402,
    403,
    404,
    405,
    408,
    409,
    410,
    412,
    413,
    415,
    418,
    422,
    425,
    428,
    429,
    431,
    451,
]
STATUSES += [499, 500, 501, 502, 503, 504, 507, 520, 524, 529, 599]

RETRY = ["retry_after=7", "retry_after=0.5", "retry_after_ms=250", "should_retry=1", "should_retry=0"]
WORDS = [
    "error_type=odd_error",
    "error_code=odd_code",
    "error_message=Ünïcode is ƒine",
    "cloudflare",
    "framing=chunked",
]
WORDS += ["framing=close", "split=3", "malformed=json", "malformed=utf8", "close"]


def anthropic_call(generation: Any, *, stream: bool) -> Any:
    def call(side: Side, model: str) -> Any:
        return claude(side, generation).messages.create(
            model=model, max_tokens=9, messages=SAID, stream=stream
        )

    return call


def openai_chat(side: Side, model: str) -> Any:
    return gpt(side).chat.completions.create(model=model, messages=SAID)


def openai_chat_stream(side: Side, model: str) -> Any:
    return gpt(side).chat.completions.create(model=model, messages=SAID, stream=True)


def openai_response_stream(side: Side, model: str) -> Any:
    return gpt(side).responses.create(model=model, input="x", stream=True)


CALLERS = {
    "anthropic": anthropic_call(CURRENT, stream=False),
    "anthropic stream": anthropic_call(CURRENT, stream=True),
    "earlier anthropic": anthropic_call(EARLIER, stream=False),
    "openai": openai_chat,
    "openai stream": openai_chat_stream,
    "openai responses stream": openai_response_stream,
}
callers = pytest.mark.parametrize("caller", [pytest.param(call, id=name) for name, call in CALLERS.items()])


def collect(side: Side, caller: Any, behaviours: list[str]) -> list[Any]:
    """What each of the behaviours gives."""
    seen = []
    for behaviour in behaviours:
        try:
            seen.append([behaviour, plain(caller(side, f"sim:{behaviour}"))])
        except Exception as error:
            seen.append([behaviour, plain(error)])
    return seen


@callers
def test_every_status(sides: Sides, caller: Any) -> None:
    behaviours = [f"error={status}" for status in STATUSES]
    seen = sides.same(lambda side: collect(side, caller, behaviours), requests=len(behaviours))
    assert [answer.status for answer in seen.answers] == STATUSES
    assert {"RateLimitError", "AuthenticationError"} <= {result["class"] for _, result in seen.result}


@callers
@pytest.mark.parametrize("status", [429, 529, 400])
def test_every_wording(sides: Sides, caller: Any, status: int) -> None:
    behaviours = [f"error={status},{more}" for more in RETRY + WORDS]
    sides.same(lambda side: collect(side, caller, behaviours), requests=len(behaviours))


@callers
def test_what_the_grammar_refuses(sides: Sides, caller: Any) -> None:
    sides.same(lambda side: collect(side, caller, ["no such key", "tokens=x"]), requests=2)


STREAM_CALLERS = {name: call for name, call in CALLERS.items() if "stream" in name}
stream_callers = pytest.mark.parametrize(
    "caller", [pytest.param(call, id=name) for name, call in STREAM_CALLERS.items()]
)


@stream_callers
def test_errors_in_the_stream(sides: Sides, caller: Any) -> None:
    behaviours = [
        f"tokens=6,error={status},error_after={after}" for status in (429, 500, 529) for after in (0, 3)
    ]
    seen = sides.same(lambda side: collect(side, caller, behaviours), requests=len(behaviours))
    # An exception, but for responses: there an error is an event like others.
    assert all("class" in result[-1] or result[-1][0] == "ResponseErrorEvent" for _, result in seen.result)


@stream_callers
@pytest.mark.parametrize("malformed", ["json", "utf8"])
def test_wrong_content_in_the_stream(sides: Sides, caller: Any, malformed: str) -> None:
    """Rubbish inside an event is between the provider and the SDK: it comes as it was sent.

    A chat stream asks for usage itself here, since that is what the rubbish is part of.
    """

    def use(side: Side) -> Any:
        model = f"sim:tokens=6,malformed={malformed},malformed_after=3"
        try:
            if caller is openai_chat_stream:
                completions = gpt(side).chat.completions
                options: Any = {"include_usage": True}
                return plain(
                    completions.create(model=model, messages=SAID, stream=True, stream_options=options)
                )
            return plain(caller(side, model))
        except (ValueError, UnicodeDecodeError) as error:
            return [type(error).__name__, str(error)]

    sides.same(use, requests=1)


def test_errors_of_the_asynchronous_clients(sides: Sides) -> None:
    async def of_anthropic(client: Any) -> Any:
        return await gathered(lambda model: client.messages.create(model=model, max_tokens=9, messages=SAID))

    async def of_openai(client: Any) -> Any:
        return await gathered(lambda model: client.chat.completions.create(model=model, messages=SAID))

    async def gathered(call: Any) -> list[Any]:
        seen = []
        for status in STATUSES:
            with pytest.raises(Exception) as caught:  # noqa: PT011
                await call(f"sim:error={status}")
            seen.append(plain(caught.value))
        return seen

    sides.same(lambda side: with_async_claude(side, of_anthropic), requests=len(STATUSES))
    sides.same(lambda side: with_async_gpt(side, of_openai), requests=len(STATUSES))


@pytest.mark.parametrize(
    "more", ["error=529", "error=429,retry_after_ms=1", "error=500,should_retry=1", "error=409"]
)
def test_the_sdks_retries_go_through(sides: Sides, more: str) -> None:
    """Two failures, then an answer: three requests on both sides, counted by the SDK's own header."""
    model = f"sim:tokens=3,times=2,retry_after_ms=1,{more}"

    def anthropic_use(side: Side) -> Any:
        client = claude(side).with_options(max_retries=2)
        return client.messages.create(model=model, max_tokens=9, messages=SAID)

    def openai_use(side: Side) -> Any:
        return gpt(side).with_options(max_retries=2).chat.completions.create(model=model, messages=SAID)

    for use in (anthropic_use, openai_use):
        seen = sides.same(use, requests=3)
        counts = [dict(map(tuple, entry["headers"]))["x-stainless-retry-count"] for entry in seen.entries]
        assert counts == ["0", "1", "2"]


def test_no_retry_where_the_provider_says_so(sides: Sides) -> None:
    def use(side: Side) -> Any:
        client = gpt(side).with_options(max_retries=2)
        return client.chat.completions.create(model="sim:error=500,should_retry=0", messages=SAID)

    sides.same(use, requests=1)


@pytest.mark.parametrize("die", ["die=rst", "die=fin"])
@pytest.mark.parametrize("after", [0, 1, 4])
@stream_callers
def test_a_stream_that_breaks_off_never_ends_cleanly(sides: Sides, caller: Any, die: str, after: int) -> None:
    """Not equal by nature: Karta adds an error event where it can. But what came before is, and it raises."""
    direct, karta = (
        sides.observe(side, lambda side: collect(side, caller, [f"tokens=6,{die},die_after={after}"])[0][1])
        for side in (sides.direct, sides.karta)
    )
    events, error = direct.result[:-1], direct.result[-1]
    assert "class" in error
    assert karta.result[: len(events)] == events
    assert "class" in karta.result[-1]


@pytest.mark.parametrize(
    "fault", ["die_at=request", "die_at=head", "malformed=head", "malformed=status", "malformed=both"]
)
@callers
def test_a_provider_that_breaks_before_its_answer_is_a_bad_gateway(
    sides: Sides, caller: Any, fault: str
) -> None:
    (((_, error),),) = [sides.observe(sides.karta, lambda side: collect(side, caller, [fault])).result]
    assert (error["class"], error["its status_code"]) == ("InternalServerError", 502)
    assert error["has a request id"]


def test_a_refused_key_is_the_same_exception_class(sides: Sides) -> None:
    """Karta's own refusals are in the dialect of the API that was called."""
    wrong = gpt(sides.karta).with_options(api_key="kt_live_nonsense")
    with pytest.raises(openai.AuthenticationError) as caught:
        wrong.models.list()
    assert (caught.value.status_code, caught.value.code) == (401, "invalid_api_key")
    assert caught.value.request_id
