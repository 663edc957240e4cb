"""The control plane's settings."""

from __future__ import annotations

import pytest

from admin.settings import AdminSettings
from storage.settings import Bind, SettingsError

URL = "postgresql://karta@127.0.0.1/karta"


def test_the_defaults_are_for_one_machine() -> None:
    settings = AdminSettings.load(database_url=URL)
    assert settings.admin_bind == Bind("127.0.0.1", 8000)
    assert settings.listens_on() == {"KARTA_ADMIN_BIND": settings.admin_bind}


def test_the_gateways_url_is_one() -> None:
    assert AdminSettings.load(database_url=URL, public_url="https://gw/").public_url == "https://gw"
    with pytest.raises(SettingsError, match="KARTA_PUBLIC_URL: write it as a URL"):
        AdminSettings.load(database_url=URL, public_url="gw:8080")


def test_a_session_has_an_end() -> None:
    with pytest.raises(SettingsError, match="KARTA_SESSION_HOURS"):
        AdminSettings.load(database_url=URL, session_hours=0)
