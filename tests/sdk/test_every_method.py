"""Every method of both SDKs, once with the required arguments and once with all of them; and together they
reach every operation of the tables."""

from __future__ import annotations

import itertools
from typing import Any

import anthropic
import openai
import pytest

from gateway import operations
from gateway.refusal import Dialect
from tests.sdk import every_method
from tests.sdk.clients import CURRENT, EARLIER, claude, gpt
from tests.sdk.compare import Side, Sides
from tests.sdk.plain import plain

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

PLAIN_TEXT = "id-1"
ODD_TEXT = "a/b c%25d?e#f&g=h+i~j"
"""As an id in a path it comes percent-encoded, slash and all."""

_SDK_ERRORS = (anthropic.AnthropicError, openai.OpenAIError)


def make(name: str, side: Side) -> Any:
    return {
        "openai": lambda: gpt(side),
        "anthropic": lambda: claude(side, CURRENT),
        "earlier anthropic": lambda: claude(side, EARLIER),
    }[name]()


def groups() -> list[tuple[str, str, list[str]]]:
    """The SDKs' methods in portions by resource, so that a failure names one."""
    nobody: Any = {"api_key": "none", "base_url": "http://127.0.0.1:1"}
    found = []
    for name, client in (
        ("anthropic", anthropic.Anthropic(**nobody)),
        ("earlier anthropic", anthropic.Anthropic(**nobody)),
        ("openai", openai.OpenAI(**nobody, admin_api_key="none")),
    ):
        dotted = [path for path, _ in every_method.methods(client)]
        for resource, members in itertools.groupby(dotted, key=lambda path: ".".join(path.split(".")[:2])):
            found.append((name, resource, list(members)))
        client.close()
    return found


def call_all(client: Any, members: list[str], *, everything: bool, text: str) -> list[Any]:
    """Each method's name and what it gave."""
    results = []
    for dotted in members:
        method = every_method.find(client, dotted)
        given = every_method.arguments(method, everything=everything, text=text)
        try:
            result = plain(method(**given))
        except _SDK_ERRORS as error:
            result = plain(error)
        results.append([dotted, result])
    return results


@pytest.mark.parametrize("everything", [False, True], ids=["required", "everything"])
@pytest.mark.parametrize(
    ("sdk", "resource", "members"), groups(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_method(sides: Sides, sdk: str, resource: str, members: list[str], everything: bool) -> None:
    text = ODD_TEXT if everything else PLAIN_TEXT
    seen = sides.same(
        lambda side: call_all(make(sdk, side), members, everything=everything, text=text), requests=None
    )
    assert len(seen.entries) >= len(members)
