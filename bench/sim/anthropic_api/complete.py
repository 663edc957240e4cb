"""`POST /v1/complete`, the legacy text completion of the 0.x SDK."""

from bench.sim import sse, text
from bench.sim.answer import EVENT_STREAM, Answer, json_answer
from bench.sim.behaviour import Behaviour
from bench.sim.errors import Invalid
from bench.sim.request import Request
from bench.sim.state import State


def create(state: State, request: Request, behaviour: Behaviour) -> Answer:
    """`POST /v1/complete`, whole or as `completion` events."""
    del state
    if not isinstance(request.document.get("prompt"), str):
        raise Invalid("prompt: Field required")
    pieces = text.tokens(behaviour.seed, behaviour.tokens)
    base = {
        "type": "completion",
        "id": text.identifier("compl_01", 22, behaviour.seed, request.body),
        "model": request.document.get("model"),
    }
    if request.document.get("stream") is not True:
        return json_answer(
            {**base, "completion": "".join(pieces), "stop_reason": "stop_sequence", "stop": None}
        )
    events = [
        sse.Event(
            sse.named(
                "completion", {**base, "completion": piece, "stop_reason": None, "stop": None}, pad=False
            ),
            1,
        )
        for piece in pieces
    ]
    end = {**base, "completion": "", "stop_reason": "stop_sequence", "stop": None}
    events.append(sse.Event(sse.named("completion", end, pad=False)))
    return Answer(content_type=EVENT_STREAM, events=events)
