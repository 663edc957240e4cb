from __future__ import annotations

from datetime import UTC, datetime

from storage.bridge import Database
from storage.letter_kinds import MailTopic
from storage.mail_preferences import select_opt_outs
from storage.suppressions import EVERY_STREAM, Reason, suppress
from tests.admin.browsing import Visitor
from tests.admin.conftest import ACTOR, Person
from tests.admin.trust.test_views import check_html

PAGE = "/account/mail"


async def test_a_person_chooses_what_they_get(signed_in: Visitor, person: Person, admin_db: Database) -> None:
    page = (await signed_in.get(PAGE)).text
    check_html(page)
    assert page.count(" checked") == len(MailTopic)
    answer = await signed_in.submit(PAGE, {"keys": "yes"})
    assert answer.headers["location"] == f"{PAGE}?done=kept"
    without = await select_opt_outs(admin_db, person.user.user_id)
    assert without == {MailTopic.BUDGETS, MailTopic.WEBHOOKS}
    assert (await signed_in.get(PAGE)).text.count(" checked") == 1
    await signed_in.submit(PAGE, {topic.value: "yes" for topic in MailTopic})
    assert await select_opt_outs(admin_db, person.user.user_id) == set()


async def test_whose_address_takes_no_mail_is_told(
    signed_in: Visitor, person: Person, admin_db: Database
) -> None:
    assert "takes no mail" not in (await signed_in.get("/account")).text
    now = datetime.now(UTC)
    await suppress(admin_db, ACTOR, person.email, EVERY_STREAM, Reason.HARD_BOUNCE, now)
    assert "takes no mail" in (await signed_in.get("/account")).text
    page = (await signed_in.get(PAGE)).text
    check_html(page)
    assert "came back" in page


async def test_it_is_for_those_who_are_signed_in(visitor: Visitor) -> None:
    assert (await visitor.get(PAGE)).status_code == 303
