"""OpenAI's batches: a file of requests in, a file of answers out.

Created `validating`; ended after the `polls` looks the creator's behaviour asks for (none by default). The
output file is made by really calling the simulated endpoints, one line of the input file at a time.
"""

from typing import Any

import msgspec

from bench.sim import fields, text
from bench.sim.answer import Answer, json_answer
from bench.sim.behaviour import Behaviour, of_request
from bench.sim.openai_api import chat, completions, embeddings, responses
from bench.sim.openai_api.files import keep_file
from bench.sim.paging import page
from bench.sim.request import Request
from bench.sim.state import State

KIND = "batch"
CALLS = {
    "/v1/chat/completions": chat.create,
    "/v1/completions": completions.create,
    "/v1/embeddings": embeddings.create,
    "/v1/moderations": embeddings.moderate,
    "/v1/responses": responses.create,
}


def create(state: State, request: Request, behaviour: Behaviour) -> Answer:
    """`POST /v1/batches`."""
    asked = request.document
    batch = _batch(state.new_id(KIND, "batch_", 24, request.body), str(asked.get("input_file_id")))
    batch |= {"endpoint": asked.get("endpoint", "/v1/chat/completions"), "metadata": asked.get("metadata")}
    batch |= {"completion_window": asked.get("completion_window", "24h")}
    state.put(KIND, batch["id"], {"id": batch["id"], "batch": batch, "polls": behaviour.polls})
    return json_answer(batch, indent=True)


def retrieved(state: State, request: Request, behaviour: Behaviour) -> Answer:
    """`GET /v1/batches/{batch_id}`: each look brings the end nearer."""
    del behaviour
    kept = _find(state, request)
    batch = kept["batch"]
    if batch["status"] in ("validating", "in_progress"):
        if kept["polls"] > 0:
            kept["polls"] -= 1
            batch |= {"status": "in_progress", "in_progress_at": text.CREATED}
        else:
            _run(state, batch)
    return json_answer(batch, indent=True)


def listed(state: State, request: Request, behaviour: Behaviour) -> Answer:
    """`GET /v1/batches`."""
    del behaviour
    return json_answer(page(request, [kept["batch"] for kept in state.listed(KIND)]), indent=True)


def cancel(state: State, request: Request, behaviour: Behaviour) -> Answer:
    """`POST /v1/batches/{batch_id}/cancel`."""
    del behaviour
    batch = _find(state, request)["batch"]
    if batch["status"] != "completed":
        batch |= {"status": "cancelled", "cancelling_at": text.CREATED, "cancelled_at": text.CREATED}
    return json_answer(batch, indent=True)


def _run(state: State, batch: dict[str, Any]) -> None:
    lines = (state.content(batch["input_file_id"]) or b"").splitlines()
    answers = [_call(state, line, index) for index, line in enumerate(lines) if line.strip()]
    failed = sum(answer["response"]["status_code"] != 200 for answer in answers)
    output = b"".join(msgspec.json.encode(answer) + b"\n" for answer in answers)
    file = keep_file(state, f"{batch['id']}_output.jsonl", "batch_output", len(output), output)
    counts = {"total": len(answers), "completed": len(answers) - failed, "failed": failed}
    ended = {"status": "completed", "completed_at": text.CREATED, "finalizing_at": text.CREATED}
    batch |= {**ended, "output_file_id": file["id"], "request_counts": counts}


def _call(state: State, line: bytes, index: int) -> dict[str, Any]:
    """One line of the input file answered as a line of the output file."""
    custom_id, status, body = None, 200, b"{}"
    try:
        document = msgspec.json.decode(line)
        custom_id = document.get("custom_id")
        asked = document["body"]
        answer = CALLS[document["url"]](
            state, Request.inner(document["url"], asked), of_request(fields.string(asked, "model"), None)
        )
        body = answer.body
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        status, body = (
            400,
            msgspec.json.encode({"error": {"message": str(error), "type": "invalid_request_error"}}),
        )
    request_id = text.hex_identifier("req_", 32, custom_id, index)
    response = {"status_code": status, "request_id": request_id, "body": msgspec.json.decode(body)}
    made = text.identifier("batch_req_", 24, custom_id, index)
    return {"id": made, "custom_id": custom_id, "response": response, "error": None}


def _find(state: State, request: Request) -> dict[str, Any]:
    return state.get(
        KIND, request.parameters[0], lambda i: {"id": i, "batch": _batch(i, "file-made-up"), "polls": 0}
    )


def _batch(batch_id: str, input_file_id: str) -> dict[str, Any]:
    moments = ("in_progress_at", "finalizing_at", "completed_at", "failed_at", "expired_at", "cancelling_at")
    return {
        "id": batch_id,
        "object": "batch",
        "endpoint": "/v1/chat/completions",
        "errors": None,
        "input_file_id": input_file_id,
        "completion_window": "24h",
        "status": "validating",
        "output_file_id": None,
        "error_file_id": None,
        "created_at": text.CREATED,
        "expires_at": text.CREATED + 86_400,
        **dict.fromkeys(moments),
        "cancelled_at": None,
        "request_counts": {"total": 0, "completed": 0, "failed": 0},
        "metadata": None,
    }
