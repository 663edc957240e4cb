"""What a socket's events mean: which response they belong to, what it used, and whatever a provider makes
up. (`test_relay` has the same over real sockets.)"""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.websocket.turns import NAMES_MAX, OPEN_MAX
from tests.gateway.conftest import Stage, Tenant
from tests.gateway.websocket.sides import COMPLETED, CREATED, DELTA, DONE, RESPONSES, accept, connected
from tests.support.gateway import poll
from tests.support.scripted_provider import Line

TRANSCRIBED = {
    "type": "conversation.item.input_audio_transcription.completed",
    "usage": {"type": "tokens", "input_tokens": 40, "output_tokens": 6},
}


async def played(
    stage: Stage, tenant: Tenant, path: str, asked: list[Any], told: list[Any]
) -> list[dict[str, Any]]:
    """The usage rows after a client said `asked` and then a provider `told`, and the client left."""
    end = {"type": "session.updated"}

    async def handler(line: Line) -> None:
        side = await accept(line)
        for _ in asked:
            await side.next()
        await side.send(*told, end)
        await line.wait_closed()

    async with stage(handler) as (gateway, _):
        async with connected(gateway, tenant.token, path) as client:
            await client.send(*asked)
            while await client.next() != end:
                pass
        await poll(lambda: not gateway.worker.acceptor.connections)
        count = gateway.worker.meter.settled
        return await gateway.settled(count)


ASK = {"type": "response.create", "model": "gpt-test", "input": "hello"}


def named(message: dict[str, Any], response_id: str, **usage: int) -> dict[str, Any]:
    """The same event of another response."""
    changed = json.loads(json.dumps(message).replace("resp_1", response_id))
    if usage:
        changed["response"]["usage"] = usage
    return changed


async def test_two_responses_at_once_are_told_apart(stage: Stage, tenant: Tenant) -> None:
    first = named(COMPLETED, "resp_a", input_tokens=1, output_tokens=2)
    second = named(COMPLETED, "resp_b", input_tokens=3, output_tokens=4)
    told = [named(CREATED, "resp_a"), named(CREATED, "resp_b"), second, first]
    rows = await played(stage, tenant, RESPONSES, [ASK, {**ASK, "model": "gpt-b"}], told)
    assert {(row["model_asked"], row["provider_request_id"], row["output_tokens"]) for row in rows} == {
        ("gpt-test", "resp_a", 2),
        ("gpt-b", "resp_b", 4),
    }


async def test_an_error_instead_of_a_response_costs_nothing(stage: Stage, tenant: Tenant) -> None:
    error = {"type": "error", "status": 404, "error": {"message": "no such model"}}
    (row,) = await played(stage, tenant, RESPONSES, [ASK], [error])
    assert (row["status"], row["input_tokens"], row["output_tokens"]) == (404, 0, 0)


@pytest.mark.parametrize("status", [200, 600, 10**12, -5])
async def test_a_status_that_is_none_of_http_s_is_not_kept(status: int, stage: Stage, tenant: Tenant) -> None:
    """Each there is has its own count among the figures."""
    error = {"type": "error", "status": status, "error": {"message": "no such model"}}
    (row,) = await played(stage, tenant, RESPONSES, [ASK], [error])
    assert row["status"] == 400


async def test_an_error_about_something_else_does_not_end_a_response(stage: Stage, tenant: Tenant) -> None:
    asked = [{"type": "response.create", "event_id": "mine"}]
    other = {"type": "error", "error": {"event_id": "other", "message": "no"}}
    (row,) = await played(stage, tenant, "/v1/realtime?model=m", asked, [other, CREATED, DONE])
    assert (row["status"], row["output_tokens"]) == (200, 5)


async def test_a_transcription_is_a_row_of_its_own(stage: Stage, tenant: Tenant) -> None:
    asked = [{"type": "input_audio_buffer.commit"}]
    (row,) = await played(stage, tenant, "/v1/realtime?model=m", asked, [TRANSCRIBED])
    assert (row["input_tokens"], row["output_tokens"], row["usage_complete"]) == (40, 6, True)
    assert (row["model_asked"], row["model_answered"]) == ("m", None)


