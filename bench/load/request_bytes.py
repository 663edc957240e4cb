"""Build the bytes of requests once, before any clock runs: the same bytes for every target.

One request for each key, or for each id, of the keys in turn; `host` is the target's, everything else is
equal, so that two targets are asked for exactly the same work.
"""

from collections.abc import Mapping
from urllib.parse import urlsplit

import msgspec

from bench.load.plan import LoadPlan, Question

_PATHS = {"anthropic": "/v1/messages", "openai": "/v1/chat/completions"}
_ANTHROPIC_VERSION = "2023-06-01"
_PROMPT = "The quick brown fox jumps over the lazy dog. "


def question_body(question: Question) -> bytes:
    """Return the JSON body; the prompt is ASCII of `prompt_bytes` bytes."""
    prompt = (_PROMPT * (question.prompt_bytes // len(_PROMPT) + 1))[: question.prompt_bytes]
    body: dict[str, object] = {
        "model": question.model_name,
        "max_tokens": question.tokens_max,
        "messages": [{"role": "user", "content": prompt}],
    }
    if question.stream:
        body["stream"] = True
    return msgspec.json.encode(body)


def request_bytes(
    base_url: str, question: Question, key: str, headers: Mapping[str, str] | None = None
) -> bytes:
    """Return one whole request; ValueError for a key that cannot stand in a header."""
    if not key.isascii() or not key.isprintable():
        raise ValueError(
            "a key is made of printable ASCII characters; check the file or variable it came from"
        )
    parts = urlsplit(base_url)
    body = question_body(question)
    lines = [
        f"POST {parts.path.rstrip('/')}{_PATHS[question.dialect]} HTTP/1.1",
        f"host: {parts.netloc.rpartition('@')[2]}",
        "user-agent: karta-bench",
        "accept: application/json",
        "content-type: application/json",
    ]
    if question.dialect == "anthropic":
        lines += [f"x-api-key: {key}", f"anthropic-version: {_ANTHROPIC_VERSION}"]
    else:
        lines.append(f"authorization: Bearer {key}")
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    lines.append(f"content-length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def plan_requests(plan: LoadPlan) -> list[bytes]:
    """Return the requests of a plan, one for each of its keys, or of its ids where those are more."""
    made = []
    for number in range(max(len(plan.keys), plan.request_ids)):
        key = plan.keys[number % len(plan.keys)]
        own = {"x-request-id": f"{number % plan.request_ids:032x}"} if plan.request_ids else {}
        made.append(request_bytes(plan.base_url, plan.question, key, {**plan.headers, **own}))
    return made
