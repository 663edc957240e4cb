"""Message batches: created in progress, ended at a later look, results as JSON lines.

A batch ends after the `polls` looks its creator's behaviour asks for (none by default: the first retrieval
finds it ended). `results_url` is absolute, at the simulator's own origin, exactly as the real one points at
its own.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from bench.sim import fields, text
from bench.sim.answer import Answer, json_answer
from bench.sim.anthropic_api.messages import whole_message
from bench.sim.anthropic_api.plan import plan_message
from bench.sim.behaviour import Behaviour, of_request
from bench.sim.errors import Invalid
from bench.sim.paging import page
from bench.sim.request import Request
from bench.sim.state import State

KIND = "message_batch"
RESULTS_CONTENT_TYPE = b"application/x-jsonl"
REQUESTS_MAX = 100_000


def create(state: State, request: Request, behaviour: Behaviour) -> Answer:
    """`POST /v1/messages/batches`."""
    requests = fields.items(request.document, "requests")
    if not 0 < len(requests) <= REQUESTS_MAX:
        raise Invalid("requests: Field required")
    if not all(isinstance(one, dict) and isinstance(one.get("custom_id"), str) for one in requests):
        raise Invalid("requests.0.custom_id: Field required")
    batch_id = state.new_id(KIND, "msgbatch_01", 22, request.sha256())
    batch = {
        "id": batch_id,
        "requests": requests,
        "polls": behaviour.polls,
        "canceled": False,
        "status": "in_progress",
    }
    state.put(KIND, batch_id, batch)
    return json_answer(_document(state, batch))


def retrieved(state: State, request: Request, behaviour: Behaviour) -> Answer:
    """`GET /v1/messages/batches/{id}`: each look brings the end nearer."""
    del behaviour
    batch = _find(state, request)
    if batch["polls"] > 0:
        batch["polls"] -= 1
    else:
        batch["status"] = "ended"
    return json_answer(_document(state, batch))


def listed(state: State, request: Request, behaviour: Behaviour) -> Answer:
    """`GET /v1/messages/batches`."""
    del behaviour
    return json_answer(page(request, [_document(state, batch) for batch in state.listed(KIND)]))


def cancel(state: State, request: Request, behaviour: Behaviour) -> Answer:
    """`POST /v1/messages/batches/{id}/cancel`."""
    del behaviour
    batch = _find(state, request)
    if batch["status"] != "ended":
        batch["status"], batch["canceled"] = "canceling", True
    return json_answer(_document(state, batch))


def deleted(state: State, request: Request, behaviour: Behaviour) -> Answer:
    """`DELETE /v1/messages/batches/{id}`."""
    del behaviour
    batch = _find(state, request)
    state.remove(KIND, batch["id"])
    return json_answer({"id": batch["id"], "type": "message_batch_deleted"})


def results(state: State, request: Request, behaviour: Behaviour) -> Answer:
    """`GET /v1/messages/batches/{id}/results`: JSON lines, made one by one; length unknown, so chunked."""
    batch = _find(state, request)
    if batch["status"] != "ended":
        raise Invalid(f"Batch {batch['id']} has no results: it is still {batch['status']}.", 404)
    header = request.header_map.get(b"x-sim-behaviour")

    def lines() -> Iterator[bytes]:
        for one in batch["requests"]:
            result = {
                "custom_id": one["custom_id"],
                "result": _result(one, header, canceled=batch["canceled"]),
            }
            yield msgspec.json.encode(result) + b"\n"

    if behaviour.malformed == "json":
        return Answer(content_type=RESULTS_CONTENT_TYPE, body=b"".join(lines()))
    return Answer(content_type=RESULTS_CONTENT_TYPE, pieces=lines)


def _result(one: dict[str, Any], header: bytes | None, *, canceled: bool) -> dict[str, Any]:
    if canceled:
        return {"type": "canceled"}
    document = fields.nested(one, "params")
    try:
        behaviour = of_request(fields.string(document, "model"), header)
        plan = plan_message(Request.inner("/v1/messages", document), document, behaviour)
    except ValueError as error:
        refused = {"type": "invalid_request_error", "message": str(error)}
        return {"type": "errored", "error": {"type": "error", "error": refused, "request_id": None}}
    plan.final_usage["service_tier"] = "batch"
    return {"type": "succeeded", "message": whole_message(plan, behaviour)}


def _find(state: State, request: Request) -> dict[str, Any]:
    return state.get(KIND, request.parameters[0], _made_up)


def _made_up(batch_id: str) -> dict[str, Any]:
    """An ended batch of one request, for an id nobody created."""
    said = {"role": "user", "content": "hello"}
    params = {"model": "claude-haiku-4-5", "max_tokens": 64, "messages": [said]}
    requests = [{"custom_id": "request-1", "params": params}]
    return {"id": batch_id, "requests": requests, "polls": 0, "canceled": False, "status": "ended"}


def _document(state: State, batch: dict[str, Any]) -> dict[str, Any]:
    ended, canceled, count = batch["status"] == "ended", batch["canceled"], len(batch["requests"])
    url = f"{state.origin}/v1/messages/batches/{batch['id']}/results"
    return {
        "id": batch["id"],
        "type": "message_batch",
        "processing_status": batch["status"],
        "request_counts": {
            "processing": 0 if ended else count,
            "succeeded": count if ended and not canceled else 0,
            "errored": 0,
            "canceled": count if ended and canceled else 0,
            "expired": 0,
        },
        "ended_at": text.CREATED_RFC3339 if ended else None,
        "created_at": text.CREATED_RFC3339,
        "expires_at": text.EXPIRES_RFC3339,
        "archived_at": None,
        "cancel_initiated_at": text.CREATED_RFC3339 if canceled else None,
        "results_url": url if ended else None,
    }
