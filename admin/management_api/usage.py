"""What the organization used: sums, and requests one by one."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from msgspec import Meta

from admin.amount import show_dollars
from admin.management_api import cursors
from admin.management_api.call import Call
from admin.management_api.forms import UsageRow, UsageRowPage, UsageRows, UsageSum, UsageSumPage, UsageSums
from admin.management_api.values import require_moment
from storage.errors import NotFound
from storage.model import UsageRecord
from storage.plan_terms import Allowance, shown_since
from storage.usage_report import UsageTotal, select_request, select_totals, select_usage

_REQUEST_ID = Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]
_SUMMED = tuple(name for name in UsageSum.__struct_fields__ if name != "cost_usd")
_OF_ROW = tuple(name for name in UsageRow.__struct_fields__ if name != "cost_usd")


async def sum_usage(call: Call[None, UsageSums]) -> UsageSumPage:
    asked = call.query
    # A cursor of one grouping leads nowhere in another.
    listing = f"usage by {asked.by}"
    found = await select_totals(
        call.db,
        call.org_id,
        since=require_moment(asked.since, "$.since"),
        until=require_moment(asked.until, "$.until"),
        by=asked.by,
        after=cursors.read(listing, asked.cursor, str),
        limit=asked.limit + 1,
    )
    page, following = cursors.cut(found, asked.limit, listing, lambda total: total.group)
    return UsageSumPage(items=list(map(_to_sum, page)), next_cursor=following)


async def list_usage(call: Call[None, UsageRows]) -> UsageRowPage:
    asked = call.query
    found = await select_usage(
        call.db,
        call.org_id,
        since=_shown(call, require_moment(asked.since, "$.since")),
        before=cursors.read("usage", asked.cursor, tuple[datetime, _REQUEST_ID]),
        limit=asked.limit + 1,
    )
    page, following = cursors.cut(
        found, asked.limit, "usage", lambda record: (record.started_at, record.request_id)
    )
    return UsageRowPage(items=list(map(_to_row, page)), next_cursor=following)


async def get_usage_request(call: Call[None, None]) -> UsageRow:
    try:
        wanted = UUID(call.path["request_id"])
    except ValueError:
        raise NotFound("a request's id has 32 hexadecimal digits") from None
    record = await select_request(call.db, call.org_id, wanted, since=_shown(call, None))
    if record is None:
        raise NotFound("there is no such request")
    return _to_row(record)


def _shown(call: Call[Any, Any], since: datetime | None) -> datetime | None:
    """No earlier than the plan shows single requests."""
    earliest = shown_since(call.acting.organization.plan, Allowance.USAGE_DAYS)
    return max((one for one in (since, earliest) if one is not None), default=None)


def _to_sum(total: UsageTotal) -> UsageSum:
    figures = {name: getattr(total, name) for name in _SUMMED}
    return UsageSum(**figures, cost_usd=show_dollars(total.cost_picodollars))


def _to_row(record: UsageRecord) -> UsageRow:
    figures = {name: getattr(record, name) for name in _OF_ROW}
    cost = record.cost_picodollars
    return UsageRow(**figures, cost_usd=None if cost is None else show_dollars(cost))
