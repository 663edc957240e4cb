"""Single requests of an organization: the newest as they come in, and one of them by its id.

A request is shown once it has ended, a second or so later: what is still running is known to the gateway's
workers alone, and asking them would need a way into the data plane that pages must not have.

Nothing here is a prompt or an answer: those are never stored.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from quart import Blueprint, abort, request, url_for
from quart.typing import ResponseReturnValue

from admin import authorization
from admin.redirect import see
from admin.rendering import render_template
from admin.services import services
from storage.model import UsageRecord
from storage.plan_terms import Allowance, shown_since
from storage.shown_keys import select_key_names
from storage.usage_report import select_request, select_usage

SHOWN = 25
OUTCOMES = {
    "completed": "It ended as it should.",
    "client_gone": "The client left before the end.",
    "upstream_failed": "The provider failed.",
    "timed_out": "The provider, or the client, took too long.",
    "refused": "The provider refused it.",
    "revoked": "Its key was revoked, or the organization suspended, while it ran.",
    "stopped": "The gateway was stopped while it ran.",
    "interrupted": "The gateway process died while it ran; figures are estimates.",
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

blueprint = Blueprint("requests", __name__, template_folder="templates")


@blueprint.get("/organizations/<uuid:org_id>/requests")
async def show_newest(org_id: UUID) -> ResponseReturnValue:
    """The newest, followed live; or, with `id`, on to that one."""
    if "id" in request.args:
        return await _find(org_id, request.args["id"])
    return await _render_newest(org_id)


@blueprint.get("/organizations/<uuid:org_id>/requests/<request_id>")
async def show(org_id: UUID, request_id: str) -> ResponseReturnValue:
    record = await _select(org_id, request_id)
    if record is None:
        abort(404)
    names = await select_key_names(services().db, org_id, [record.key_id])
    return await render_template(
        "usage/request.html",
        record=record,
        key_name=names.get(record.key_id),
        outcome=OUTCOMES[record.outcome.value],
    )


@blueprint.app_template_global("request_url")
def request_url(record: UsageRecord) -> str:
    """A request's own page. Its time is in it, by which the database finds it at once."""
    at = (record.started_at - _EPOCH) // _MICROSECOND
    return url_for("requests.show", org_id=record.org_id, request_id=record.request_id, at=at)


async def _find(org_id: UUID, typed: str) -> ResponseReturnValue:
    record = await _select(org_id, typed.strip())
    if record is not None:
        return see(request_url(record))
    problem = "There is no such request of this organization."
    return await _render_newest(org_id, typed[:100], problem), 404


async def _select(org_id: UUID, request_id: str) -> UsageRecord | None:
    try:
        wanted = UUID(request_id)
    except ValueError:
        return None
    at = request.args.get("at", "")
    # Thirteen to sixteen digits are the years from 2001 to 2286.
    known = at.isascii() and at.isdigit() and len(at) <= 16
    started_at = _EPOCH + int(at) * _MICROSECOND if known else None
    return await select_request(services().db, org_id, wanted, started_at, since=_shown_since())


def _shown_since() -> datetime | None:
    return shown_since(authorization.current_membership().organization.plan, Allowance.USAGE_DAYS)


async def _render_newest(org_id: UUID, typed: str = "", problem: str | None = None) -> str:
    return await render_template(
        "usage/requests.html",
        newest=await select_usage(services().db, org_id, since=_shown_since(), limit=SHOWN),
        typed=typed,
        problem=problem,
    )
