"""Plans as pages tell of them: what each has, in words, side by side; and what a change to one would do."""

from __future__ import annotations

from typing import NamedTuple

from admin.wording import dollars
from storage.model import Plan
from storage.plan_terms import SUSPENDED_KEPT, TERMS, Allowance, Feature, PlanTerms, limit_of
from storage.plans import PlanChange

_WORDS = {
    Allowance.SEATS: "Seats",
    Allowance.KEYS: "API keys",
    Allowance.WEBHOOK_ENDPOINTS: "Webhook endpoints",
    Allowance.REQUESTS_PER_MINUTE: "Requests a minute",
    Allowance.TOKENS_PER_MINUTE: "Tokens a minute",
    Allowance.CONCURRENT: "Requests at once",
    Allowance.USAGE_DAYS: "Single requests kept, days",
    Allowance.AUDIT_DAYS: "Audit log shown, days",
}


class Row(NamedTuple):
    """One line of the table of plans: what it is about, and a cell for each plan, cheapest first."""

    name: str
    cells: tuple[str, ...]


def compare() -> list[Row]:
    """All that plans differ in."""
    plans = TERMS.values()
    return [
        Row("Price, for a seat and month", tuple(map(show_price, plans))),
        Row(
            "Your own provider keys", tuple("Yes" if Feature.BYOK in one.features else "No" for one in plans)
        ),
        Row(
            "Included credit a month",
            tuple(dollars(one.included_picodollars) if one.included_picodollars else "None" for one in plans),
        ),
        *[
            Row(words, tuple(show_number(limit_of(plan, allowance)) for plan in TERMS))
            for allowance, words in _WORDS.items()
        ],
    ]


def show_price(terms: PlanTerms) -> str:
    if terms.price_picodollars is None:
        return "By agreement"
    return dollars(terms.price_picodollars) if terms.price_picodollars else "Free"


def show_number(amount: int | None) -> str:
    return "No ceiling" if amount is None else f"{amount:,}"


def rank(plan: Plan) -> int:
    """Dearer plans have the higher one."""
    return tuple(TERMS).index(plan)


def describe(change: PlanChange) -> list[str]:
    """What follows from a change of plan, in sentences."""
    told = []
    if change.suspended:
        told.append(
            f"Your provider keys ({', '.join(change.suspended)}) are suspended at once: requests that need "
            "them are refused, and go nowhere else. They come back with the plan; after "
            f"{SUSPENDED_KEPT.days} days they are destroyed."
        )
    if change.resumed:
        told.append(f"Your suspended provider keys ({', '.join(change.resumed)}) are in use again.")
    if change.seats_over:
        told.append(
            f"{change.seats_over} of the members are more than the plan has seats for: they stay, and nobody "
            "new is invited."
        )
    if change.keys_over:
        told.append(
            f"{change.keys_over} of the API keys are more than the plan has: they work, and none is made."
        )
    ceilings = [
        f"{limit_of(change.after, allowance):,} {_WORDS[allowance].lower()}"
        for allowance in (Allowance.REQUESTS_PER_MINUTE, Allowance.TOKENS_PER_MINUTE, Allowance.CONCURRENT)
        if limit_of(change.after, allowance) is not None
    ]
    if ceilings:
        told.append(f"From then on the organization has {', '.join(ceilings)} at most.")
    told.append("Credit that you have stays. The next month brings what the new plan includes.")
    return told
