"""Vector stores, their files, file batches and search. Everything is indexed at once; search finds every
file."""

from typing import Any

from bench.sim import fields, text
from bench.sim.answer import Answer, json_answer
from bench.sim.behaviour import Behaviour
from bench.sim.paging import page
from bench.sim.request import Request
from bench.sim.state import State

KIND = "vector_store"
FILES = "vector_store.file"
BATCHES = "vector_store.files_batch"


def create(state: State, request: Request, behaviour: Behaviour) -> Answer:
    """`POST /v1/vector_stores`."""
    del behaviour
    asked = request.document
    store = _store(state.new_id(KIND, "vs_", 24, request.body), str(asked.get("name") or ""))
    store |= {"metadata": asked.get("metadata") or {}, "expires_after": asked.get("expires_after")}
    state.put(KIND, store["id"], store)
    for file_id in fields.items(asked, "file_ids"):
        _attach(state, store["id"], str(file_id), None)
    return json_answer(_counted(state, store), indent=True)


def listed(state: State, request: Request, behaviour: Behaviour) -> Answer:
    """`GET /v1/vector_stores`."""
    del behaviour
    return json_answer(page(request, [_counted(state, store) for store in state.listed(KIND)]), indent=True)


def retrieved(state: State, request: Request, behaviour: Behaviour) -> Answer:
    """`GET /v1/vector_stores/{id}`."""
    del behaviour
    return json_answer(_counted(state, _find(state, request)), indent=True)


def modified(state: State, request: Request, behaviour: Behaviour) -> Answer:
    """`POST /v1/vector_stores/{id}`."""
    del behaviour
    store = _find(state, request)
    store |= {
        name: request.document[name]
        for name in ("name", "metadata", "expires_after")
        if name in request.document
    }
    return json_answer(_counted(state, store), indent=True)


def deleted(state: State, request: Request, behaviour: Behaviour) -> Answer:
    """`DELETE /v1/vector_stores/{id}`."""
    del behaviour
    store = _find(state, request)
    state.remove(KIND, store["id"])
    return json_answer({"id": store["id"], "object": "vector_store.deleted", "deleted": True}, indent=True)


def search(state: State, request: Request, behaviour: Behaviour) -> Answer:
    """`POST /v1/vector_stores/{id}/search`."""
    del behaviour
    store = _find(state, request)
    found = [
        {
            "file_id": file["id"],
            "filename": f"{file['id']}.txt",
            "score": 0.87,
            "attributes": file["attributes"],
            "content": [{"type": "text", "text": " ".join(text.tokens(1, 8))}],
        }
        for file in _files(state, store["id"])
    ]
    query = request.document.get("query")
    page_of = {
        "object": "vector_store.search_results.page",
        "search_query": query if isinstance(query, list) else [query],
    }
    return json_answer({**page_of, "data": found, "has_more": False, "next_page": None}, indent=True)


def add_file(state: State, request: Request, behaviour: Behaviour) -> Answer:
    """`POST /v1/vector_stores/{id}/files`."""
    del behaviour
    asked = request.document
    file = _attach(state, request.parameters[0], str(asked.get("file_id")), asked.get("attributes"))
    return json_answer(file, indent=True)


def list_files(state: State, request: Request, behaviour: Behaviour) -> Answer:
    """`GET /v1/vector_stores/{id}/files` and `…/file_batches/{batch_id}/files`."""
    del behaviour
    return json_answer(page(request, _files(state, request.parameters[0])), indent=True)


def get_file(state: State, request: Request, behaviour: Behaviour) -> Answer:
    """`GET /v1/vector_stores/{id}/files/{file_id}`."""
    del behaviour
    return json_answer(_find_file(state, request), indent=True)


def modify_file(state: State, request: Request, behaviour: Behaviour) -> Answer:
    """`POST /v1/vector_stores/{id}/files/{file_id}`."""
    del behaviour
    file = _find_file(state, request)
    file["attributes"] = request.document.get("attributes") or {}
    return json_answer(file, indent=True)


