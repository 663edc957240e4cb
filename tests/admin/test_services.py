"""What views share is attached once."""

from __future__ import annotations

import pytest
from quart_trio import QuartTrio

from admin.accounts.password_check import PasswordCheck
from admin.services import NoMasterKey, Services, services
from admin.settings import AdminSettings
from storage.bridge import Database


async def test_it_must_be_attached_first() -> None:
    app = QuartTrio(__name__)
    app.extensions["karta"] = "something else"
    async with app.app_context():
        with pytest.raises(TypeError, match=r"Services\.attach"):
            services()


async def test_what_must_be_sealed_needs_a_master_key(admin_db: Database) -> None:
    settings = AdminSettings.load(database_url="postgresql://karta@127.0.0.1/karta")
    made = Services(admin_db, settings, PasswordCheck(), "https://admin.example.com:444", None)
    assert made.host == "admin.example.com"
    with pytest.raises(NoMasterKey):
        _ = made.master_keys
