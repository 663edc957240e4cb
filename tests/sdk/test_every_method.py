"""Every method of both SDKs: synchronous with the required arguments and with all of them, asynchronous, and
with the wire of the earlier Anthropic SDK."""

from __future__ import annotations

import inspect
from typing import Any

import anthropic
import openai
import pytest

from tests.sdk import every_method
from tests.sdk.clients import CURRENT, EARLIER, claude, gpt, with_async_claude, with_async_gpt
from tests.sdk.compare import Side, Sides
from tests.sdk.plain import plain, plain_async

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

PLAIN_TEXT = "id-1"
ODD_TEXT = "a/b c%25d?e#f&g=h+i~j"
"""As an id in a path it comes percent-encoded, slash and all."""

_SDK_ERRORS = (anthropic.AnthropicError, openai.OpenAIError)
_PORTION = 60
_NOBODY: Any = {"api_key": "none", "base_url": "http://127.0.0.1:1"}


def portions(client: Any) -> list[Any]:
    """The SDK's methods in portions named by their first one, so that a failure tells where to look."""
    with client:
        dotted = [path for path, _ in every_method.methods(client)]
    parts = [dotted[start : start + _PORTION] for start in range(0, len(dotted), _PORTION)]
    return [pytest.param(part, id=f"from {part[0]}") for part in parts]


anthropic_methods = pytest.mark.parametrize("members", portions(anthropic.Anthropic(**_NOBODY)))
openai_methods = pytest.mark.parametrize("members", portions(openai.OpenAI(**_NOBODY, admin_api_key="none")))
arguments = pytest.mark.parametrize("everything", [False, True], ids=["required", "everything"])


def given(client: Any, dotted: str, *, everything: bool) -> tuple[Any, dict[str, Any]]:
    method = every_method.find(client, dotted)
    text = ODD_TEXT if everything else PLAIN_TEXT
    return method, every_method.arguments(method, everything=everything, text=text)


def call_all(client: Any, members: list[str], *, everything: bool) -> list[Any]:
    """Each method's name and what it gave."""
    results = []
    for dotted in members:
        method, keywords = given(client, dotted, everything=everything)
        try:
            result = plain(method(**keywords))
        except _SDK_ERRORS as error:
            result = plain(error)
        results.append([dotted, result])
    return results


async def call_all_async(client: Any, members: list[str]) -> list[Any]:
    """The same by the asynchronous client."""
    results = []
    for dotted in members:
        method, keywords = given(client, dotted, everything=False)
        try:
            result = method(**keywords)
            result = await plain_async(await result if inspect.isawaitable(result) else result)
        except _SDK_ERRORS as error:
            result = plain(error)
        results.append([dotted, result])
    return results


@anthropic_methods
@arguments
def test_anthropic(sides: Sides, members: list[str], everything: bool) -> None:
    def call(side: Side) -> Any:
        return call_all(claude(side, CURRENT), members, everything=everything)

    check(sides, call, members)


@anthropic_methods
def test_the_wire_of_the_earlier_anthropic(sides: Sides, members: list[str]) -> None:
    def call(side: Side) -> Any:
        return call_all(claude(side, EARLIER), members, everything=False)

    check(sides, call, members)


@anthropic_methods
def test_asynchronous_anthropic(sides: Sides, members: list[str]) -> None:
    def call(side: Side) -> Any:
        return with_async_claude(side, lambda client: call_all_async(client, members))

    check(sides, call, members)


@openai_methods
@arguments
def test_openai(sides: Sides, members: list[str], everything: bool) -> None:
    def call(side: Side) -> Any:
        return call_all(gpt(side), members, everything=everything)

    check(sides, call, members)


@openai_methods
def test_asynchronous_openai(sides: Sides, members: list[str]) -> None:
    def call(side: Side) -> Any:
        return with_async_gpt(side, lambda client: call_all_async(client, members))

    check(sides, call, members)


def check(sides: Sides, call: Any, members: list[str]) -> None:
    seen = sides.same(call, requests=None)
    assert len(seen.entries) >= len(members)
    answered = [result for _, result in seen.result if isinstance(result, list)]
    assert len(answered) > len(members) / 2, "most calls should succeed, or little is compared"