WHISPER = {"model": "whisper-1"}


@pytest.mark.parametrize(
    "sessions",
    [
        [{"audio": {"input": {"transcription": WHISPER}}}],
        [{"input_audio_transcription": WHISPER}],
        [
            {"audio": {"input": {"transcription": {"model": "gpt-4o-transcribe"}}}},
            {"audio": {"input": {"transcription": WHISPER}}},
        ],
        # Switched off, left out, or told in a way that nobody knows.
        [
            {"input_audio_transcription": WHISPER},
            {"audio": {"input": {"transcription": None}}},
            {"audio": None},
        ],
        [
            {"input_audio_transcription": WHISPER},
            {"model": "m"},
            {"audio": [1], "input_audio_transcription": 7},
        ],
    ],
)
async def test_a_transcription_costs_what_its_own_model_does(
    sessions: list[dict[str, Any]], stage: Stage, tenant: Tenant
) -> None:
    asked = [{"type": "input_audio_buffer.commit"}]
    kinds = ["session.created", *["session.updated"] * len(sessions)]
    told = [
        *({"type": kind, "session": session} for kind, session in zip(kinds, sessions, strict=False)),
        {**TRANSCRIBED, "usage": {"type": "duration", "seconds": 60}},
    ]
    (row,) = await played(stage, tenant, "/v1/realtime?model=gpt-realtime", asked, told)
    assert (row["model_asked"], row["model_answered"]) == ("gpt-realtime", "whisper-1")
    assert row["cost_picodollars"] == row["charged_picodollars"] == 6_000_000_000


async def test_a_response_that_was_cut_counts_the_conversation_so_far(stage: Stage, tenant: Tenant) -> None:
    told = [CREATED, DONE, named(CREATED, "resp_2"), named(DELTA, "resp_2"), named(DELTA, "resp_2")]
    rows = await played(stage, tenant, "/v1/realtime?model=m", [{"type": "response.create"}], told)
    cut = rows[-1]
    assert (cut["outcome"], cut["usage_complete"]) == ("client_gone", False)
    # What went into the first and came out of it is what the second began with.
    assert (cut["input_tokens"], cut["output_tokens"]) == (35, 2)


@pytest.mark.parametrize("agreed", [True, False])
async def test_a_response_in_the_background_is_counted_once(
    agreed: bool, stage: Stage, tenant: Tenant
) -> None:
    completed = {**COMPLETED, "response": {**COMPLETED["response"], "background": agreed}}
    rows = await played(stage, tenant, RESPONSES, [{**ASK, "background": True}], [CREATED, completed])
    assert sum(row["output_tokens"] for row in rows) == 2


async def test_what_a_client_says_in_other_types_is_the_provider_s_business(
    stage: Stage, tenant: Tenant
) -> None:
    asked = [
        {"type": 5, "session": [[]], "response": 1},
        {"type": ["response.create"]},
        {"type": "session.update", "session": [1]},
        {"type": "session.update", "session": {"max_output_tokens": {}, "instructions": [1]}},
        {"type": "response.create", "event_id": {}, "response": [1]},
        {"type": "response.create", "response": {"max_output_tokens": [1]}},
    ]
    told = [CREATED, DONE, named(CREATED, "resp_2"), named(DONE, "resp_2")]
    rows = await played(stage, tenant, "/v1/realtime?model=m", asked, told)
    assert [(row["model_asked"], row["status"]) for row in rows] == [("m", 200)] * 2