def delete_file(state: State, request: Request, behaviour: Behaviour) -> Answer:
    """`DELETE /v1/vector_stores/{id}/files/{file_id}`."""
    del behaviour
    file = _find_file(state, request)
    state.remove(FILES, f"{request.parameters[0]}/{file['id']}")
    return json_answer(
        {"id": file["id"], "object": "vector_store.file.deleted", "deleted": True}, indent=True
    )


def file_text(state: State, request: Request, behaviour: Behaviour) -> Answer:
    """`GET /v1/vector_stores/{id}/files/{file_id}/content`."""
    del behaviour
    _find_file(state, request)
    parts = [{"type": "text", "text": "".join(text.tokens(1, 8))}]
    kind = "vector_store.file_content.page"
    return json_answer({"object": kind, "data": parts, "has_more": False, "next_page": None}, indent=True)


def create_batch(state: State, request: Request, behaviour: Behaviour) -> Answer:
    """`POST /v1/vector_stores/{id}/file_batches`."""
    del behaviour
    asked, store_id = request.document, request.parameters[0]
    listed_files = fields.objects(asked, "files") or [
        {"file_id": file_id} for file_id in fields.items(asked, "file_ids")
    ]
    for one in listed_files:
        _attach(state, store_id, str(one.get("file_id")), one.get("attributes"))
    batch = _batch(state.new_id(BATCHES, "vsfb_", 24, store_id, request.body), store_id, len(listed_files))
    state.put(BATCHES, batch["id"], batch)
    return json_answer(batch, indent=True)


def get_batch(state: State, request: Request, behaviour: Behaviour) -> Answer:
    """`GET /v1/vector_stores/{id}/file_batches/{batch_id}`, and `POST …/cancel`, which comes too late."""
    del behaviour
    store_id, batch_id = request.parameters
    return json_answer(state.get(BATCHES, batch_id, lambda i: _batch(i, store_id, 0)), indent=True)


def _find(state: State, request: Request) -> dict[str, Any]:
    return state.get(KIND, request.parameters[0], lambda i: _store(i, "made up"))


def _find_file(state: State, request: Request) -> dict[str, Any]:
    store_id, file_id = request.parameters
    return state.get(FILES, f"{store_id}/{file_id}", lambda _: _file(store_id, file_id, None))


def _files(state: State, store_id: str) -> list[dict[str, Any]]:
    return [file for file in state.listed(FILES) if file["vector_store_id"] == store_id]


def _attach(state: State, store_id: str, file_id: str, attributes: object) -> dict[str, Any]:
    file = _file(store_id, file_id, attributes)
    state.put(FILES, f"{store_id}/{file_id}", file)
    return file


def _counts(completed: int) -> dict[str, int]:
    return {"in_progress": 0, "completed": completed, "cancelled": 0, "failed": 0, "total": completed}


def _counted(state: State, store: dict[str, Any]) -> dict[str, Any]:
    files = _files(state, store["id"])
    return {
        **store,
        "file_counts": _counts(len(files)),
        "usage_bytes": sum(file["usage_bytes"] for file in files),
    }


def _store(store_id: str, name: str) -> dict[str, Any]:
    return {
        "id": store_id,
        "object": "vector_store",
        "created_at": text.CREATED,
        "last_active_at": text.CREATED,
        "name": name,
        "description": None,
        "status": "completed",
        "expires_after": None,
        "expires_at": None,
        "metadata": {},
        "usage_bytes": 0,
        "file_counts": _counts(0),
    }


def _file(store_id: str, file_id: str, attributes: object) -> dict[str, Any]:
    strategy = {"type": "static", "static": {"max_chunk_size_tokens": 800, "chunk_overlap_tokens": 400}}
    return {
        "id": file_id,
        "object": FILES,
        "usage_bytes": 1_234,
        "created_at": text.CREATED,
        "vector_store_id": store_id,
        "status": "completed",
        "last_error": None,
        "chunking_strategy": strategy,
        "attributes": attributes or {},
    }


def _batch(batch_id: str, store_id: str, count: int) -> dict[str, Any]:
    made = {"id": batch_id, "object": BATCHES, "created_at": text.CREATED, "vector_store_id": store_id}
    return {**made, "status": "completed", "file_counts": _counts(count)}
