"""Stripe's events, as the platform's operators see them: what was told, what came of it, and done once more.

An event holds no content, only what it names; to do it again is to read that from Stripe again, which is
always safe.
"""

from __future__ import annotations

from quart import Blueprint, abort, request, url_for
from quart.typing import ResponseReturnValue

from admin import web_session
from admin.redirect import see
from admin.rendering import render_template
from admin.services import services
from storage.errors import NotFound
from storage.meter_reports import count_stuck_reports
from storage.staff import record_view
from storage.stripe_events import PAGE_ROWS_MAX, count_stuck, replay_event, select_events

DONE = {"replayed": "The event is being done once more."}
STATES = ("waiting", "done", "dead")

blueprint = Blueprint("payment_events", __name__, template_folder="templates")


@blueprint.get("/staff/payments")
async def show() -> ResponseReturnValue:
    db = services().db
    state = request.args.get("state")
    if state is not None and state not in STATES:
        abort(404)
    await record_view(db, web_session.actor(web_session.require_user().user_id), None, "payments")
    events = await select_events(db, state, request.args.get("after"))
    dead, late = await count_stuck(db)
    return await render_template(
        "staff/payment_events.html",
        events=events,
        state=state,
        states=STATES,
        dead=dead,
        late=late,
        stuck_reports=await count_stuck_reports(db),
        set_up=services().payments.is_set_up,
        after=events[-1].event_id if len(events) == PAGE_ROWS_MAX else None,
        done=DONE.get(request.args.get("done", "")),
    )


@blueprint.post("/staff/payments/<event_id>/replay")
async def replay(event_id: str) -> ResponseReturnValue:
    actor = web_session.actor(web_session.require_user().user_id)
    try:
        await replay_event(services().db, actor, event_id)
    except NotFound:
        abort(404)
    services().wake_payments()
    return see(url_for("payment_events.show", done="replayed"))
