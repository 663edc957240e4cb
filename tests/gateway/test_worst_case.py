"""Reservations: what text may come to, whole windows for what is not here, no panic over pictures."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from gateway.price_library import Library
from gateway.price_table import FREE, PriceTable, Rates, Tier
from gateway.worst_case import (
    ANSWERS_MAX,
    IMAGE_TOKENS_MAX,
    SEARCHES_MAX,
    WINDOW_TOKENS_DEFAULT,
    InputEstimate,
    estimate_input,
    estimate_upload,
    prompts_and_best_of,
    seems_encoded,
    worst_case,
)
from tests.gateway.price_cases import DAY

LIBRARY = Library()
UNKNOWN = PriceTable(rates=Rates(), version="", source="")


def table(provider: str, model: str) -> PriceTable:
    found = LIBRARY.compile(provider, model, Tier.STANDARD, DAY.timestamp())
    assert found is not None
    return found


def body(**members: Any) -> bytes:
    return json.dumps(members, separators=(",", ":")).encode()


def content(*parts: Any, **members: Any) -> bytes:
    return body(model="m", messages=[{"role": "user", "content": list(parts)}], **members)


PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(300_000)).decode()
PDF = base64.b64encode(b"%PDF-1.7\n" + bytes(3_000)).decode()


def test_text_is_two_bytes_a_token() -> None:
    for length in (100_000, 100_001):
        text = content({"type": "text", "text": "x" * length})
        found = estimate_input(text)
        assert (found.tokens, found.fills_window, found.searches) == (1000 + len(text) // 2, False, 0)
        # Of what is lent whole numbers are asked for.
        assert isinstance(found.tokens, int)


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
        {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}"},
        {"type": "image", "source": {"type": "url", "url": "https://x.example/a.png"}},
        {"type": "input_image", "file_id": "file-1"},
    ],
)
def test_a_picture_counts_as_one_whatever_its_bytes(part: dict[str, Any]) -> None:
    one = estimate_input(content(part))
    assert not one.fills_window
    assert IMAGE_TOKENS_MAX < one.tokens < IMAGE_TOKENS_MAX + 1300
    assert estimate_input(content(part, part)).tokens > 2 * IMAGE_TOKENS_MAX


@pytest.mark.parametrize(
    "sent",
    [
        content({"type": "document", "source": {"type": "url", "url": "https://x.example/a.pdf"}}),
        content({"type": "document", "source": {"type": "base64", "data": PDF}}),
        content({"type": "x", "data": f"data:application/pdf;base64,{PDF}"}),
        content({"type": "input_file", "file_id": "file-1"}),
        content({"type": "file", "file": {"file_id": "file-1"}}),
        content({"type": "container_upload", "file_id": "file-1"}),
        body(model="m", prompt={"id": "pmpt_1"}),
        content("x", tools=[{"type": "web_search_20250305", "name": "web_search"}]),
        content("x", tools=[{"type": "file_search", "vector_store_ids": ["v"]}]),
        content("x", tools=[{"type": "code_execution_20250825"}]),
        content("x", tools=[{"type": "mcp", "server_url": "https://x.example"}]),
        content("x", tools=[{"type": "advisor_20260301", "model": "n"}]),
        b'{ "type" : "input_file" }',
        # What is no object is nobody's request, but looked at from its first byte on.
        b'"type":"input_file"',
        b'"prompt":{}',
    ],
)
def test_what_is_not_here_may_fill_the_window(sent: bytes) -> None:
    assert estimate_input(sent).fills_window


@pytest.mark.parametrize(
    "sent",
    [
        content({"type": "text", "text": 'see "type":"input_file" and "previous_response_id":"x"'}),
        content("x", tools=[{"name": "fetch", "input_schema": {"properties": {"url": {"type": "string"}}}}]),
        body(model="m", previous_response_id=None, conversation=None, prompt="complete this"),
    ],
)
def test_words_in_text_and_schemas_do_not_alarm(sent: bytes) -> None:
    assert not estimate_input(sent).fills_window


def test_what_a_request_s_fields_name_may_fill_the_window() -> None:
    assert estimate_input(b"{}", by_reference=True).fills_window


def test_searches_and_caches_kept_for_an_hour() -> None:
    found = estimate_input(content("x", tools=[{"type": "web_search"}]))
    assert (found.searches, found.hour_cache) == (SEARCHES_MAX, False)
    both = content({"type": "input_file", "file_id": "file-1"}, tools=[{"type": "file_search"}])
    assert estimate_input(both).searches == SEARCHES_MAX
    assert estimate_input(content({"type": "input_file", "file_id": "file-1"})).searches == 0
    cached = content({"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "ttl": "1h"}})
    assert estimate_input(cached).hour_cache
    assert estimate_input(b'"ttl":"1h"').hour_cache


@pytest.mark.parametrize(
    ("sent", "found"),
    [
        (b"", (1, 1)),
        (b"[1]", (1, 1)),
        (b'{"prompt":["a",["b","c"]]}', (4, 1)),
        (b'{"prompt":["a","b"],"best_of":1e300}', (2, ANSWERS_MAX)),
        # Nobody has looked at the rest.
        (b'{"prompt":[' + b'"",' * 20_000 + b'""]}', (10_000, 1)),
        (b'{"prompt":[' + b"[1]," * 300_000 + b"[1]]}", (10_000, ANSWERS_MAX)),
        (b'{"prompt":[' + b"1," * 1_000_000 + b"1]}", (1, 1)),
    ],
    ids=range(7),
)
def test_prompts_are_counted_without_being_read(sent: bytes, found: tuple[int, int]) -> None:
    assert prompts_and_best_of(sent) == found


def test_an_upload_is_told_by_its_size() -> None:
    assert estimate_upload(1_000_001).tokens == 501_000


def test_what_nobody_has_looked_at_may_be_anything() -> None:
    for number, fills_window in ((9_999, False), (10_001, True)):
        parts = content(*[{"type": "text", "text": "x"}] * number)
        assert estimate_input(parts).fills_window is fills_window


def test_what_is_sent_along_is_told_by_how_it_begins() -> None:
    picture, document = content({"data": f"base64,{PNG}"}), content({"data": f"base64,{PDF}"})
    found = estimate_input(picture)
    assert (found.tokens, found.fills_window) == (1000 + (len(picture) - len(PNG)) // 2, False)
    found = estimate_input(document)
    assert (found.tokens, found.fills_window) == (1000 + len(document) // 2, True)
    # All of them, wherever they are said to be base64.
    found = estimate_input(b"base64," + PNG.encode() + b" " + PNG.encode() + b" " + PDF.encode())
    assert (found.tokens, found.fills_window) == (1000 + (9 + len(PDF)) // 2, True)


def cost(found: PriceTable, given: InputEstimate, out: int = 1000, **options: int) -> tuple[int, int]:
    return worst_case(found, given, out, unknown_rate=100_000_000, **options)


def test_the_dearest_that_may_come() -> None:
    opus = table("anthropic", "claude-opus-5-5")
    # $5 a write, $20 out.
    assert cost(opus, InputEstimate(100)) == (100 * 5_000_000 + 1000 * 20_000_000, 1100)
    # $8 a write for an hour; three answers.
    found = cost(opus, InputEstimate(100, hour_cache=True), choices=3)
    assert found == (100 * 8_000_000 + 3000 * 20_000_000, 3100)
    # A million tokens fill the window, ten searches at a cent.
    found = cost(opus, InputEstimate(100, fills_window=True, searches=10))
    assert found == (1_000_000 * 5_000_000 + 1000 * 20_000_000 + 10 * 10_000_000_000, 1_001_000)
    # No request has more than the window.
    for fills_window in (False, True):
        assert cost(opus, InputEstimate(9_000_000, fills_window=fills_window))[1] == 1_001_000


def test_long_prompts_are_reserved_at_their_own_rate() -> None:
    haiku = table("anthropic", "claude-haiku-5-5")
    assert cost(haiku, InputEstimate(100_000), 0)[0] == 100_000 * 125_000
    assert cost(haiku, InputEstimate(100_001), 0)[0] == 100_001 * 625_000


def test_embeddings_have_no_output() -> None:
    assert cost(table("openai", "text-embedding-3-small"), InputEstimate(500)) == (500 * 20_000, 500)


@pytest.mark.parametrize("found", [UNKNOWN, table("openai", "tts-1")])
def test_unknown_prices_reserve_the_configured_default(found: PriceTable) -> None:
    assert cost(found, InputEstimate(500)) == (1500 * 100_000_000, 1500)


def test_an_unknown_window() -> None:
    assert cost(UNKNOWN, InputEstimate(5, fills_window=True))[1] == WINDOW_TOKENS_DEFAULT + 1000
    assert cost(UNKNOWN, InputEstimate(500_000, fills_window=True))[1] == 501_000


def priced(**rates: int) -> PriceTable:
    return PriceTable(rates=Rates(**rates), version="", source="")


def test_what_is_unknown_of_a_price_is_reserved_at_the_default() -> None:
    assert cost(priced(input=0), InputEstimate(500)) == (0, 500)
    assert cost(priced(input=3), InputEstimate(500)) == (1500, 500)
    assert cost(priced(output=0), InputEstimate(500)) == (500 * 100_000_000, 1500)
    # By the hour: nothing of it is a token.
    assert cost(priced(audio_hour=3), InputEstimate(500)) == (1500 * 100_000_000, 1500)


def test_searches_are_reserved_at_the_dearest_known_price() -> None:
    for rates, each in (
        ({"web_search": 7, "file_search": 5}, 7),
        ({"web_search": 5, "file_search": 7}, 7),
        ({"web_search": 7}, 7),
        ({"file_search": 7}, 7),
        ({}, 0),
    ):
        found = cost(priced(input=0, output=0, request=1000, **rates), InputEstimate(5, searches=10))
        assert found == (1000 + 10 * each, 1005)


def test_free_is_free() -> None:
    free = PriceTable(rates=FREE, version="free", source="")
    assert cost(free, InputEstimate(500, searches=3)) == (0, 1500)


@pytest.mark.parametrize("noise", [b'"' * 200_000, b"\\" * 200_000, b'"type":' * 50_000, b"A" * 5_000_000])
def test_hostile_bodies_are_read_in_one_pass(noise: bytes) -> None:
    assert estimate_input(b"base64" + noise).tokens > 0


def test_text_is_told_from_pictures_by_a_look_here_and_there() -> None:
    text, picture = b"It is plain text. " * 5000, base64.b64encode(bytes(60_000))
    assert not seems_encoded(text)
    for at in (0, 30_000, len(text)):
        assert seems_encoded(text[:at] + picture + text[at:])
    assert not seems_encoded(b"")
