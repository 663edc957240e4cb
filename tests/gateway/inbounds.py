"""Requests as `accept` hands them on, made by the real reader."""

from __future__ import annotations

from gateway.api_request import APIRequest, recognise, take_body
from gateway.limits import Limits
from gateway.operations import load
from gateway.request_reader import Inbound, RequestReader

OPERATIONS = load()


def inbound(method: str, target: str, *lines: str, body: bytes = b"", version: str = "1.1") -> Inbound:
    """With a Host field, a length for a body, and the given header lines before them."""
    head = [f"{method} {target} HTTP/{version}", *lines]
    if not any(line.lower().startswith("host:") for line in lines):
        head.append("Host: karta.example:8080")
    if body:
        head.append(f"Content-Length: {len(body)}")
    reader = RequestReader()
    reader.feed("\r\n".join([*head, "", ""]).encode("latin-1") + body)
    (found,) = reader.ready
    return found


def request(
    method: str,
    target: str,
    *lines: str,
    body: bytes = b"",
    version: str = "1.1",
    limits: Limits | None = None,
) -> APIRequest:
    """The same, understood, and its body taken if it is complete."""
    made = recognise(
        inbound(method, target, *lines, body=body, version=version), OPERATIONS, limits or Limits()
    )
    if made.inbound.complete:
        take_body(made)
    return made
