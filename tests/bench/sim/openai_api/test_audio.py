"""Audio through the official SDK: sound out, sound in."""

import json

import httpx
import openai
import pytest

from tests.bench.sim.process import SimProcess

# The SDK leaves its own inner generator at `[DONE]`; trio would have it closed in order.
pytestmark = pytest.mark.filterwarnings("ignore:Async generator '(openai|httpx):ResourceWarning")


async def test_speech_is_chunked_sound(gpt: openai.AsyncOpenAI, http: httpx.AsyncClient) -> None:
    spoken = await gpt.audio.speech.create(model="tts-1", voice="alloy", input="hello")
    assert spoken.response.headers["content-type"] == "audio/mpeg"
    assert spoken.response.headers["transfer-encoding"] == "chunked"
    assert len(spoken.content) == 12 * 1_028
    body = {"model": "sim:bytes=100000", "voice": "alloy", "input": "hello", "response_format": "wav"}
    long = await http.post("/v1/audio/speech", json=body)
    assert (len(long.content), long.headers["content-type"]) == (100_000, "audio/wav")
    with pytest.raises(openai.BadRequestError):
        await gpt.post("/audio/speech", cast_to=object, body={"model": "tts-1"})


async def test_speech_as_events(http: httpx.AsyncClient, sim: SimProcess) -> None:
    body = {"model": "gpt-4o-mini-tts", "voice": "alloy", "input": "hello", "stream_format": "sse"}
    reply = await http.post("/v1/audio/speech", json=body)
    events = [json.loads(line[6:]) for line in reply.text.split("\n\n")[:-1]]
    assert events[-1]["type"] == "speech.audio.done"
    assert (await sim.entry(reply.headers["x-request-id"]))["usage"] == events[-1]["usage"]


async def test_transcriptions_in_their_formats(gpt: openai.AsyncOpenAI, http: httpx.AsyncClient) -> None:
    sound = ("a.wav", b"RIFF....", "audio/wav")
    plain = await gpt.audio.transcriptions.create(file=sound, model="gpt-4o-transcribe")
    assert plain.usage is not None
    assert plain.usage.type == "tokens"
    timed = await gpt.audio.transcriptions.create(
        file=sound, model="whisper-1", response_format="verbose_json"
    )
    assert timed.usage is not None
    assert timed.usage.type == "duration"
    assert timed.segments is not None
    for name, mark in (("text", ""), ("srt", "00:00:00,000 -->"), ("vtt", "WEBVTT")):
        assert mark in await gpt.audio.transcriptions.create(
            file=sound,
            model="whisper-1",
            response_format=name,  # type: ignore[call-overload]
        )
    translated = await http.post("/v1/audio/translations", data={"model": "m"}, files={"file": sound})
    assert translated.json()["text"] == plain.text
    with pytest.raises(openai.BadRequestError):
        await gpt.post("/audio/transcriptions", cast_to=object, body={})


async def test_transcriptions_as_events(gpt: openai.AsyncOpenAI) -> None:
    stream = await gpt.audio.transcriptions.create(
        file=("a.wav", b"RIFF", "audio/wav"), model="sim:tokens=3", stream=True
    )
    kinds = [event.type async for event in stream]
    assert kinds == [*["transcript.text.delta"] * 3, "transcript.text.done"]
