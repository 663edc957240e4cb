"""Limits and budgets: the organization's own, and those of one API key."""

from __future__ import annotations

from typing import Any

from admin.amount import BadAmount, read_amount, show_amount
from admin.management_api import cursors
from admin.management_api.call import Call
from admin.management_api.forms import LimitAnswer, LimitPage, NewLimit, Page
from admin.management_api.values import invalid, require_printable
from storage.api_keys import select_key
from storage.errors import NotFound
from storage.limits import LimitScope, LimitStanding, select_limits, set_limit, unset_limit
from storage.model import LimitKind, Period

_PERIODS = {
    LimitKind.CONCURRENT: (Period.NONE,),
    LimitKind.MONEY: (Period.DAY, Period.MONTH),
    LimitKind.REQUESTS: (Period.MINUTE, Period.DAY, Period.MONTH),
    LimitKind.TOKENS: (Period.MINUTE, Period.DAY, Period.MONTH),
}


async def list_limits(call: Call[None, Page]) -> LimitPage:
    """Those of the organization's keys too."""
    return _cut(call, await select_limits(call.db, call.org_id))


async def list_api_key_limits(call: Call[None, Page]) -> LimitPage:
    return _cut(call, await select_limits(call.db, call.org_id, await _key_id(call)))


async def set_organization_limit(call: Call[NewLimit, None]) -> LimitAnswer:
    return await _set(call, None)


async def set_api_key_limit(call: Call[NewLimit, None]) -> LimitAnswer:
    return await _set(call, await _key_id(call))


async def remove_limit(call: Call[None, None]) -> LimitAnswer:
    return await _remove(call, None)


async def remove_api_key_limit(call: Call[None, None]) -> LimitAnswer:
    return await _remove(call, await _key_id(call))


async def _key_id(call: Call[Any, Any]) -> str:
    """Of the organization's key in the path. Raises NotFound."""
    key = await select_key(call.db, call.org_id, call.path["key_id"])
    return key.key_id


async def _set(call: Call[NewLimit, None], key_id: str | None) -> LimitAnswer:
    asked = call.body
    periods = _PERIODS.get(asked.kind)
    if periods is None:
        raise invalid(f"It is one of {', '.join(_PERIODS)}.", "$.kind")
    if asked.period not in periods:
        raise invalid(f"For {asked.kind.value} it is one of {', '.join(periods)}.", "$.period")
    try:
        amount = read_amount(asked.kind, asked.amount)
    except BadAmount:
        raise invalid(
            "It is no amount of that kind: above 0, and whole but for dollars.", "$.amount"
        ) from None
    if asked.model is not None:
        require_printable(asked.model, "$.model")
    scope = LimitScope(
        org_id=call.org_id, key_id=key_id, model=asked.model, kind=asked.kind, period=asked.period
    )
    thresholds = sorted(set(asked.thresholds))
    limit = await set_limit(call.db, call.actor, scope, amount, hard=asked.hard, thresholds=thresholds)
    return _to_answer(await _find(call, key_id, limit.limit_id))


async def _remove(call: Call[None, None], key_id: str | None) -> LimitAnswer:
    standing = await _find(call, key_id, call.path["limit_id"])
    limit = standing.limit
    scope = LimitScope(
        org_id=call.org_id, key_id=key_id, model=limit.model, kind=limit.kind, period=limit.period
    )
    if await unset_limit(call.db, call.actor, scope) is None:
        raise NotFound("there is no such limit")
    return _to_answer(standing)


async def _find(call: Call[Any, Any], key_id: str | None, limit_id: int) -> LimitStanding:
    """Raises NotFound, also for a limit that is another key's, or not of the organization as a whole."""
    for standing in await select_limits(call.db, call.org_id, key_id):
        if standing.limit.limit_id == limit_id and standing.limit.key_id == key_id:
            return standing
    raise NotFound("there is no such limit")


def _cut(call: Call[None, Page], standings: list[LimitStanding]) -> LimitPage:
    after = cursors.read("limits", call.query.cursor, int)
    # Few, by their own bound: so a page is cut from all of them.
    rest = sorted(
        (one for one in standings if after is None or one.limit.limit_id > after),
        key=lambda one: one.limit.limit_id,
    )
    page, following = cursors.cut(rest, call.query.limit, "limits", lambda one: one.limit.limit_id)
    return LimitPage(items=list(map(_to_answer, page)), next_cursor=following)


def _to_answer(standing: LimitStanding) -> LimitAnswer:
    limit = standing.limit
    return LimitAnswer(
        limit_id=limit.limit_id,
        key_id=limit.key_id,
        model=limit.model,
        kind=limit.kind,
        period=limit.period,
        amount=show_amount(limit.kind, limit.amount),
        used=show_amount(limit.kind, standing.settled + standing.held + standing.written_off),
        hard=limit.hard,
        thresholds=list(limit.thresholds),
    )
