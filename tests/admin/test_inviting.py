from __future__ import annotations

from storage.bridge import Database
from tests.admin.browsing import Visitor
from tests.admin.conftest import Person
from tests.admin.mailbox import mails


async def test_an_invitation_says_into_what_and_as_what(
    signed_in: Visitor, person: Person, admin_db: Database
) -> None:
    path = f"/organizations/{person.organization.org_id}"
    form = {"email": "new@example.com", "role": "billing"}
    await signed_in.submit(f"{path}/members", form, f"{path}/invitations")
    [mail] = await mails(admin_db)
    for said in ("Acme", "billing", "usage, budgets and bills", "/invitation/"):
        assert said in mail.text
