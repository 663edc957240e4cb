"""What a report to Sentry may consist of: a closed list, from which it is made anew just before it is sent.

Of an exception: its class, where it was raised, and what caused it; never its message, since a message may
quote a request, a row or a key. Of a stack frame: file, function and line; never a variable or the source
around it. Of a request: Karta's own words for it, and ids. There are no headers, cookies, queries, bodies,
breadcrumbs, thread names or arguments of the process. Whatever the SDK or somebody's integration put into an
event beyond that is not taken over. The strings that remain go through `secret_patterns` besides.

Shapes are those of Sentry's event payload, as plain dicts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from storage.secret_patterns import hide

TAGS = frozenset(
    {"organization", "role", "program", "place", "request_id", "endpoint", "status", "sqlstate", "errno"}
)
"""Names a report's tags may have. There is none for the user: Sentry makes one of `user`'s id."""
TEXT_CHARS_MAX = 200
EXCEPTIONS_MAX = 20
FRAMES_MAX = 60
SPANS_MAX = 10

_PLAIN = ("event_id", "timestamp", "start_timestamp", "level", "platform", "type")
_TEXTS = ("release", "environment", "server_name", "logger", "transaction")
_FRAME_TEXTS = ("filename", "function", "module")
_MECHANISM = ("type", "handled", "source", "exception_id", "parent_id", "is_exception_group", "synthetic")
_SPAN = (
    "op",
    "description",
    "status",
    "trace_id",
    "span_id",
    "parent_span_id",
    "timestamp",
    "start_timestamp",
)

Event = dict[str, Any]


def reform(event: Mapping[str, Any], _hint: object = None) -> Event:
    """The report as it may be sent. Raises on what has not the shape of one: then nothing is sent."""
    made: Event = {name: _scalar(event[name]) for name in (*_PLAIN, *_TEXTS) if event.get(name) is not None}
    made["tags"] = {
        name: _text(value) for name, value in dict(event.get("tags") or {}).items() if name in TAGS
    }
    user = event.get("user") or {}
    if "id" in user:
        made["user"] = {"id": _text(user["id"])}
    trace = (event.get("contexts") or {}).get("trace")
    if trace:
        made["contexts"] = {"trace": _pick(trace, _SPAN)}
    if event.get("type") == "transaction":
        made["transaction_info"] = {"source": "route"}
        made["spans"] = [_pick(span, _SPAN) for span in _list(event.get("spans"))[:SPANS_MAX]]
    if "exception" in event:
        values = _list((event["exception"] or {}).get("values"))
        made["exception"] = {"values": [_exception(one) for one in values[-EXCEPTIONS_MAX:]]}
    sdk = event.get("sdk") or {}
    made["sdk"] = _pick(sdk, ("name", "version"))
    return made


def no_breadcrumb(_crumb: object, _hint: object = None) -> None:
    """None is kept: a breadcrumb is a message, a query or an address."""


def _exception(value: Mapping[str, Any]) -> Event:
    made = _pick(value, ("type", "module"))
    made["mechanism"] = _pick(value.get("mechanism") or {}, _MECHANISM)
    made["mechanism"].setdefault("type", "generic")
    frames = _list((value.get("stacktrace") or {}).get("frames"))
    made["stacktrace"] = {"frames": [_frame(one) for one in frames[-FRAMES_MAX:]]}
    return made


def _frame(frame: Mapping[str, Any]) -> Event:
    return _pick(frame, (*_FRAME_TEXTS, "lineno", "in_app"))


def _pick(of: Mapping[str, Any], names: Iterable[str]) -> Event:
    return {name: _scalar(of[name]) for name in names if of.get(name) is not None}


def _scalar(value: object) -> object:
    return value if isinstance(value, bool | int | float) else _text(value)


def _text(value: object) -> str:
    return hide(str(value))[:TEXT_CHARS_MAX]


def _list(value: object) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []
