"""What both forms that ask for a link have in common: neither tells whether there is an account."""

from __future__ import annotations

import pytest

from admin import throttle
from admin.accounts.asking import NO_ADDRESS
from storage.bridge import Database
from tests.admin.browsing import Visitor
from tests.admin.conftest import Person
from tests.admin.mailbox import letters

FORMS = ["/sign-up", "/forgot-password"]


@pytest.mark.parametrize("path", FORMS)
async def test_what_is_no_address_is_told_and_nothing_sent(
    visitor: Visitor, admin_db: Database, path: str
) -> None:
    refused = await visitor.submit(path, {"email": "nobody"})
    assert refused.status_code == 422
    assert NO_ADDRESS in refused.text
    assert await letters(admin_db) == []


@pytest.mark.parametrize("path", FORMS)
async def test_known_or_not_the_answer_is_the_same(visitor: Visitor, person: Person, path: str) -> None:
    answers = [await visitor.submit(path, {"email": email}) for email in (person.email, "nobody@example.com")]
    told = {(answer.status_code, answer.text, answer.headers["location"]) for answer in answers}
    assert told == {(303, answers[0].text, f"{path}/sent")}


@pytest.mark.parametrize("path", FORMS)
async def test_nobody_is_flooded_with_mail(
    visitor: Visitor, person: Person, admin_db: Database, path: str
) -> None:
    rule = throttle.SIGN_UP_ACCOUNT if path == "/sign-up" else throttle.RESET_ACCOUNT
    statuses = [
        (await visitor.submit(path, {"email": person.email})).status_code for _ in range(rule.uses + 1)
    ]
    assert statuses == [303] * rule.uses + [429]
    assert len(await letters(admin_db)) == rule.uses
