"""OpenAI's files and uploads: in one piece, or in parts put together."""

from typing import Any

from bench.sim import fields, text
from bench.sim.answer import Answer, json_answer
from bench.sim.anthropic_api.files import KIND, file_content
from bench.sim.behaviour import Behaviour
from bench.sim.errors import Invalid
from bench.sim.generic import BINARY
from bench.sim.paging import page
from bench.sim.request import Request
from bench.sim.state import State

UPLOAD = "upload"
PART = "upload.part"
EXPIRES = text.CREATED + 86_400


def create(state: State, request: Request, behaviour: Behaviour) -> Answer:
    """`POST /v1/files` (multipart: `purpose`, `file`)."""
    del behaviour
    if not request.form.files:
        raise Invalid("'file' is a required property")
    sent = request.form.files[0]
    purpose = request.form.fields.get("purpose", "user_data")
    return json_answer(keep_file(state, sent.filename, purpose, sent.size_bytes, sent.content), indent=True)


def keep_file(
    state: State, filename: str, purpose: str, size_bytes: int, content: bytes | None
) -> dict[str, Any]:
    """A new file object with this content (None: too long to keep)."""
    file_id = state.new_id(KIND, "file-", 22, filename, purpose, size_bytes, content)
    document = _file(file_id, filename, purpose, size_bytes)
    state.put(KIND, file_id, document)
    if content is not None:
        state.put_content(file_id, content)
    return document


def listed(state: State, request: Request, behaviour: Behaviour) -> Answer:
    """`GET /v1/files[?purpose=…]`."""
    del behaviour
    purpose = request.asked("purpose")
    files = [one for one in state.listed(KIND) if not purpose or one.get("purpose") == purpose]
    return json_answer(page(request, files), indent=True)


def retrieved(state: State, request: Request, behaviour: Behaviour) -> Answer:
    """`GET /v1/files/{file_id}`."""
    del behaviour
    return json_answer(find_file(state, request.parameters[0]), indent=True)


def content(state: State, request: Request, behaviour: Behaviour) -> Answer:
    """`GET /v1/files/{file_id}/content`."""
    found = find_file(state, request.parameters[0])
    return file_content(state, found["id"], found["bytes"], behaviour)


def deleted(state: State, request: Request, behaviour: Behaviour) -> Answer:
    """`DELETE /v1/files/{file_id}`."""
    del behaviour
    found = find_file(state, request.parameters[0])
    state.remove(KIND, found["id"])
    return json_answer({"id": found["id"], "object": "file", "deleted": True}, indent=True)


def find_file(state: State, file_id: str) -> dict[str, Any]:
    """The file, or a made-up one for an id never seen."""
    return state.get(KIND, file_id, lambda i: _file(i, "file.bin", "user_data", len(BINARY)))


def create_upload(state: State, request: Request, behaviour: Behaviour) -> Answer:
    """`POST /v1/uploads`."""
    del behaviour
    asked = request.document
    document: dict[str, Any] = {
        "id": state.new_id(UPLOAD, "upload_", 24, request.body),
        "object": "upload",
        "bytes": fields.number(asked, "bytes") or 0,
        "created_at": text.CREATED,
        "expires_at": EXPIRES,
        "filename": fields.string(asked, "filename", "upload.bin"),
        "purpose": fields.string(asked, "purpose", "user_data"),
        "status": "pending",
        "file": None,
    }
    state.put(UPLOAD, document["id"], document)
    return json_answer(document, indent=True)


def add_part(state: State, request: Request, behaviour: Behaviour) -> Answer:
    """`POST /v1/uploads/{upload_id}/parts` (multipart: `data`)."""
    del behaviour
    upload = _find_upload(state, request)
    if not request.form.files:
        raise Invalid("'data' is a required property")
    sent = request.form.files[0]
    part_id = state.new_id(PART, "part_", 24, upload["id"], sent.size_bytes, sent.content)
    document = {"id": part_id, "object": PART, "created_at": text.CREATED, "upload_id": upload["id"]}
    state.put(PART, part_id, {**document, "size_bytes": sent.size_bytes})
    if sent.content is not None:
        state.put_content(part_id, sent.content)
    return json_answer(document, indent=True)


def complete_upload(state: State, request: Request, behaviour: Behaviour) -> Answer:
    """`POST /v1/uploads/{upload_id}/complete`: the parts, in the order given, are the file."""
    del behaviour
    upload = _find_upload(state, request)
    part_ids = [str(part_id) for part_id in fields.items(request.document, "part_ids")]
    contents = [state.content(part_id) for part_id in part_ids]
    parts = [state.find(PART, part_id) or {"size_bytes": 0} for part_id in part_ids]
    whole = None if None in contents else b"".join(one for one in contents if one is not None)
    size = sum(int(part["size_bytes"]) for part in parts)
    upload["file"] = keep_file(state, upload["filename"], upload["purpose"], size, whole)
    upload["status"] = "completed"
    return json_answer(upload, indent=True)


def cancel_upload(state: State, request: Request, behaviour: Behaviour) -> Answer:
    """`POST /v1/uploads/{upload_id}/cancel`."""
    del behaviour
    upload = _find_upload(state, request)
    upload["status"] = "cancelled"
    return json_answer(upload, indent=True)


def _find_upload(state: State, request: Request) -> dict[str, Any]:
    return state.get(UPLOAD, request.parameters[0], _made_up_upload)


def _made_up_upload(upload_id: str) -> dict[str, Any]:
    named = {
        "id": upload_id,
        "object": "upload",
        "bytes": 0,
        "filename": "upload.bin",
        "purpose": "user_data",
    }
    return {**named, "created_at": text.CREATED, "expires_at": EXPIRES, "status": "pending", "file": None}


def _file(file_id: str, filename: str, purpose: str, size_bytes: int) -> dict[str, Any]:
    return {
        "id": file_id,
        "object": "file",
        "bytes": size_bytes,
        "created_at": text.CREATED,
        "expires_at": None,
        "filename": filename,
        "purpose": purpose,
        "status": "processed",
        "status_details": None,
    }
