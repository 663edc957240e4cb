"""The plan of an organization: what it has, what is used of it, and going to a cheaper one.

A dearer plan begins with a payment, where payments are set up; elsewhere staff or the command line give it.
"""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from quart import Blueprint, abort, request, url_for
from quart.typing import ResponseReturnValue

from admin import authorization, web_session
from admin.billing.terms import compare, describe, rank, show_number
from admin.redirect import see
from admin.rendering import render_template
from admin.services import services
from admin.standing import describe_all
from storage.credentials import select_credentials
from storage.ledger import select_balance
from storage.limits import select_limits
from storage.model import LimitKind, Plan
from storage.organizations import set_plan
from storage.plans import (
    SUSPENDED_KEPT,
    TERMS,
    Allowance,
    count_keys,
    count_members,
    limit_of,
    preview_plan,
)
from storage.stripe_subscriptions import has_subscription

DONE = {"changed": "The plan was changed."}
_PAYMENTS = "payments.show"


class Used(NamedTuple):
    """How much of something is taken."""

    name: str
    taken: int
    most: int | None

    @property
    def is_over(self) -> bool:
        return self.most is not None and self.taken > self.most


blueprint = Blueprint("plan", __name__, template_folder="templates")


@blueprint.get("/organizations/<uuid:org_id>/plan")
async def show(org_id: UUID) -> ResponseReturnValue:
    db = services().db
    organization = authorization.current_membership().organization
    plan = organization.plan
    standings = await select_limits(db, org_id, of_plan=True)
    credentials = await select_credentials(db, org_id, live=True)
    suspended = [one for one in credentials if one.suspended_at]
    seats = limit_of(plan, Allowance.SEATS, seats=organization.seats)
    used = [
        Used("Seats", await count_members(db, org_id), seats),
        Used("API keys", await count_keys(db, org_id), limit_of(plan, Allowance.KEYS)),
    ]
    return await render_template(
        "billing/plan.html",
        terms=TERMS,
        show_number=show_number,
        rows=compare(),
        used=used,
        ceilings=describe_all((one for one in standings if one.limit.kind is not LimitKind.CREDIT), {}),
        balance=await select_balance(db, org_id),
        suspended=suspended,
        shredded_at=min((one.suspended_at for one in suspended if one.suspended_at), default=None),
        kept=SUSPENDED_KEPT,
        cheaper=[one for one in TERMS if rank(one) < rank(plan)],
        dearer=[one for one in TERMS if rank(one) > rank(plan)],
        payments_url=_payments_url(org_id),
        is_subscribed=await has_subscription(db, org_id),
        done=DONE.get(request.args.get("done", "")),
    )


@blueprint.get("/organizations/<uuid:org_id>/plan/change")
async def show_change(org_id: UUID) -> ResponseReturnValue:
    plan = _read_cheaper(request.args.get("to", ""))
    if await has_subscription(services().db, org_id):
        # What is paid for ends by not being paid for.
        return see(url_for(_PAYMENTS, org_id=org_id, done="first"))
    change = await preview_plan(services().db, org_id, plan)
    return await render_template(
        "billing/change.html", terms=TERMS[plan], told=describe(change), organization_id=org_id
    )


@blueprint.post("/organizations/<uuid:org_id>/plan/change")
async def change(org_id: UUID) -> ResponseReturnValue:
    plan = _read_cheaper((await request.form).get("to", ""))
    if await has_subscription(services().db, org_id):
        return see(url_for(_PAYMENTS, org_id=org_id, done="first"))
    await set_plan(services().db, web_session.actor(web_session.require_user().user_id), org_id, plan)
    return see(url_for("plan.show", org_id=org_id, done="changed"))


def _read_cheaper(text: str) -> Plan:
    """The plan that is named, if its owners may go to it by themselves."""
    organization = authorization.current_membership().organization
    try:
        plan = Plan(text)
    except ValueError:
        abort(400)
    if rank(plan) >= rank(organization.plan):
        abort(400)
    return plan


def _payments_url(org_id: UUID) -> str | None:
    known = services().payments.sells_pro and authorization.allows(_PAYMENTS)
    return url_for(_PAYMENTS, org_id=org_id) if known else None
