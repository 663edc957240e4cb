"""A plausible answer for every operation that has none of its own: some 600 of them.

An object that says what was called, in the API's own shapes for objects, lists, deletions, binary content and
streams, so that a relay can be shown to have forwarded method, path and query untouched.
"""

from typing import Any

from bench.sim import sse
from bench.sim.answer import EVENT_STREAM, Answer, json_answer
from bench.sim.behaviour import Behaviour
from bench.sim.paging import page
from bench.sim.request import Request
from bench.sim.state import State
from bench.sim.text import CREATED, CREATED_RFC3339, bulk, identifier

BINARY_BYTES = 2_048
BINARY = bytes(range(256)) * (BINARY_BYTES // 256)
"""Every byte value, so that a relay which decodes text breaks."""
LISTED_OBJECTS = 2
STREAMED_EVENTS = 4


def answer(state: State, request: Request, behaviour: Behaviour, flag: str) -> Answer:
    """The generic answer of the called operation; `flag` is its letter in `paths.txt`."""
    del state
    if flag == "e":
        return Answer(status=200, content_type=b"application/json")
    if flag == "b":
        return binary(behaviour)
    wants_events = request.method in ("GET", "HEAD") and "text/event-stream" in request.header(b"accept")
    if flag == "s" or wants_events:
        return _stream(request)
    if request.method == "DELETE":
        return json_answer(deletion(request))
    document = _object(request, 0)
    if flag == "l":
        document = page(request, [_object(request, index) for index in range(LISTED_OBJECTS)])
    return json_answer(document, indent=request.dialect == "openai")


def binary(behaviour: Behaviour, content_type: bytes = b"application/octet-stream") -> Answer:
    """A file's content: every byte value, or `bytes` of filler."""
    if behaviour.bytes:
        size = behaviour.bytes
        return Answer(content_type=content_type, pieces=lambda: bulk(size, 65_536), length=size)
    return Answer(content_type=content_type, body=BINARY)


def deletion(request: Request) -> dict[str, Any]:
    """What the API says of a deleted object."""
    gone = request.parameters[-1] if request.parameters else _noun(request.template)
    if request.dialect == "openai":
        return {"id": gone, "object": f"{_noun(request.template)}.deleted", "deleted": True}
    return {"id": gone, "type": f"{_noun(request.template)}_deleted"}


def _noun(template: str) -> str:
    """`/v1/vaults/{id}/credentials/{id}` → `credential`."""
    literal = [segment for segment in template.split("/") if segment and not segment.startswith("{")]
    return literal[-1].removesuffix("s")


def _object(request: Request, index: int) -> dict[str, Any]:
    noun = _noun(request.template)
    named = request.parameters[-1] if request.parameters and request.template.endswith("}") else None
    made = identifier(f"{noun}_", 24, request.method, request.path, index)
    echo: dict[str, Any] = {
        "method": request.method,
        "path": request.path,
        "query": request.query,
        "body_bytes": request.size_bytes,
    }
    if request.dialect == "openai":
        return {"id": named or made, "object": noun, "created_at": CREATED, "status": "completed", **echo}
    return {"id": named or made, "type": noun, "created_at": CREATED_RFC3339, **echo}


def _stream(request: Request) -> Answer:
    events = [
        sse.Event(
            sse.named("event", {"type": "event", "sequence_number": index, "path": request.path}, pad=False),
            1,
        )
        for index in range(STREAMED_EVENTS)
    ]
    return Answer(content_type=EVENT_STREAM, events=events)
