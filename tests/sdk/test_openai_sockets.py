"""OpenAI's WebSockets by its SDK: Realtime and the WebSocket mode of responses, synchronous and not, directly
and through Karta."""

from __future__ import annotations

import time
from typing import Any

import openai
import pytest
from websockets.exceptions import InvalidStatus

from storage.bridge import open_database
from tests.sdk.clients import gpt, with_async_gpt
from tests.sdk.compare import Side, Sides
from tests.sdk.servers import PLATFORM_KEY, SIMULATED_KEY, Tenant
from tests.support.postgres import run_in_own_trio

ITEM: Any = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Ünïcödé 🦊"}]}


def shown(event: Any) -> Any:
    return event.to_dict()


def talk(side: Side, model: str = "sim:tokens=5,pings=2,split=7") -> list[Any]:
    """Two realtime responses, the second one of its own accord."""
    told = []
    with gpt(side).realtime.connect(model=model) as connection:
        connection.session.update(session={"type": "realtime"})
        connection.conversation.item.create(item=ITEM)
        connection.response.create()
        connection.input_audio_buffer.append(audio="AAAA" * 5000)
        connection.input_audio_buffer.commit()
        for event in connection:
            told.append(shown(event))
            if sum(one["type"] == "response.done" for one in told) == 2:
                return told
    raise AssertionError("the socket ended too soon")


def respond(side: Side) -> list[Any]:
    """Two responses on one socket, the second after an error."""
    told = []
    with gpt(side).responses.connect() as connection:
        for model in ("sim:tokens=3", "sim:error=404", "sim:tokens=4,thinking=2"):
            connection.send({"type": "response.create", "model": model, "input": "Say something."})
            for event in connection:
                told.append(shown(event))
                if event.type in ("response.completed", "error"):
                    break
    return told


async def _talk(client: openai.AsyncOpenAI) -> list[Any]:
    told = []
    async with client.realtime.connect(model="sim:tokens=4") as connection:
        await connection.response.create()
        async for event in connection:
            told.append(shown(event))
            if event.type == "response.done":
                break
    return told


@pytest.mark.parametrize("call", [talk, respond, lambda side: with_async_gpt(side, _talk)])
def test_a_socket_through_karta_says_the_same(sides: Sides, call: Any) -> None:
    told = []
    for side in (sides.direct, sides.karta):
        sides.provider.reset()
        told.append(call(side))
    assert told[0] == told[1]
    assert len(told[0]) > 3


def test_the_provider_sees_its_own_key_only(sides: Sides) -> None:
    after = sides.provider.last_seq()
    talk(sides.karta)
    entries = sides.provider.entries(after)
    assert {entry["credential"] for entry in entries} == {PLATFORM_KEY}
    assert "kt_" not in repr(entries)


def test_test_keys_reach_the_simulated_provider(sides: Sides, tenant_database: tuple[str, Tenant]) -> None:
    after = sides.provider.last_seq()
    side = Side("test", sides.karta.url, tenant_database[1].test_token)
    talk(side)
    for close in side.closers:
        close()
    assert {entry["credential"] for entry in sides.provider.entries(after)} == {SIMULATED_KEY}


def test_a_wrong_key_is_refused_by_a_status(sides: Sides) -> None:
    with (
        openai.OpenAI(base_url=f"{sides.karta.url}/v1", api_key="kt_live_wrong") as client,
        pytest.raises(InvalidStatus) as found,
        client.realtime.connect(model="sim:tokens=1"),
    ):
        pass
    assert found.value.response.status_code == 401


def test_each_response_has_a_row_with_the_providers_figures(
    sides: Sides, tenant_database: tuple[str, Tenant]
) -> None:
    database_url, _ = tenant_database
    after = sides.provider.last_seq()
    model = f"sim:tokens=6,seed={time.time_ns() % 1_000_000}"
    talk(sides.karta, model)
    tokens = [entry["tokens"] for entry in sides.provider.entries(after) if entry["tokens"]]
    assert len(tokens) == 2

    async def rows() -> list[Any]:
        async with open_database(database_url, role=None) as db:
            return await db.fetch(
                "SELECT * FROM usage WHERE model_asked = $1 AND endpoint = '/v1/realtime' "
                "ORDER BY input_tokens",
                model,
            )

    deadline = time.monotonic() + 20
    while len(found := run_in_own_trio(rows)) < 2:
        assert time.monotonic() < deadline
    for row, told in zip(found, tokens, strict=True):
        assert (row["input_tokens"], row["output_tokens"]) == (told["input_tokens"], told["output_tokens"])
        assert (row["outcome"], row["usage_complete"]) == ("completed", True)
