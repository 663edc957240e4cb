"""What an organization used: a plot, tables by key, model and provider, limits with their state, the newest
requests, and all of it as CSV.

Nothing here is a prompt or an answer: those are never stored.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from uuid import UUID

from quart import Blueprint, Response, abort, request
from quart.typing import ResponseReturnValue

from admin import authorization, throttle, web_session
from admin.rendering import render_template
from admin.services import services
from admin.standing import describe_all
from admin.usage.chart import HEIGHT, WIDTH, make_bars
from admin.usage.spreadsheet import write_csv
from storage.bridge import Database
from storage.limits import select_limits
from storage.plan_terms import Allowance, shown_since
from storage.shown_keys import select_key_names
from storage.usage_report import (
    Grouping,
    UsageTotal,
    add_up,
    record_export,
    select_totals,
    select_usage,
)

SPANS = (7, 30, 90)
"""In days, today included."""
SPAN_DEFAULT = 30
ROWS_SHOWN_MAX = 50
NEWEST_SHOWN = 10
STANDINGS_SHOWN_MAX = 20

blueprint = Blueprint("usage", __name__, template_folder="templates")


@blueprint.get("/organizations/<uuid:org_id>/usage")
async def show(org_id: UUID) -> ResponseReturnValue:
    db, days = services().db, _read_days()
    since = _since(days)
    by_day = await select_totals(db, org_id, since=since, by=Grouping.DAY)
    by_key, limits = await _dearest(org_id, since, Grouping.KEY), await select_limits(db, org_id)
    limited = [standing.limit.key_id for standing in limits]
    names = await select_key_names(db, org_id, [*limited, *(total.group for total in by_key)])
    return await render_template(
        "usage/usage.html",
        days=days,
        spans=SPANS,
        whole=add_up(by_day),
        bars=make_bars(by_day, since.date(), days),
        width=WIDTH,
        height=HEIGHT,
        by_key=by_key,
        by_model=await _dearest(org_id, since, Grouping.MODEL),
        by_provider=await _dearest(org_id, since, Grouping.PROVIDER),
        names=names,
        standings=describe_all(limits, names)[:STANDINGS_SHOWN_MAX],
        newest=await select_usage(
            db,
            org_id,
            since=shown_since(authorization.current_membership().organization.plan, Allowance.USAGE_DAYS),
            limit=NEWEST_SHOWN,
        ),
    )


@blueprint.get("/organizations/<uuid:org_id>/usage.csv")
async def download(org_id: UUID) -> ResponseReturnValue:
    days = _read_days()
    try:
        by = Grouping(request.args.get("by", "day"))
    except ValueError:
        abort(404)
    user = web_session.require_user()
    await throttle.count(throttle.EXPORT_ACCOUNT, str(user.user_id))
    db, since = services().db, _since(days)
    await record_export(db, web_session.actor(user.user_id), org_id, by, since)
    name = f"usage-by-{by.value}-{days}-days.csv"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    response = Response(
        _stream(db, org_id, since, by), content_type="text/csv; charset=utf-8", headers=headers
    )
    response.timeout = None
    return response


async def _stream(db: Database, org_id: UUID, since: datetime, by: Grouping) -> AsyncGenerator[str, None]:
    """All groups: an organization may have more keys, or names of models, than one query gives."""
    after = None
    while totals := await select_totals(db, org_id, since=since, by=by, after=after):
        yield write_csv(totals, header=after is None)
        after = totals[-1].group
    if after is None:
        yield write_csv([])


async def _dearest(org_id: UUID, since: datetime, by: Grouping) -> list[UsageTotal]:
    """The groups that cost most."""
    return await select_totals(
        services().db, org_id, since=since, by=by, dearest_first=True, limit=ROWS_SHOWN_MAX
    )


def _read_days() -> int:
    text = request.args.get("days", str(SPAN_DEFAULT))
    if text not in map(str, SPANS):
        abort(404)
    return int(text)


def _since(days: int) -> datetime:
    """The beginning of the first of so many days, today being the last."""
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return today - timedelta(days=days - 1)
