"""Paying: a subscription, credit in advance, and what was paid.

No card comes near Karta. A form leads to a page of Stripe's, and what happened there is known only when
Stripe tells it: the page one comes back to waits for that and says so. Everything that may cost money needs
fresh proof, and is throttled by address and by organization.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Awaitable, Callable
from uuid import UUID, uuid4

from quart import Blueprint, abort, request, url_for
from quart.typing import ResponseReturnValue

from admin import authorization, throttle, web_session
from admin.payments import PaymentPage, Payments, PaymentsError, PaymentsRefused, Visit
from admin.redirect import see
from admin.rendering import render_template
from admin.services import services
from storage.errors import Conflict
from storage.ledger import select_balance
from storage.memberships import select_members
from storage.model import Plan
from storage.stripe_checkouts import Checkout, begin_checkout, keep_session, select_checkout
from storage.stripe_customers import ensure_customer_row, keep_customer, select_customer
from storage.stripe_invoices import PAGE_ROWS_MAX, select_invoices
from storage.stripe_objects import CheckoutState
from storage.stripe_subscriptions import record_cancellation, select_subscriptions

TOP_UP_DOLLARS_MIN, TOP_UP_DOLLARS_MAX = 5, 5000
UNAVAILABLE = "Stripe does not answer just now. Nothing was bought or changed: try again in a moment."
REFUSED = "Stripe did not take that. Nothing was bought or changed; it has been noted."
DONE = {
    "ends": "The subscription ends when what is paid for is over. Until then it can be kept.",
    "first": "The plan is paid for here: it ends with the subscription.",
    "kept": "The subscription goes on.",
}

WHOLE_CURRENCIES = frozenset({"clp", "jpy", "krw", "pyg", "vnd", "xaf", "xof"})
"""Those that have no smaller unit, of what Stripe takes."""

blueprint = Blueprint("payments", __name__, template_folder="templates")
_log = logging.getLogger("karta.admin")


@blueprint.get("/organizations/<uuid:org_id>/payments")
async def show(org_id: UUID) -> ResponseReturnValue:
    return await _render(org_id)


@blueprint.post("/organizations/<uuid:org_id>/payments/subscribe")
async def subscribe(org_id: UUID) -> ResponseReturnValue:
    payments = _require(lambda found: found.sells_pro)
    seats = max(1, len(await select_members(services().db, org_id)))

    async def open_page(visit: Visit) -> PaymentPage:
        # Stripe holds a key to what was asked with it, and by now there may be another number of members.
        return await payments.open_subscription(visit._replace(key=f"{visit.key}-{seats}"), seats)

    return await _visit(org_id, None, open_page)


@blueprint.post("/organizations/<uuid:org_id>/payments/top-up")
async def top_up(org_id: UUID) -> ResponseReturnValue:
    payments = _require(lambda found: found.is_set_up)
    typed = (await request.form).get("dollars", "").strip()
    dollars = int(typed) if typed.isascii() and typed.isdigit() and len(typed) < 10 else 0
    if not TOP_UP_DOLLARS_MIN <= dollars <= TOP_UP_DOLLARS_MAX:
        problem = f"Whole dollars, {TOP_UP_DOLLARS_MIN} to {TOP_UP_DOLLARS_MAX:,}."
        return await _render(org_id, {"dollars": problem}, typed), 422
    return await _visit(org_id, dollars * 100, lambda visit: payments.open_top_up(visit, dollars * 100))


@blueprint.post("/organizations/<uuid:org_id>/payments/portal")
async def open_portal(org_id: UUID) -> ResponseReturnValue:
    payments = _require(lambda found: found.is_set_up)
    await _count(org_id)
    customer = await select_customer(services().db, org_id)
    if customer is None or customer.customer_id is None:
        return see(url_for("payments.show", org_id=org_id))
    try:
        return see(await payments.open_portal(customer.customer_id, _home(org_id)))
    except PaymentsError as error:
        return await _apologize(org_id, error)


@blueprint.post("/organizations/<uuid:org_id>/payments/end")
async def end(org_id: UUID) -> ResponseReturnValue:
    return await _end(org_id, at_period_end=True)


@blueprint.post("/organizations/<uuid:org_id>/payments/keep")
async def keep(org_id: UUID) -> ResponseReturnValue:
    return await _end(org_id, at_period_end=False)


@blueprint.get("/organizations/<uuid:org_id>/payments/return/<uuid:checkout_id>")
async def show_return(org_id: UUID, checkout_id: UUID) -> ResponseReturnValue:
    """Where Stripe sends people back to. That they come says nothing about whether they paid."""
    checkout = await select_checkout(services().db, org_id, checkout_id)
    if checkout is None:
        abort(404)
    return await render_template("billing/return.html", checkout=checkout)


def show_money(amount: int, currency: str) -> str:
    """`$12.50`, `9.00 EUR`, `1,200 JPY`; `amount` is in the currency's smallest unit."""
    told = f"{amount:,}" if currency in WHOLE_CURRENCIES else f"{amount / 100:,.2f}"
    return f"${told}" if currency == "usd" else f"{told} {currency.upper()}"


