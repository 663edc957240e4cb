"""`/v1/responses`: create (whole, streamed, in the background), retrieve, resume, cancel, delete, input
items.

A background response is queued at first and ends after the `polls` looks its behaviour asks for (none by
default).
"""

from typing import Any

from bench.sim import fields, text
from bench.sim.answer import EVENT_STREAM, Answer, json_answer
from bench.sim.behaviour import PLAIN, Behaviour
from bench.sim.openai_api.chat import bulk_answer
from bench.sim.openai_api.response_plan import Plan, plan_response, whole_response
from bench.sim.openai_api.response_stream import response_events
from bench.sim.openai_api.token_usage import response_usage
from bench.sim.paging import page
from bench.sim.request import Request
from bench.sim.state import State

KIND = "response"
PREPARED_TOKENS_MAX = 2_000


def create(state: State, request: Request, behaviour: Behaviour) -> Answer:
    """`POST /v1/responses`."""
    document = request.document
    plan = plan_response(request, document, behaviour)
    kept = {
        "id": plan.base["id"],
        "plan": plan,
        "status": plan.status,
        "polls": 0,
        "input": document.get("input"),
    }
    if document.get("background") is True:
        kept |= {"status": "queued", "polls": behaviour.polls}
    stored = document.get("store") is not False
    if stored:
        state.put(KIND, plan.base["id"], kept)
    bulk = behaviour.event_bytes or behaviour.bytes
    if document.get("stream") is True:
        answer = _streamed(plan, document, bulk)
    elif bulk:
        answer = _bulk(plan, bulk)
    else:
        answer = json_answer(whole_response(plan, kept["status"]), indent=True)
        answer.usage = whole_response(plan, kept["status"])["usage"]
    # A stored response must be stored again should it have been deleted.
    answer.repeatable = not stored and not callable(answer.events) and answer.pieces is None
    answer.model = plan.base["model"]
    answer.tokens = plan.usage["output_tokens"]
    return answer


def retrieved(state: State, request: Request, behaviour: Behaviour) -> Answer:
    """`GET /v1/responses/{id}`, also with `stream=true&starting_after=n`."""
    del behaviour
    kept = _find(state, request)
    plan: Plan = kept["plan"]
    if request.asked("stream") == "true":
        after = request.asked("starting_after")
        kept["status"] = plan.status if kept["status"] != "cancelled" else "cancelled"
        number = int(after) if after.isdigit() else -1
        return Answer(content_type=EVENT_STREAM, events=list(response_events(plan, after=number)))
    if kept["status"] in ("queued", "in_progress"):
        if kept["polls"] > 0:
            kept["polls"] -= 1
            kept["status"] = "in_progress"
        else:
            kept["status"] = plan.status
    document = whole_response(plan, kept["status"])
    answer = json_answer(document, indent=True)
    answer.usage, answer.model = document["usage"], plan.base["model"]
    return answer


def deleted(state: State, request: Request, behaviour: Behaviour) -> Answer:
    """`DELETE /v1/responses/{id}`."""
    del behaviour
    kept = _find(state, request)
    state.remove(KIND, kept["id"])
    return json_answer({"id": kept["id"], "object": "response", "deleted": True}, indent=True)


def cancel(state: State, request: Request, behaviour: Behaviour) -> Answer:
    """`POST /v1/responses/{id}/cancel`: a response that has ended stays as it is."""
    del behaviour
    kept = _find(state, request)
    if kept["status"] in ("queued", "in_progress"):
        kept["status"] = "cancelled"
    return json_answer(whole_response(kept["plan"], kept["status"]), indent=True)


def input_items(state: State, request: Request, behaviour: Behaviour) -> Answer:
    """`GET /v1/responses/{id}/input_items`."""
    del behaviour
    given = _find(state, request)["input"]
    items = given if isinstance(given, list) else [{"role": "user", "content": str(given or "")}]
    return json_answer(page(request, [_item(one, index) for index, one in enumerate(items)]), indent=True)


def input_tokens(state: State, request: Request, behaviour: Behaviour) -> Answer:
    """`POST /v1/responses/input_tokens`."""
    del state
    count = response_usage(request, behaviour, 0)["input_tokens"]
    return json_answer({"object": "response.input_tokens", "input_tokens": count}, indent=True)


def compact(state: State, request: Request, behaviour: Behaviour) -> Answer:
    """`POST /v1/responses/compact`."""
    del state
    plan = plan_response(request, request.document, behaviour)
    document = {
        "id": plan.base["id"],
        "object": "response.compaction",
        "created_at": text.CREATED,
        "output": [item.whole for item in plan.items],
        "usage": plan.usage,
    }
    answer = json_answer(document, indent=True)
    answer.usage, answer.model = plan.usage, plan.base["model"]
    return answer


def _streamed(plan: Plan, document: dict[str, Any], bulk: int) -> Answer:
    obfuscate = fields.nested(document, "stream_options").get("include_obfuscation") is not False
    answer = Answer(content_type=EVENT_STREAM)
    if bulk or plan.behaviour.tokens > PREPARED_TOKENS_MAX:
        answer.events = lambda: response_events(plan, obfuscate=obfuscate)
    else:
        answer.events = list(response_events(plan, obfuscate=obfuscate))
    return answer


def _bulk(plan: Plan, size: int) -> Answer:
    document = whole_response(plan)
    message = document["output"][-1]
    part = {"type": "output_text", "annotations": [], "logprobs": [], "text": "%%"}
    document["output"] = [{**message, "content": [part]}]
    answer = bulk_answer(document, size)
    answer.usage = document["usage"]
    return answer


def _find(state: State, request: Request) -> dict[str, Any]:
    return state.get(KIND, request.parameters[0], _made_up)


def _made_up(response_id: str) -> dict[str, Any]:
    """A completed response for an id nobody created."""
    document = {"model": "gpt-4o-mini", "input": "hello"}
    plan = plan_response(Request.inner("/v1/responses", document), document, PLAIN)
    plan.base["id"] = response_id
    return {"id": response_id, "plan": plan, "status": "completed", "polls": 0, "input": "hello"}


def _item(one: Any, index: int) -> dict[str, Any]:
    given = one if isinstance(one, dict) else {"role": "user", "content": str(one)}
    content = given.get("content", "")
    parts = [{"type": "input_text", "text": content}] if isinstance(content, str) else content
    made = {"id": text.hex_identifier("msg_", 48, index, str(content)), "type": "message", "role": "user"}
    return {**made, "status": "completed", **given, "content": parts}
