"""`POST /v1/completions`, the legacy text completion, whole and streamed."""

from collections.abc import Iterator
from typing import Any

from bench.sim import fields, sse, text
from bench.sim.answer import EVENT_STREAM, Answer, json_answer
from bench.sim.behaviour import Behaviour
from bench.sim.errors import Invalid
from bench.sim.openai_api.token_usage import completion_usage
from bench.sim.request import Request
from bench.sim.state import State

CHOICES_MAX = 128


def create(state: State, request: Request, behaviour: Behaviour) -> Answer:
    """`POST /v1/completions`: `n` choices for each prompt."""
    del state
    document = request.document
    model = fields.string(document, "model")
    if not model:
        raise Invalid("you must provide a model parameter")
    prompt = document.get("prompt")
    prompts = len(prompt) if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int) else 1
    count = max(1, min(prompts * (fields.number(document, "n") or 1), CHOICES_MAX))
    limit = fields.number(document, "max_tokens")
    tokens = behaviour.tokens if limit is None or limit < 0 else min(behaviour.tokens, limit)
    finish = behaviour.stop or ("length" if tokens < behaviour.tokens else "stop")
    usage = completion_usage(request, behaviour, tokens * count)
    base = {
        "id": text.identifier("cmpl-", 29, behaviour.seed, request.question()),
        "object": "text_completion",
        "created": text.CREATED,
        "model": model,
        "system_fingerprint": "fp_simulated0",
    }
    said = [text.tokens(behaviour.seed + index, tokens) for index in range(count)]
    if document.get("stream") is True:
        asked = fields.nested(document, "stream_options").get("include_usage") is True
        reports = asked and behaviour.usage != "none"
        answer = Answer(
            content_type=EVENT_STREAM, events=list(_events(base, said, finish, usage if reports else None))
        )
    else:
        choices = [_choice(index, "".join(pieces), finish) for index, pieces in enumerate(said)]
        whole: dict[str, Any] = {**base, "choices": choices}
        if behaviour.usage != "none":
            whole["usage"] = usage
        answer = json_answer(whole, indent=True)
        answer.usage = whole.get("usage")
    answer.repeatable, answer.model, answer.tokens = True, model, tokens * count
    return answer


def _choice(index: int, said: str, finish: str | None) -> dict[str, Any]:
    return {"text": said, "index": index, "logprobs": None, "finish_reason": finish}


def _events(
    base: dict[str, Any], said: list[list[str]], finish: str, usage: dict[str, Any] | None
) -> Iterator[sse.Event]:
    """Chunks with the choices interleaved; `usage: null` on each when a usage chunk ends them."""
    nulls: dict[str, Any] = {} if usage is None else {"usage": None}
    for step in range(len(said[0])):
        for index, pieces in enumerate(said):
            yield sse.Event(sse.bare({**base, "choices": [_choice(index, pieces[step], None)], **nulls}), 1)
    for index in range(len(said)):
        yield sse.Event(sse.bare({**base, "choices": [_choice(index, "", finish)], **nulls}))
    if usage is not None:
        yield sse.Event(sse.bare({**base, "choices": [], "usage": usage}), 0, usage)
    yield sse.Event(sse.DONE)