@pytest.mark.parametrize(
    ("path", "told", "expected"),
    [
        ("?model=dear", {"type": "error", "error": {"event_id": "other"}}, "dear"),
        ("?model=dear", {"type": "session.updated", "session": {"model": "dear"}}, "dear"),
        ("?model=dear", {"type": "session.updated", "session": {"model": "cheap-2"}}, "dear"),
        ("?model=dear", {"type": "session.updated", "session": {"model": "cheap"}}, "cheap"),
        ("?model=dear", {"type": "session.updated", "session": {"model": "cheap-2026-01-31"}}, "cheap"),
        ("?model=dear", {"type": "session.updated"}, "cheap"),
        # Of a call that exists.
        ("?call_id=rtc_1", {"type": "error", "error": {"event_id": "other"}}, None),
        ("?call_id=rtc_1", {"type": "session.created", "session": {"model": "dear"}}, "dear"),
        ("?call_id=rtc_1", {"type": "session.updated", "session": {"model": "dear"}}, "dear"),
        ("?call_id=rtc_1", {"type": "session.updated", "session": {"model": "cheap"}}, "cheap"),
    ],
)
async def test_a_session_s_model_is_what_the_provider_says(
    path: str, told: dict[str, Any], expected: str | None, stage: Stage, tenant: Tenant
) -> None:
    """Or one could ask for a cheaper one, be refused, and have the dear one at that price."""
    asked = [{"type": "session.update", "session": {"model": "cheap"}}]
    # It begins by itself, having heard somebody stop speaking.
    (row,) = await played(stage, tenant, "/v1/realtime" + path, asked, [told, CREATED, DONE])
    assert row["model_asked"] == expected


@pytest.mark.parametrize(
    ("asked", "told", "expected"),
    [
        (["a", "b"], ["a", "b"], "b"),
        # One is refused, and one has come before its wish did.
        (["a", "b"], ["b"], "b"),
        (["a", "b"], ["first", "a", "b"], "b"),
        (["a", "b"], ["a"], "a"),
        (["a", "first"], ["a", "first"], "first"),
        (["first", "a", "first"], ["first", "a"], "a"),
        (["a"], ["first", "a-2026-01-31"], "a"),
    ],
)
async def test_of_models_that_were_asked_for_in_a_row_the_one_told_last_runs(
    asked: list[str], told: list[str], expected: str, stage: Stage, tenant: Tenant
) -> None:
    wishes = [{"type": "session.update", "session": {"model": name}} for name in asked]
    updated = [{"type": "session.updated", "session": {"model": name}} for name in told]
    (row,) = await played(stage, tenant, "/v1/realtime?model=first", wishes, [*updated, CREATED, DONE])
    assert row["model_asked"] == expected


async def test_no_more_than_a_bound_of_models_are_asked_for(stage: Stage, tenant: Tenant) -> None:
    async def handler(line: Line) -> None:
        await accept(line)
        await line.wait_closed()

    wishes = [{"type": "session.update", "session": {"model": f"m{n}"}} for n in range(NAMES_MAX)]
    path = "/v1/realtime?model=first"
    async with stage(handler) as (gateway, _), connected(gateway, tenant.token, path) as client:
        await client.send(*wishes)
        assert "16 models" in (await client.next())["error"]["message"]


async def test_no_more_than_a_bound_run_at_once(stage: Stage, tenant: Tenant) -> None:
    async def handler(line: Line) -> None:
        await accept(line)
        await line.wait_closed()

    async with stage(handler) as (gateway, _):
        async with connected(gateway, tenant.token, RESPONSES) as client:
            await client.send(*[ASK] * (OPEN_MAX + 1))
            assert (await client.next())["status"] == 429
        assert len(await gateway.settled(OPEN_MAX)) == OPEN_MAX


@pytest.mark.parametrize(
    "told",
    [
        [{"type": "response.done"}],
        [{"type": "response.done", "response": "text"}],
        [{"type": "response.created"}],
        [CREATED, {"type": "response.done", "response": {"id": 7, "usage": -1}}],
        [CREATED, {"type": "response.done", "response": {"id": "resp_1", "usage": {"input_tokens": -5}}}],
        [{"type": 5}, [], "text", None, {"type": "error", "error": "x", "status": "y"}],
    ],
)
async def test_whatever_a_provider_says_the_socket_goes_on(
    told: list[Any], stage: Stage, tenant: Tenant
) -> None:
    rows = await played(stage, tenant, "/v1/realtime?model=m", [{"type": "response.create"}], told)
    assert rows
    assert all(row["input_tokens"] >= 0 for row in rows)
