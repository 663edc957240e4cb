"""Requests as the SDKs write them, reduced to what the gateway looks at, and an answer for each API."""

from __future__ import annotations

BODY = b'{"model":"claude-test","max_tokens":10,"messages":[]}'
ANSWER = b'{"type":"message","model":"claude-test","usage":{"input_tokens":3,"output_tokens":4}}'
CHAT_BODY = b'{"model":"gpt-test","messages":[],"stream":true,"stream_options":{"include_usage":true}}'


def post(
    token: str,
    body: bytes = BODY,
    *,
    path: str = "/v1/messages",
    headers: str = "",
    close: bool = False,
    content_type: str = "application/json",
) -> bytes:
    """A POST to Anthropic's API with its body. `headers` are whole lines; `close` asks to end afterwards."""
    head = (
        f"POST {path} HTTP/1.1\r\nhost: karta\r\nx-api-key: {token}\r\nanthropic-version: 2023-06-01\r\n"
        f"content-type: {content_type}\r\ncontent-length: {len(body)}\r\n{_closing(close)}{headers}\r\n"
    )
    return head.encode() + body


def chat(
    token: str, body: bytes = CHAT_BODY, *, path: str = "/v1/chat/completions", close: bool = False
) -> bytes:
    """A POST to OpenAI's API with its body."""
    head = (
        f"POST {path} HTTP/1.1\r\nhost: karta\r\nauthorization: Bearer {token}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n{_closing(close)}\r\n"
    )
    return head.encode() + body


def get(
    token: str, path: str = "/v1/models", *, method: str = "GET", version: str = "1.1", close: bool = False
) -> bytes:
    """A request of Anthropic's API without a body."""
    head = (
        f"{method} {path} HTTP/{version}\r\nhost: karta\r\nx-api-key: {token}\r\n"
        f"anthropic-version: 2023-06-01\r\n{_closing(close)}\r\n"
    )
    return head.encode()


def _closing(close: bool) -> str:
    return "connection: close\r\n" if close else ""