def _require(has: Callable[[Payments], bool]) -> Payments:
    payments = services().payments
    if not has(payments):
        abort(404)
    return payments


async def _count(org_id: UUID) -> None:
    await throttle.count_address(throttle.CHECKOUT_ADDRESS)
    await throttle.count(throttle.CHECKOUT_ORGANIZATION, str(org_id))


async def _visit(
    org_id: UUID, top_up_cents: int | None, open_page: Callable[[Visit], Awaitable[PaymentPage]]
) -> ResponseReturnValue:
    """Leads to Stripe's page: the same one for the same form."""
    await _count(org_id)
    db, actor = services().db, web_session.actor(web_session.require_user().user_id)
    try:
        attempt = UUID((await request.form).get("attempt", ""))
    except ValueError:
        abort(400)
    try:
        customer_id = await _ensure_customer(org_id)
        checkout = await begin_checkout(db, actor, org_id, attempt, top_up_cents=top_up_cents)
        if checkout.state is not CheckoutState.OPEN:
            return see(_return_path(checkout))
        if checkout.session_id is None:
            page = await open_page(_describe(checkout, customer_id))
        else:
            known = await services().payments.read_page(checkout.session_id)
            if known is None:
                return see(_return_path(checkout))
            page = known
    except Conflict:
        return see(url_for("payments.show", org_id=org_id))
    except PaymentsError as error:
        return await _apologize(org_id, error)
    await keep_session(db, checkout.checkout_id, page.session_id)
    return see(page.url)


def _describe(checkout: Checkout, customer_id: str) -> Visit:
    return Visit(
        checkout_id=checkout.checkout_id,
        customer_id=customer_id,
        key=checkout.idempotency_key,
        done_url=services().origin + _return_path(checkout),
        back_url=_home(checkout.org_id),
        ends_at=checkout.ends_at,
    )


def _return_path(checkout: Checkout) -> str:
    return url_for("payments.show_return", org_id=checkout.org_id, checkout_id=checkout.checkout_id)


def _home(org_id: UUID) -> str:
    """By the configured origin: what a request says of its host counts for nothing."""
    return services().origin + url_for("payments.show", org_id=org_id)


async def _ensure_customer(org_id: UUID) -> str:
    """What Stripe calls the organization, made there once. Raises `PaymentsError`."""
    db, user = services().db, web_session.require_user()
    row = await ensure_customer_row(db, org_id)
    if row.customer_id is not None:
        return row.customer_id
    name = authorization.current_membership().organization.name
    # Whoever tries again after a failure may be somebody else: Stripe holds a key to what was asked with it.
    told = hashlib.sha256(f"{name}\0{user.email}".encode()).hexdigest()[:16]
    made = await services().payments.create_customer(
        org_id, name, user.email, f"{row.idempotency_key}-{told}"
    )
    return await keep_customer(db, web_session.actor(user.user_id), row, made)


async def _end(org_id: UUID, *, at_period_end: bool) -> ResponseReturnValue:
    payments = _require(lambda found: found.is_set_up)
    await _count(org_id)
    running = [one for one in await select_subscriptions(services().db, org_id) if one.ended_at is None]
    if not running:
        return see(url_for("payments.show", org_id=org_id))
    actor = web_session.actor(web_session.require_user().user_id)
    try:
        for one in running:
            await payments.end_subscription(one.subscription_id, at_period_end=at_period_end)
            await record_cancellation(services().db, actor, org_id, one.subscription_id, ends=at_period_end)
    except PaymentsError as error:
        return await _apologize(org_id, error)
    done = "ends" if at_period_end else "kept"
    return see(url_for("payments.show", org_id=org_id, done=done))


async def _apologize(org_id: UUID, error: PaymentsError) -> ResponseReturnValue:
    _log.error("a payment of %s was not begun: %s", org_id, error)
    words = REFUSED if isinstance(error, PaymentsRefused) else UNAVAILABLE
    return await _render(org_id, {"stripe": words}), 503


async def _render(org_id: UUID, problems: dict[str, str] | None = None, dollars: str = "") -> str:
    db, payments = services().db, services().payments
    customer = await select_customer(db, org_id)
    subscriptions = await select_subscriptions(db, org_id)
    invoices = await select_invoices(db, org_id, request.args.get("after"))
    running = [one for one in subscriptions if one.ended_at is None]
    plan = authorization.current_membership().organization.plan
    return await render_template(
        "billing/payments.html",
        set_up=payments.is_set_up,
        sells_pro=payments.sells_pro and not running and plan is Plan.FREE,
        running=running,
        known=customer is not None and customer.customer_id is not None,
        tax_ids=customer.tax_ids if customer else (),
        balance=await select_balance(db, org_id),
        invoices=invoices,
        after=invoices[-1].invoice_id if len(invoices) == PAGE_ROWS_MAX else None,
        attempt=uuid4,
        show_money=show_money,
        least=TOP_UP_DOLLARS_MIN,
        most=TOP_UP_DOLLARS_MAX,
        dollars=dollars,
        problems=problems or {},
        done=DONE.get(request.args.get("done", "")),
    )
