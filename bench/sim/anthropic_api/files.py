"""Anthropic's files: upload, list, metadata, content, delete."""

from typing import Any

from bench.sim import text
from bench.sim.answer import Answer, json_answer
from bench.sim.behaviour import Behaviour
from bench.sim.errors import Invalid
from bench.sim.generic import BINARY, binary
from bench.sim.paging import page
from bench.sim.request import Request
from bench.sim.state import State

KIND = "file"


def upload(state: State, request: Request, behaviour: Behaviour) -> Answer:
    """`POST /v1/files` (multipart, field `file`)."""
    del behaviour
    if not request.form.files:
        raise Invalid("file: Field required")
    sent = request.form.files[0]
    file_id = state.new_id(KIND, "file_011C", 20, sent.filename, sent.size_bytes, sent.content)
    document = _metadata(file_id, sent.filename, sent.content_type, sent.size_bytes)
    state.put(KIND, file_id, document)
    if sent.content is not None:
        state.put_content(file_id, sent.content)
    return json_answer(document)


def listed(state: State, request: Request, behaviour: Behaviour) -> Answer:
    """`GET /v1/files`."""
    del behaviour
    return json_answer(page(request, state.listed(KIND)))


def retrieved(state: State, request: Request, behaviour: Behaviour) -> Answer:
    """`GET /v1/files/{file_id}`."""
    del behaviour
    return json_answer(_find(state, request))


def content(state: State, request: Request, behaviour: Behaviour) -> Answer:
    """`GET /v1/files/{file_id}/content`."""
    return file_content(state, request.parameters[0], _find(state, request)["size_bytes"], behaviour)


def deleted(state: State, request: Request, behaviour: Behaviour) -> Answer:
    """`DELETE /v1/files/{file_id}`."""
    del behaviour
    document = _find(state, request)
    state.remove(KIND, document["id"])
    return json_answer({"id": document["id"], "type": "file_deleted"})


def file_content(state: State, file_id: str, size_bytes: int, behaviour: Behaviour) -> Answer:
    """The bytes of a file: as uploaded, or filler of its size when it was too long to keep."""
    kept = state.content(file_id)
    if kept is not None and not behaviour.bytes:
        return Answer(content_type=b"application/octet-stream", body=kept)
    if state.find(KIND, file_id) is None or behaviour.bytes:
        return binary(behaviour)
    return Answer(
        content_type=b"application/octet-stream",
        pieces=lambda: text.bulk(size_bytes, 65_536),
        length=size_bytes,
    )


def _find(state: State, request: Request) -> dict[str, Any]:
    return state.get(
        KIND,
        request.parameters[0],
        lambda i: _metadata(i, "file.bin", "application/octet-stream", len(BINARY)),
    )


def _metadata(file_id: str, filename: str, mime_type: str, size_bytes: int) -> dict[str, Any]:
    return {
        "type": "file",
        "id": file_id,
        "filename": filename,
        "mime_type": mime_type,
        "size_bytes": size_bytes,
        "created_at": text.CREATED_RFC3339,
        "downloadable": True,
    }
