"""`POST /v1/audio/speech` (binary, chunked) and `transcriptions` and `translations` (multipart in; JSON,
text or SSE)."""

import base64
from collections.abc import Iterator
from typing import Any

from bench.sim import sse, text
from bench.sim.answer import EVENT_STREAM, Answer, json_answer
from bench.sim.behaviour import Behaviour
from bench.sim.errors import Invalid
from bench.sim.openai_api.token_usage import response_usage
from bench.sim.request import Request
from bench.sim.state import State

CONTENT_TYPES = {
    "mp3": b"audio/mpeg",
    "opus": b"audio/opus",
    "aac": b"audio/aac",
    "flac": b"audio/flac",
    "wav": b"audio/wav",
    "pcm": b"audio/pcm",
}
SOUND_PIECE = b"ID3\x04" + bytes(range(256)) * 4
"""A piece of binary sound, one for each token of the behaviour."""
SECONDS = 3.5


def speak(state: State, request: Request, behaviour: Behaviour) -> Answer:
    """`POST /v1/audio/speech`."""
    del state
    document = request.document
    if not isinstance(document.get("input"), str):
        raise Invalid("Missing required parameter: 'input'.")
    usage = _usage(request, behaviour, kind=None)
    if document.get("stream_format") == "sse":
        return Answer(content_type=EVENT_STREAM, events=list(_speech_events(usage, behaviour)))
    content_type = CONTENT_TYPES.get(str(document.get("response_format", "mp3")), b"audio/mpeg")
    size = behaviour.bytes

    def pieces() -> Iterator[bytes]:
        if size:
            yield from text.bulk(size, 65_536)
        else:
            yield from (SOUND_PIECE for _ in range(behaviour.tokens))

    # No length: the real one speaks while it sends.
    return Answer(content_type=content_type, pieces=pieces)


def transcribe(state: State, request: Request, behaviour: Behaviour) -> Answer:
    """`POST /v1/audio/transcriptions`."""
    del state
    return _transcript(request, behaviour, streams=request.form.fields.get("stream") == "true")


def translate(state: State, request: Request, behaviour: Behaviour) -> Answer:
    """`POST /v1/audio/translations`."""
    del state
    return _transcript(request, behaviour, streams=False)


def _transcript(request: Request, behaviour: Behaviour, *, streams: bool) -> Answer:
    if not request.form.files:
        raise Invalid("Missing required parameter: 'file'.")
    fields = request.form.fields
    pieces = text.tokens(behaviour.seed, behaviour.tokens)
    said = "".join(pieces)
    usage = _usage(request, behaviour, kind="tokens")
    if fields.get("model") == "whisper-1":
        usage = {"type": "duration", "seconds": 4}
    if streams:
        return Answer(content_type=EVENT_STREAM, events=list(_transcript_events(pieces, usage, behaviour)))
    match fields.get("response_format", "json"):
        case "text":
            return Answer(content_type=b"text/plain; charset=utf-8", body=said.encode() + b"\n")
        case "srt":
            body = f"1\n00:00:00,000 --> 00:00:03,500\n{said}\n\n"
            return Answer(content_type=b"text/plain; charset=utf-8", body=body.encode())
        case "vtt":
            body = f"WEBVTT\n\n00:00:00.000 --> 00:00:03.500\n{said}\n\n"
            return Answer(content_type=b"text/vtt; charset=utf-8", body=body.encode())
        case "verbose_json" | "diarized_json":
            segment = {"id": 0, "seek": 0, "start": 0.0, "end": SECONDS, "text": said, "tokens": [1, 2, 3]}
            scores = {
                "temperature": 0.0,
                "avg_logprob": -0.2,
                "compression_ratio": 1.0,
                "no_speech_prob": 0.01,
            }
            whole: dict[str, Any] = {
                "task": "transcribe",
                "language": "english",
                "duration": SECONDS,
                "text": said,
            }
            whole["segments"] = [{**segment, **scores}]
        case _:
            whole = {"text": said}
    if behaviour.usage != "none":
        whole["usage"] = usage
    answer = json_answer(whole)
    answer.usage = whole.get("usage")
    return answer


def _usage(request: Request, behaviour: Behaviour, *, kind: str | None) -> dict[str, Any]:
    counted = response_usage(request, behaviour, behaviour.tokens)
    usage = {name: counted[name] for name in ("input_tokens", "output_tokens", "total_tokens")}
    if kind is None:
        return usage
    details = {"audio_tokens": counted["input_tokens"], "text_tokens": 0}
    return {"type": kind, **usage, "input_token_details": details}


def _speech_events(usage: dict[str, Any], behaviour: Behaviour) -> Iterator[sse.Event]:
    sound = base64.b64encode(SOUND_PIECE).decode()
    for _ in range(behaviour.tokens):
        yield sse.Event(sse.bare({"type": "speech.audio.delta", "audio": sound}), 1)
    done = {"type": "speech.audio.done"}
    if behaviour.usage == "none":
        yield sse.Event(sse.bare(done))
    else:
        yield sse.Event(sse.bare({**done, "usage": usage}), 0, usage)


def _transcript_events(pieces: list[str], usage: dict[str, Any], behaviour: Behaviour) -> Iterator[sse.Event]:
    for piece in pieces:
        yield sse.Event(sse.bare({"type": "transcript.text.delta", "delta": piece}), 1)
    done = {"type": "transcript.text.done", "text": "".join(pieces)}
    if behaviour.usage == "none":
        yield sse.Event(sse.bare(done))
    else:
        yield sse.Event(sse.bare({**done, "usage": usage}), 0, usage)
    yield sse.Event(sse.DONE)
