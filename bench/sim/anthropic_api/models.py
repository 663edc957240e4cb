"""`GET /v1/models` and `GET /v1/models/{id}`."""

from typing import Any
from urllib.parse import unquote

from bench.sim import text
from bench.sim.answer import Answer, json_answer
from bench.sim.behaviour import Behaviour
from bench.sim.paging import page
from bench.sim.request import Request
from bench.sim.state import State

MODELS = {
    "claude-opus-4-5-20251101": "Claude Opus 4.5",
    "claude-sonnet-4-5-20250929": "Claude Sonnet 4.5",
    "claude-haiku-4-5-20251001": "Claude Haiku 4.5",
}


def listed(state: State, request: Request, behaviour: Behaviour) -> Answer:
    """`GET /v1/models`."""
    del state, behaviour
    return json_answer(page(request, [_model(model_id) for model_id in MODELS]))


def retrieved(state: State, request: Request, behaviour: Behaviour) -> Answer:
    """`GET /v1/models/{model_id}`: any id is a model."""
    del state, behaviour
    return json_answer(_model(unquote(request.parameters[0])))


def _model(model_id: str) -> dict[str, Any]:
    return {
        "type": "model",
        "id": model_id,
        "display_name": MODELS.get(model_id, model_id),
        "created_at": text.CREATED_RFC3339,
        "lifecycle": "active",
        "deprecated_at": None,
        "retires_at": None,
        "line": None,
        "max_input_tokens": 200_000,
        "max_tokens": 64_000,
        "capabilities": None,
    }
