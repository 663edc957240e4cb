"""`POST /v1/embeddings` and `POST /v1/moderations`: an answer per input."""

import base64
import random
import struct
from typing import Any

from bench.sim import fields, text
from bench.sim.answer import Answer, json_answer
from bench.sim.behaviour import Behaviour
from bench.sim.errors import Invalid
from bench.sim.openai_api.token_usage import response_usage
from bench.sim.request import Request
from bench.sim.state import State

DIMENSIONS_DEFAULT = 64
"""Real ones have 1,536 and more; ask by `dimensions`."""
DIMENSIONS_MAX = 16_384
INPUTS_MAX = 2_048

CATEGORIES = (
    *("harassment", "harassment/threatening", "hate", "hate/threatening", "illicit", "illicit/violent"),
    *("self-harm", "self-harm/instructions", "self-harm/intent", "sexual", "sexual/minors"),
    *("violence", "violence/graphic"),
)


def create(state: State, request: Request, behaviour: Behaviour) -> Answer:
    """`POST /v1/embeddings`: as floats, or as base64 of little-endian float32 (what the SDK asks for)."""
    del state
    document = request.document
    inputs = _inputs(document)
    asked = fields.number(document, "dimensions") or 0
    count = asked if 0 < asked <= DIMENSIONS_MAX else DIMENSIONS_DEFAULT
    packed = document.get("encoding_format") == "base64"
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": _vector(behaviour.seed, one, count, packed=packed),
        }
        for index, one in enumerate(inputs)
    ]
    counted = response_usage(request, behaviour, 0)["input_tokens"]
    usage = {"prompt_tokens": counted, "total_tokens": counted}
    whole: dict[str, Any] = {"object": "list", "data": data, "model": document.get("model")}
    if behaviour.usage != "none":
        whole["usage"] = usage
    answer = json_answer(whole, indent=True)
    answer.repeatable, answer.usage = True, whole.get("usage")
    return answer


def moderate(state: State, request: Request, behaviour: Behaviour) -> Answer:
    """`POST /v1/moderations`: all is well, or all is flagged when the behaviour says `refusal`."""
    del state
    flagged = behaviour.refusal
    result = {
        "flagged": flagged,
        "categories": dict.fromkeys(CATEGORIES, flagged),
        "category_scores": dict.fromkeys(CATEGORIES, 0.98 if flagged else 0.0001),
        "category_applied_input_types": {name: ["text"] for name in CATEGORIES},
    }
    whole = {
        "id": text.identifier("modr-", 29, behaviour.seed, request.body),
        "model": request.document.get("model") or "omni-moderation-latest",
        "results": [result for _ in _inputs(request.document)],
    }
    answer = json_answer(whole, indent=True)
    answer.repeatable = True
    return answer


def _inputs(document: dict[str, Any]) -> list[Any]:
    """The inputs one by one: a string or a list of tokens is one, a list of those several."""
    given = document.get("input")
    if given is None:
        raise Invalid("Missing required parameter: 'input'.")
    if not isinstance(given, list) or (given and isinstance(given[0], int)):
        return [given]
    if len(given) > INPUTS_MAX:
        raise Invalid(f"'input' must have at most {INPUTS_MAX} items.")
    return given


def _vector(seed: int, one: object, count: int, *, packed: bool) -> list[float] | str:
    generator = random.Random(f"{seed} {one!r}")
    numbers = [round(generator.uniform(-1, 1), 6) for _ in range(count)]
    if packed:
        return base64.b64encode(struct.pack(f"<{count}f", *numbers)).decode()
    return numbers
