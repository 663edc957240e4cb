"""Errors of the management API: problem details (RFC 9457), one table of kinds.

Whatever is raised under `/api/v1` becomes one of these, also what no view ever saw: an unknown path, a
method that is not there, a fault of ours. `detail` says what to do about it. Texts of the database are not
passed on.
"""

from __future__ import annotations

from typing import NamedTuple
from uuid import uuid4

import msgspec
from quart import Response, g
from werkzeug.exceptions import HTTPException

from admin import api_path
from admin.accounts.password_check import TooManyChecks
from admin.authorization import FactorNeeded, Forbidden, ScopeMissing
from admin.bearer import Unauthenticated
from admin.services import NoMasterKey
from admin.throttle import Throttled
from admin.transport import Misdirected, PlainHTTP
from storage import errors

CONTENT_TYPE = "application/problem+json"
REQUEST_ID = "X-Request-Id"
UNAVAILABLE_SECONDS = 5


class Kind(NamedTuple):
    status: int
    title: str
    detail: str


KINDS = {
    "malformed": Kind(400, "The request is malformed", "Send JSON in UTF-8, as the document describes it."),
    "unauthenticated": Kind(
        401,
        "No live management key",
        "Send `Authorization: Bearer kt_mgmt_…` with a key that is neither expired nor revoked, and whose "
        "minter is still a member of the organization.",
    ),
    "scope-missing": Kind(403, "The key lacks a scope", "Mint a key with the scope {scope}."),
    "role": Kind(
        403,
        "The role does not allow it",
        "A key may do what the role of who minted it allows, then and now. Ask an owner for a key.",
    ),
    "factor-needed": Kind(
        403,
        "A second factor is required",
        "The organization requires second factors, and who minted this key has none: they must set one up.",
    ),
    "plan": Kind(403, "The plan does not include it", "Change the organization's plan first."),
    "plain-http": Kind(
        403, "HTTPS only", "The key was sent in the clear: revoke it, and call by https from now on."
    ),
    "not-found": Kind(
        404, "There is nothing here", "Check the path and its ids; they may belong to another organization."
    ),
    "method": Kind(405, "That method is not there", "The header Allow names those that are."),
    "too-slow": Kind(408, "The body did not arrive in time", "Try again."),
    "conflict": Kind(409, "It collides with what is there", "Read the present state, then decide."),
    "under-way": Kind(
        409,
        "The same request is under way",
        "A request with this Idempotency-Key has not been answered yet. Ask again in a moment.",
    ),
    "outcome-unknown": Kind(
        409,
        "What came of the same request is not known",
        "A request with this Idempotency-Key was cut off. Read the present state, and use a new key if it "
        "was not done.",
    ),
    "too-large": Kind(413, "The body is too large", "Send 64 KiB at most."),
    "media-type": Kind(415, "The body is not JSON", "Send it as `Content-Type: application/json`."),
    "misdirected": Kind(421, "This server does not go by that name", "Check the host of the URL."),
    "invalid": Kind(422, "A value is not valid", "See `errors` for where, and the document for what is."),
    "key-reused": Kind(
        422,
        "The Idempotency-Key was used for another request",
        "Use a new key for each request, and the same one only to send the same request again.",
    ),
    "throttled": Kind(429, "Too many requests", "Wait for as long as the header Retry-After says."),
    "internal": Kind(500, "Something went wrong", "It has been noted. Try again, or tell us the request_id."),
    "no-master-key": Kind(
        503, "Karta has no master key", "Whoever runs this Karta must set KARTA_MASTER_KEYS."
    ),
    "unavailable": Kind(
        503, "The database does not answer", "Nothing is known to have changed. Try again in a moment."
    ),
}
"""By the last part of their `type`: what each means, and the mend."""


class Fault(msgspec.Struct, frozen=True):
    """What is wrong with one value."""

    detail: str
    pointer: str | None = None
    """Where, as a path into the body or the query: `$.name`."""


