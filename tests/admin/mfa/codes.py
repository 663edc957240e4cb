"""An authenticator app in tests' hands: set up through the pages, its codes made for steps not spent yet."""

from __future__ import annotations

import re
import time

import httpx
import pyotp

from storage.bridge import Database
from tests.admin.browsing import Visitor, token_of
from tests.admin.conftest import MASTER_KEYS


class App:
    """Codes of one secret. Each call gives one of a step that was not given before, by turning the spent step
    back in the database: nobody waits half a minute."""

    def __init__(self, secret: str, db: Database) -> None:
        self.secret = secret
        self._db = db

    async def code(self) -> str:
        await self._db.execute("UPDATE totp_factors SET last_step = 0")
        return pyotp.TOTP(self.secret).at(int(time.time()))

    def same_code(self) -> str:
        return pyotp.TOTP(self.secret).at(int(time.time()))


async def set_up_app(visitor: Visitor, db: Database) -> tuple[App, httpx.Response]:
    """Through the pages, as a person does; and where that led."""
    begun = await visitor.submit("/account/factors", {}, "/account/factors/app")
    assert begun.headers["location"] == "/account/factors/app"
    page = (await visitor.get("/account/factors/app")).text
    found = re.search(r"<code>([A-Z2-7 ]+)</code>", page)
    assert found is not None
    app = App(found[1].replace(" ", ""), db)
    form = {"csrf_token": token_of(page), "code": app.same_code()}
    return app, await visitor.post("/account/factors/app/confirm", form)


__all__ = ["MASTER_KEYS", "App", "set_up_app"]
