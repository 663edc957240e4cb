"""Error bodies in each API's own shape, by `wire-facts` §2."""

from typing import Any

import msgspec

from bench.sim.answer import Answer
from bench.sim.behaviour import Behaviour


class Invalid(ValueError):
    """An endpoint refuses a request: the status, and a message for its sender."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


ANTHROPIC_TYPES = {
    400: ("invalid_request_error", "Your request was not valid."),
    401: ("authentication_error", "invalid x-api-key"),
    402: ("billing_error", "Your credit balance is too low to access the Anthropic API."),
    403: ("permission_error", "Your API key does not have permission to use the specified resource."),
    404: ("not_found_error", "The requested resource could not be found."),
    405: ("invalid_request_error", "Method Not Allowed"),
    409: ("conflict_error", "The request conflicts with the current state of the resource."),
    413: ("request_too_large", "Request exceeds the maximum allowed number of bytes."),
    429: ("rate_limit_error", "Number of request tokens has exceeded your per-minute rate limit."),
    500: ("api_error", "Internal server error"),
    503: ("api_error", "Service unavailable"),
    504: ("timeout_error", "The request timed out."),
    529: ("overloaded_error", "Overloaded"),
}

OPENAI_TYPES: dict[int, tuple[str, str | None, str]] = {
    400: ("invalid_request_error", None, "Your request was not valid."),
    401: ("invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
    403: (
        "invalid_request_error",
        "unsupported_country_region_territory",
        "Country, region, or territory not supported",
    ),
    404: (
        "invalid_request_error",
        "model_not_found",
        "The model does not exist or you do not have access to it.",
    ),
    405: ("invalid_request_error", "method_not_supported", "Not allowed to make this request."),
    409: ("conflict_error", None, "The request conflicts with the current state of the resource."),
    413: ("invalid_request_error", "request_too_large", "Maximum content size limit exceeded."),
    422: ("invalid_request_error", None, "Unprocessable entity."),
    429: ("requests", "rate_limit_exceeded", "Rate limit reached for requests."),
    500: ("server_error", None, "The server had an error while processing your request. Sorry about that!"),
    503: (
        "server_error",
        "service_unavailable",
        "The engine is currently overloaded, please try again later.",
    ),
}


def error_object(
    dialect: str, status: int, behaviour: Behaviour, message: str | None = None
) -> dict[str, Any]:
    """The inner `error` object of a dialect for a status, with the behaviour's own words where it has
    some."""
    said = behaviour.error_message or message
    if dialect == "anthropic":
        kind, default = ANTHROPIC_TYPES.get(
            status, ("invalid_request_error" if status < 500 else "api_error", "Error")
        )
        return {"type": behaviour.error_type or kind, "message": said or default}
    fallback = ("invalid_request_error" if status < 500 else "server_error", None, "Error")
    kind, code, default = OPENAI_TYPES.get(status, fallback)
    return {
        "message": said or default,
        "type": behaviour.error_type or kind,
        "param": None,
        "code": behaviour.error_code or code,
    }


def error_answer(
    dialect: str, status: int, request_id: str, behaviour: Behaviour, message: str | None = None
) -> Answer:
    """A whole error answer: status, body in the dialect, and the retry headers the behaviour asks for."""
    error = error_object(dialect, status, behaviour, message)
    if dialect == "anthropic":
        if behaviour.error_code:
            error["details"] = {"error_code": behaviour.error_code}
        body = msgspec.json.encode({"type": "error", "error": error, "request_id": request_id})
    else:
        body = msgspec.json.format(msgspec.json.encode({"error": error}), indent=2)
    headers: list[tuple[bytes, bytes]] = []
    if behaviour.retry_after is not None:
        headers.append((b"retry-after", behaviour.retry_after.encode()))
    if behaviour.retry_after_ms is not None:
        headers.append((b"retry-after-ms", behaviour.retry_after_ms.encode()))
    if behaviour.should_retry is None and dialect == "anthropic" and status == 429:
        # As recorded from the real one.
        headers.append((b"x-should-retry", b"true"))
    elif behaviour.should_retry is not None:
        headers.append((b"x-should-retry", b"true" if behaviour.should_retry else b"false"))
    return Answer(status=status, body=body, headers=headers, behaviour=behaviour)


def error_event(
    dialect: str, flat: bool, behaviour: Behaviour, request_id: str, sequence: int
) -> tuple[str, Any]:
    """Name ("" for none) and payload of a mid-stream error; `flat` is the shape of OpenAI's responses."""
    status = behaviour.error or (529 if dialect == "anthropic" else 500)
    error = error_object(dialect, status, behaviour)
    if dialect == "anthropic":
        return "error", {"type": "error", "error": error, "request_id": request_id}
    if flat:
        code = error["code"] or error["type"]
        payload = {"type": "error", "code": code, "message": error["message"], "param": None}
        return "error", {**payload, "sequence_number": sequence}
    return "", {"error": error}
