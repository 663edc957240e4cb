"""`POST /v1/images/generations`, `edits` and `variations`, whole and streamed.

The picture is a one-pixel PNG; `event_bytes` or `bytes` make its base64 as long as asked, since real partial
images are megabytes in a single `data:` line.
"""

from collections.abc import Iterator
from typing import Any

from bench.sim import sse, text
from bench.sim.answer import EVENT_STREAM, Answer, json_answer
from bench.sim.behaviour import Behaviour
from bench.sim.openai_api.chat import bulk_answer
from bench.sim.openai_api.token_usage import response_usage
from bench.sim.request import Request
from bench.sim.state import State

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
IMAGES_MAX = 10
PARTIAL_IMAGES_MAX = 3


def generate(state: State, request: Request, behaviour: Behaviour) -> Answer:
    """`POST /v1/images/generations` (JSON)."""
    del state
    return _answer(request, behaviour, request.document, "image_generation")


def edit(state: State, request: Request, behaviour: Behaviour) -> Answer:
    """`POST /v1/images/edits` (multipart or JSON)."""
    del state
    return _answer(request, behaviour, request.form.fields or request.document, "image_edit")


def _answer(request: Request, behaviour: Behaviour, asked: dict[str, Any], kind: str) -> Answer:
    model = str(asked.get("model") or "gpt-image-1")
    usage = _usage(request, behaviour)
    settings = {
        "background": "opaque",
        "output_format": "png",
        "quality": "high",
        "size": str(asked.get("size") or "1024x1024"),
    }
    if str(asked.get("stream", "")).lower() == "true":
        count = str(asked.get("partial_images") or "1")
        partial = min(int(count), PARTIAL_IMAGES_MAX) if count.isdecimal() else 1
        return Answer(
            content_type=EVENT_STREAM, events=lambda: _events(kind, settings, partial, usage, behaviour)
        )
    count = str(asked.get("n") or "1")
    images = [
        _image(model, asked, request) for _ in range(min(int(count) if count.isdecimal() else 1, IMAGES_MAX))
    ]
    bulk = behaviour.event_bytes or behaviour.bytes
    if bulk:
        images[0] = {"b64_json": "%%"}
    whole: dict[str, Any] = {"created": text.CREATED, **settings, "data": images}
    if behaviour.usage != "none" and not model.startswith("dall-e"):
        whole["usage"] = usage
    answer = bulk_answer(whole, bulk) if bulk else json_answer(whole, indent=True)
    answer.usage, answer.model = whole.get("usage"), model
    return answer


def _image(model: str, asked: dict[str, Any], request: Request) -> dict[str, Any]:
    if model.startswith("dall-e") and asked.get("response_format") != "b64_json":
        return {"url": f"https://images.example.org/{text.identifier('img-', 24, request.size_bytes)}.png"}
    return {"b64_json": PIXEL}


def _usage(request: Request, behaviour: Behaviour) -> dict[str, Any]:
    counted = response_usage(request, behaviour, behaviour.tokens)
    given, made = counted["input_tokens"], counted["output_tokens"]
    return {
        "input_tokens": given,
        "input_tokens_details": {"text_tokens": given, "image_tokens": 0},
        "output_tokens": made,
        "output_tokens_details": {"text_tokens": 0, "image_tokens": made},
        "total_tokens": given + made,
    }


def _events(
    kind: str, settings: dict[str, Any], partial: int, usage: dict[str, Any], behaviour: Behaviour
) -> Iterator[sse.Event]:
    size = behaviour.event_bytes or behaviour.bytes
    picture = (
        b"".join(text.bulk(size, 65_536)).decode().replace(" ", "A").replace(".", "/") if size else PIXEL
    )
    base = {**settings, "created_at": text.CREATED, "b64_json": picture}
    for index in range(partial):
        name = f"{kind}.partial_image"
        yield sse.Event(sse.named(name, {"type": name, **base, "partial_image_index": index}, pad=False), 1)
    name = f"{kind}.completed"
    reported = usage if behaviour.usage != "none" else None
    payload = {"type": name, **base} if reported is None else {"type": name, **base, "usage": reported}
    yield sse.Event(sse.named(name, payload, pad=False), 0, reported)
