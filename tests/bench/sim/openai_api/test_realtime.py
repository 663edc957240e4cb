"""Realtime calls."""

import openai


async def test_a_call_is_made(gpt: openai.AsyncOpenAI) -> None:
    made = await gpt.realtime.calls.create(sdp="v=0")
    assert made.response.status_code == 201
    assert made.response.headers["location"].startswith("/v1/realtime/calls/rtc_")
    assert made.response.headers["content-type"] == "application/sdp"
    assert made.text.startswith("v=0\r\n")
    await gpt.realtime.calls.hangup("rtc_1")
