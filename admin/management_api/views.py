"""Every operation's view, made from its row: reads path, query and body, does it, sends the answer."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any

import msgspec
from quart import Blueprint, Response, request

from admin import api_path, bearer
from admin.management_api import document, idempotency
from admin.management_api.call import Call, Operation
from admin.management_api.operations import OPERATIONS
from admin.management_api.problems import Fault, Problem

CONTENT_TYPE = "application/json"
_POINTER = re.compile(r" - at `(?:key in )?(\$[^`]*)`$")
_NUMBER = re.compile(r"[0-9]{1,9}", re.ASCII)
_CONVERTERS = {"key_id": "", "request_id": "", "limit_id": "int:", "delivery_id": "int:"}
"""Of ids in the path; all others are UUIDs."""

blueprint = Blueprint("api", __name__)


def _make_view(operation: Operation) -> Callable[..., Awaitable[Response]]:
    async def view(**path: Any) -> Response:
        body = await _read_data() if operation.is_write else b""
        call = Call(
            acting=bearer.acting_key(),
            path=path,
            body=None if operation.body is None else _read_body(operation.body, body),
            query=None if operation.query is None else _read_query(operation.query),
        )
        answer = await idempotency.run(operation, call, body)
        response = Response(answer.body, answer.status, content_type=CONTENT_TYPE)
        if answer.replayed:
            response.headers[idempotency.REPLAYED] = "true"
        return response

    return view


def rule_of(operation: Operation) -> str:
    """Its path as Quart has it."""
    return api_path.PREFIX + re.sub(
        r"\{(\w+)\}", lambda found: f"<{_CONVERTERS.get(found[1], 'uuid:')}{found[1]}>", operation.path
    )


for _operation in OPERATIONS:
    blueprint.add_url_rule(
        rule_of(_operation),
        endpoint=_operation.name,
        view_func=_make_view(_operation),
        methods=[_operation.method],
        provide_automatic_options=False,
    )


@blueprint.get(f"{api_path.PREFIX}/openapi.json", provide_automatic_options=False)
async def openapi() -> Response:
    """The document; anybody may read it."""
    return Response(document.encoded(), content_type=CONTENT_TYPE)


async def _read_data() -> bytes:
    data = await request.get_data()
    assert isinstance(data, bytes)  # as nobody asked for text
    return data


def _read_body(form: type[msgspec.Struct], body: bytes) -> msgspec.Struct:
    if request.mimetype != CONTENT_TYPE:
        raise Problem("media-type")
    try:
        return msgspec.json.decode(body, type=form)
    except msgspec.ValidationError as error:
        raise Problem("invalid", errors=(_to_fault(error),)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Problem("malformed") from None


def _read_query(form: type[msgspec.Struct]) -> msgspec.Struct:
    given: dict[str, str | int] = {}
    for name, values in request.args.lists():
        if len(values) > 1:
            raise Problem("invalid", errors=(Fault("It was given more than once.", f"$.{name[:100]}"),))
        number = name in _numbers(form) and _NUMBER.fullmatch(values[0])
        given[name] = int(values[0]) if number else values[0]
    try:
        # Strictly: else `null` would be nothing, and a number a time.
        return msgspec.convert(given, form)
    except msgspec.ValidationError as error:
        raise Problem("invalid", errors=(_to_fault(error),)) from None


@cache
def _numbers(form: type[msgspec.Struct]) -> frozenset[str]:
    """The fields that are whole numbers, which a query spells in digits."""
    fields = msgspec.structs.fields(form)
    kinds = {field.name: msgspec.inspect.type_info(field.type) for field in fields}
    return frozenset(name for name, kind in kinds.items() if isinstance(_bare(kind), msgspec.inspect.IntType))


def _bare(kind: msgspec.inspect.Type) -> msgspec.inspect.Type:
    return kind.type if isinstance(kind, msgspec.inspect.Metadata) else kind


def _to_fault(error: msgspec.ValidationError) -> Fault:
    """msgspec says what was expected and where; never what was given, but for names and choices."""
    text = str(error)
    found = _POINTER.search(text)
    if found is None:
        return Fault(text)
    return Fault(text[: found.start()], found[1])