class ProblemDetails(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An error (RFC 9457). `type` names the kind for programs, `detail` the mend for people."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str
    """As in the header X-Request-Id; the audit log names it as well."""
    errors: list[Fault] = []


class Problem(Exception):
    """Raised by the API's own code."""

    def __init__(
        self,
        kind: str,
        detail: str | None = None,
        *,
        errors: tuple[Fault, ...] = (),
        retry_after: int | None = None,
    ) -> None:
        super().__init__(kind)
        self.kind = kind
        self.detail = detail
        self.errors = errors
        self.retry_after = retry_after


def request_id() -> str:
    """The current call's: 32 hexadecimal digits, ours and not the caller's."""
    if "request_id" not in g:
        g.request_id = uuid4().hex
    return str(g.request_id)


async def add_request_id(response: Response) -> Response:
    """After each request of the API."""
    if api_path.is_api():
        response.headers[REQUEST_ID] = request_id()
    return response


def answer(error: BaseException) -> Response:
    """What an error looks like. Raises it again when it is no fault of the call: it becomes a 500."""
    problem = _find(error)
    if problem is None:
        raise error
    kind = KINDS[problem.kind]
    details = ProblemDetails(
        type=f"urn:karta:problem:{problem.kind}",
        title=kind.title,
        status=kind.status,
        detail=problem.detail or kind.detail,
        request_id=request_id(),
        errors=list(problem.errors),
    )
    response = Response(msgspec.json.encode(details), kind.status, content_type=CONTENT_TYPE)
    if problem.retry_after is not None:
        response.headers["Retry-After"] = str(problem.retry_after)
    if kind.status == 401:
        response.headers["WWW-Authenticate"] = 'Bearer realm="karta"'
    if isinstance(error, HTTPException):
        allow = error.get_response().headers.get("Allow")
        if allow is not None:
            response.headers["Allow"] = allow
    return response


_BY_CLASS: tuple[tuple[type[BaseException], str], ...] = (
    (Unauthenticated, "unauthenticated"),
    (FactorNeeded, "factor-needed"),
    (Forbidden, "role"),
    (errors.NotAllowed, "role"),
    (errors.PlanRefused, "plan"),
    (PlainHTTP, "plain-http"),
    (Misdirected, "misdirected"),
    (errors.NotFound, "not-found"),
    (errors.CheckFailed, "invalid"),
    (errors.InvalidReference, "invalid"),
    (NoMasterKey, "no-master-key"),
)
_BY_STATUS = {400: "malformed", 404: "not-found", 405: "method", 408: "too-slow", 413: "too-large"}


def _find(error: BaseException) -> Problem | None:
    if isinstance(error, Problem):
        return error
    if isinstance(error, ScopeMissing):
        return Problem("scope-missing", KINDS["scope-missing"].detail.format(scope=error.scope.value))
    if isinstance(error, Throttled | TooManyChecks):
        return Problem("throttled", retry_after=error.retry_after_seconds)
    if isinstance(error, errors.CommitUnknown):
        return Problem("unavailable", "It may have been done or not: read the state before trying again.")
    if isinstance(error, errors.DatabaseUnavailable):
        return Problem("unavailable", retry_after=UNAVAILABLE_SECONDS)
    if isinstance(error, errors.Conflict):
        # These texts are storage's own; one from a constraint would name the schema.
        return Problem("conflict", sentence(error) if error.sqlstate is None else None)
    if isinstance(error, errors.InvalidValue):
        return Problem("invalid", sentence(error) if error.sqlstate is None else None)
    for cls, kind in _BY_CLASS:
        if isinstance(error, cls):
            return Problem(kind)
    if isinstance(error, HTTPException):
        if error.code is not None and error.code >= 500:
            return Problem("internal")
        # A redirect to a tidier path is no answer of an API: there is nothing at this one.
        moved = error.code is not None and error.code < 400
        return Problem("not-found" if moved else _BY_STATUS.get(error.code or 0, "malformed"))
    return None


def sentence(error: BaseException) -> str:
    """The words of an error of storage's own, as one is written."""
    text = str(error)
    return f"{text[:1].upper()}{text[1:]}."
