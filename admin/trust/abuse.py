"""The form by which anybody reports abuse: throttled, kept, mailed to those who look after it, and answered
with a reference. Nothing is mailed to the address that a stranger gives."""

from __future__ import annotations

from quart import Blueprint, request, url_for
from quart.typing import ResponseReturnValue

from admin import throttle, web_session
from admin.rendering import render_template
from admin.services import services
from storage.abuse_reports import REPORT_CHARS_MAX, Category, file_report, make_reference
from storage.errors import InvalidValue
from storage.letter_kinds import LetterKind
from storage.outbox import Letter
from storage.users import normalize_email

CATEGORIES = (
    (Category.CONTENT, "Harmful or unlawful use of a model"),
    (Category.SECURITY, "A weakness, or a leaked key"),
    (Category.SPAM, "Spam"),
    (Category.OTHER, "Something else"),
)

blueprint = Blueprint("abuse", __name__, template_folder="templates")


@blueprint.get("/abuse")
async def show() -> ResponseReturnValue:
    return await _render({}, {})


@blueprint.post("/abuse")
async def report() -> ResponseReturnValue:
    await throttle.count_address(throttle.ABUSE_ADDRESS)
    form = await request.form
    given = {name: form.get(name, "").strip() for name in ("category", "report", "email")}
    problems, email = {}, None
    if given["category"] not in set(Category):
        problems["category"] = "Choose what it is about."
    if not 0 < len(given["report"]) <= REPORT_CHARS_MAX or "\0" in given["report"]:
        problems["report"] = f"A report has 1 to {REPORT_CHARS_MAX} characters."
    if given["email"]:
        try:
            email = normalize_email(given["email"])
        except InvalidValue:
            problems["email"] = "That is not an email address."
    if problems:
        return await _render(given, problems), 422
    await throttle.count(throttle.ABUSE_ALL, "everybody")
    reference, category = make_reference(), Category(given["category"])
    recipient, letter = services().settings.abuse_email, None
    if recipient is not None:
        facts = {
            "reference": reference,
            "category": category.value,
            "report": given["report"],
            "email": email or "",
        }
        told = Letter(kind=LetterKind.ABUSE_REPORTED, recipient=recipient, facts=facts)
        letter = (services().master_keys, told)
    await file_report(
        services().db, web_session.actor(None), reference, category, given["report"], email, letter
    )
    return await render_template("trust/abuse_sent.html", reference=reference, again=url_for("abuse.show"))


async def _render(given: dict[str, str], problems: dict[str, str]) -> str:
    return await render_template(
        "trust/abuse.html",
        given=given,
        problems=problems,
        categories=CATEGORIES,
        chars_max=REPORT_CHARS_MAX,
    )
