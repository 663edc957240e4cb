"""An organization's audit log: looked through newest first, exported whole, and proved.

An export streams: what is in memory is one batch of rows, however many there are and however slowly they are
taken. It asks for fresh proof, and tells of itself in the log.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import msgspec
import trio
from quart import Blueprint, Response, abort, request
from quart.typing import ResponseReturnValue

from admin import authorization, throttle, web_session
from admin.rendering import render_template
from admin.services import services
from storage.audit_chain import ChainReport, verify_chain
from storage.audit_checkpoints import select_last_checkpoint, select_public_keys, trusted_keys
from storage.audit_export import Format, encode_header, encode_rows
from storage.audit_search import TEXT_CHARS_MAX, Wanted, go_through, record_export, search
from storage.audit_vocabulary import MEANINGS
from storage.bridge import Database
from storage.memberships import select_members
from storage.plan_terms import Allowance, shown_since

ROWS_SHOWN = 50
PROOF_SECONDS_MAX = 30
"""Some millions of rows; more are proved by the command line."""
SEQ_MAX = 2**62
FILTERS = ("event", "text", "since", "until")
EVENTS = sorted(MEANINGS, key=lambda event: event.value)
SUBJECTS = sorted({event.value.partition(":")[0] for event in EVENTS})

blueprint = Blueprint("audit", __name__, template_folder="templates")


@blueprint.get("/organizations/<uuid:org_id>/audit")
async def show(org_id: UUID) -> ResponseReturnValue:
    wanted = _read_wanted()
    found = await search(services().db, org_id, wanted, before=_read_before(), limit=ROWS_SHOWN)
    return await render_template(
        "audit/audit.html",
        found=found,
        filters={name: value for name in FILTERS if (value := request.args.get(name))},
        events=EVENTS,
        subjects=SUBJECTS,
        meanings={event.value: meaning for event, meaning in MEANINGS.items()},
        emails={str(member.user_id): member.email for member in await select_members(services().db, org_id)},
        text_chars_max=TEXT_CHARS_MAX,
    )


@blueprint.get("/organizations/<uuid:org_id>/audit.<form>")
async def export(org_id: UUID, form: str) -> ResponseReturnValue:
    try:
        chosen = Format(form)
    except ValueError:
        abort(404)
    user = web_session.require_user()
    wanted = _read_wanted()
    await throttle.count(throttle.EXPORT_ACCOUNT, str(user.user_id))
    db = services().db
    until = await record_export(db, web_session.actor(user.user_id), org_id, chosen.value, wanted)
    name = f"audit-{org_id}-{until}.{chosen.value}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    response = Response(
        _stream(db, org_id, chosen, wanted, until), content_type=chosen.content_type, headers=headers
    )
    response.timeout = None
    return response


async def _stream(
    db: Database, org_id: UUID, form: Format, wanted: Wanted, until: int
) -> AsyncGenerator[bytes, None]:
    yield encode_header(form)
    async with aclosing(go_through(db, org_id, wanted, until)) as batches:
        async for rows in batches:
            yield encode_rows(form, rows)


@blueprint.get("/organizations/<uuid:org_id>/audit/proof")
async def show_proof(org_id: UUID) -> ResponseReturnValue:
    return await _render_proof(org_id)


@blueprint.post("/organizations/<uuid:org_id>/audit/proof")
async def prove(org_id: UUID) -> ResponseReturnValue:
    await throttle.count(throttle.AUDIT_PROOF_ACCOUNT, str(web_session.require_user().user_id))
    db, began = services().db, trio.current_time()
    keys = await trusted_keys(db, services().loaded_master_keys)
    report = None
    with trio.move_on_after(PROOF_SECONDS_MAX):
        report = await verify_chain(db, org_id, keys)
    return await _render_proof(org_id, report, trio.current_time() - began)


async def _render_proof(org_id: UUID, report: ChainReport | None = None, seconds: float | None = None) -> str:
    db = services().db
    return await render_template(
        "audit/proof.html",
        report=report,
        seconds=seconds,
        checkpoint=await select_last_checkpoint(db, org_id),
        keys=await select_public_keys(db),
    )


def _read_wanted() -> Wanted:
    event = request.args.get("event") or None
    if event is not None and event not in SUBJECTS and event not in MEANINGS:
        abort(404)
    until = _read_day("until")
    plan = authorization.current_membership().organization.plan
    since = [one for one in (_read_day("since"), shown_since(plan, Allowance.AUDIT_DAYS)) if one is not None]
    return Wanted(
        event=event,
        text=(request.args.get("text") or "").strip()[:TEXT_CHARS_MAX] or None,
        since=max(since, default=None),
        until=None if until is None else until + timedelta(days=1),
    )


def _read_day(name: str) -> datetime | None:
    """The beginning of a day (UTC). One that cannot be read asks for nothing."""
    try:
        day = date.fromisoformat(request.args.get(name, ""))
    except ValueError:
        return None
    return datetime(day.year, day.month, day.day, tzinfo=UTC) if 1970 <= day.year < 9999 else None


def _read_before() -> int | None:
    text = request.args.get("before")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 19 and 0 < int(text) <= SEQ_MAX):
        abort(404)
    return int(text)


@blueprint.app_template_filter("details")
def show_details(details: str) -> list[tuple[str, str]]:
    """A row's details as names and values to show."""
    found = msgspec.json.decode(details)
    if not isinstance(found, dict):
        return [("", str(found))]
    told = {name: value for name, value in found.items() if value is not None}
    return [(name.replace("_", " "), _show_value(value)) for name, value in told.items()]


def _show_value(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
