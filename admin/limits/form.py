"""The form of limits: what its fields mean, how they are read, and what there is to change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from admin import amount
from admin.amount import BadAmount
from storage.limits import LimitStanding
from storage.model import LimitKind, Period


class Field(NamedTuple):
    """One limit that the form shows."""

    name: str
    label: str
    kind: LimitKind
    period: Period
    unit: str


FIELDS = (
    Field("requests", "Requests a minute", LimitKind.REQUESTS, Period.MINUTE, "requests"),
    Field("tokens", "Tokens a minute", LimitKind.TOKENS, Period.MINUTE, "tokens"),
    Field("concurrent", "Requests at once", LimitKind.CONCURRENT, Period.NONE, "at once"),
    Field("day", "Budget a day, in dollars", LimitKind.MONEY, Period.DAY, "today"),
    Field("month", "Budget a month, in dollars", LimitKind.MONEY, Period.MONTH, "this month"),
)


def read_amount(field: Field, text: str) -> int | None:
    """The amount in the unit that is kept; None when the field is empty, which means no limit.

    Raises `BadAmount`.
    """
    text = text.strip().replace(",", "")
    return amount.read_amount(field.kind, text) if text else None


def show_amount(field: Field, kept: int) -> str:
    """As the form shows it, and reads it again."""
    return amount.show_amount(field.kind, kept)


def find_standings(standings: list[LimitStanding]) -> dict[str, LimitStanding]:
    """Of each field the limit that there is, for all models."""
    return {
        field.name: standing
        for field in FIELDS
        for standing in standings
        if (standing.limit.kind, standing.limit.period) == (field.kind, field.period)
        and standing.limit.model is None
    }


def read_form(form: Mapping[str, str]) -> tuple[dict[str, int | None], dict[str, str]]:
    """The amounts by field, and what is wrong by field."""
    amounts: dict[str, int | None] = {}
    problems = {}
    for field in FIELDS:
        try:
            amounts[field.name] = read_amount(field, form.get(field.name, ""))
        except BadAmount:
            example = "like 12.50" if field.kind is LimitKind.MONEY else "above zero"
            problems[field.name] = f"Write a number {example}, or nothing for no limit."
    return amounts, problems
