"""`GET /v1/models`, `GET` and `DELETE /v1/models/{id}`."""

from typing import Any
from urllib.parse import unquote

from bench.sim import text
from bench.sim.answer import Answer, json_answer
from bench.sim.behaviour import Behaviour
from bench.sim.request import Request
from bench.sim.state import State

MODELS = (
    "gpt-5",
    "gpt-4o-2024-08-06",
    "gpt-4o-mini",
    "text-embedding-3-small",
    "omni-moderation-latest",
    "tts-1",
)


def listed(state: State, request: Request, behaviour: Behaviour) -> Answer:
    """`GET /v1/models`: all of them, since this list is never cut."""
    del state, request, behaviour
    return json_answer({"object": "list", "data": [_model(model_id) for model_id in MODELS]}, indent=True)


def retrieved(state: State, request: Request, behaviour: Behaviour) -> Answer:
    """`GET /v1/models/{model}`: any id is a model."""
    del state, behaviour
    return json_answer(_model(unquote(request.parameters[0])), indent=True)


def deleted(state: State, request: Request, behaviour: Behaviour) -> Answer:
    """`DELETE /v1/models/{model}`."""
    del state, behaviour
    return json_answer(
        {"id": unquote(request.parameters[0]), "object": "model", "deleted": True}, indent=True
    )


def _model(model_id: str) -> dict[str, Any]:
    return {"id": model_id, "object": "model", "created": text.CREATED, "owned_by": "system"}
