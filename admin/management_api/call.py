"""One call of the management API, as its operation sees it; and what an operation is.

An operation is a row of the table in `operations`: its path and method, the forms of what it takes and
answers, and the function that does it. Routing, reading, the answer and the OpenAPI document all come from
that row, so none of them can say something else. Its rights are a row of `authorization`'s table.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Generic, NamedTuple, TypeVar
from uuid import UUID

import msgspec
from quart import request

from admin import client_address
from admin.management_api import problems
from admin.services import services
from storage.bridge import Database
from storage.management_keys import ActingKey
from storage.model import Actor, ActorKind

ENDPOINT_PREFIX = "api."

Body = TypeVar("Body")
Query = TypeVar("Query")


class Call(msgspec.Struct, Generic[Body, Query], frozen=True):
    """`path` has the ids in the path, `body` and `query` what was sent (None where the operation takes
    none)."""

    acting: ActingKey
    path: Mapping[str, Any]
    body: Body
    query: Query

    def __repr__(self) -> str:
        return f"Call({self.acting!r})"

    @property
    def org_id(self) -> UUID:
        return self.acting.key.org_id

    @property
    def db(self) -> Database:
        return services().db

    @property
    def actor(self) -> Actor:
        """Who the audit log says did it."""
        return Actor(
            kind=ActorKind.MANAGEMENT_KEY,
            actor_id=self.acting.key.key_id,
            address=client_address.address(request, services().settings.trusted_proxies),
            user_agent=request.headers.get("User-Agent"),
            request_id=problems.request_id(),
        )


class Operation(NamedTuple):
    """One row. What is common to all (who may, too many, too large, our own faults) is not said in it."""

    name: str
    method: str
    path: str
    """Below `/api/v1`, with `{org_id}` and the like."""
    summary: str
    run: Callable[[Call[Any, Any]], Awaitable[msgspec.Struct]]
    answer: type[msgspec.Struct]
    body: type[msgspec.Struct] | None = None
    query: type[msgspec.Struct] | None = None
    status: int = 200
    problems: tuple[int, ...] = ()
    """Statuses it may answer with besides."""
    once: str | None = None
    """The field of the answer that is shown once: it is None when the answer is repeated."""

    @property
    def endpoint(self) -> str:
        """Its row in `authorization.TABLE`."""
        return ENDPOINT_PREFIX + self.name

    @property
    def is_write(self) -> bool:
        return self.method != "GET"
