from __future__ import annotations

from typing import Any

import pytest

from admin.mail.settings import MailSettings
from storage.sealing import MasterKeys
from storage.settings import SettingsError

GIVEN = {"database_url": "postgresql://x/y", "master_keys": MasterKeys.generate()}


def load(**given: Any) -> MailSettings:
    return MailSettings.load(**{**GIVEN, **given})


def test_without_a_token_nothing_is_sent_and_nothing_is_wrong() -> None:
    settings = load()
    assert not settings.sends_mail
    assert settings.postmark_url == "https://api.postmarkapp.com"


def test_with_a_token_there_is_a_sender_and_a_master_key() -> None:
    settings = load(postmark_token="t" * 20, mail_from="Karta <karta@example.com>")
    assert settings.sends_mail
    assert "t" * 20 not in repr(settings)
    with pytest.raises(SettingsError, match="KARTA_MAIL_FROM"):
        load(postmark_token="t" * 20)
    with pytest.raises(SettingsError, match="KARTA_MASTER_KEYS"):
        load(postmark_token="t" * 20, mail_from="karta@example.com", master_keys=None)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("postmark_url", "http://api.postmarkapp.com"),
        ("postmark_url", "ftp://api.postmarkapp.com"),
        ("postmark_url", "https://user@api.postmarkapp.com"),
        ("postmark_url", "https://"),
        ("postmark_stream", "out bound"),
        ("mail_from", "nobody"),
        ("mail_from", "Karta\r\nBcc: x@example.com <karta@example.com>"),
        ("mail_from", "Karta, Inc <karta@example.com>"),
        ("postmark_webhook_password", "short"),
    ],
)
def test_what_is_not_sound_is_refused(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"KARTA_{name.upper()}"):
        load(**{name: value})


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/", "http://localhost:9", "https://api.example.com/pm/"])
def test_plain_http_is_for_loopback(url: str) -> None:
    assert load(postmark_url=url).postmark_url == url.rstrip("/")
