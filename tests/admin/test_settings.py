"""The control plane's settings."""

from __future__ import annotations

import pytest

from admin.settings import AdminSettings
from storage.sealing import MasterKeys
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


def test_the_pages_own_origin_is_one() -> None:
    load = AdminSettings.load
    assert (
        load(database_url=URL, admin_url="https://Admin.example.com/").admin_url
        == "https://admin.example.com"
    )
    for bad in ("admin.example.com", "https://", "https://a.example/path", "https://a.example?x", "ftp://a"):
        with pytest.raises(SettingsError, match="KARTA_ADMIN_URL: write it as an origin"):
            load(database_url=URL, admin_url=bad)


@pytest.mark.parametrize("admin_url", [None, "http://admin.example.com"])
def test_production_names_it_with_https(admin_url: str | None) -> None:
    with pytest.raises(SettingsError, match="KARTA_ADMIN_URL"):
        AdminSettings.load(
            database_url=URL,
            env="production",
            trusted_proxies=["10.0.0.0/8"],
            master_keys=MasterKeys.generate(),
            admin_url=admin_url,
        )
