"""How mail leaves: the settings of Postmark."""

from __future__ import annotations

from email.utils import parseaddr
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, StringConstraints, field_validator

from storage.errors import InvalidValue
from storage.settings import ServerSettings, is_loopback
from storage.users import normalize_email

WEBHOOK_PASSWORD_CHARS_MIN = 16
_Stream = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]{1,40}$")]


class MailSettings(ServerSettings):
    """Without a token nothing is sent: mail waits in the outbox."""

    postmark_token: SecretStr | None = Field(
        default=None,
        description="The server token of Postmark, which sends the mail. Unset, mail waits in the outbox: "
        "development shows it at `/outbox`.",
    )
    postmark_url: str = Field(
        default="https://api.postmarkapp.com",
        description="Postmark's API. Plain http only to loopback.",
    )
    postmark_stream: _Stream = Field(
        default="outbound", description="The message stream for letters to one person."
    )
    postmark_broadcast_stream: _Stream = Field(
        default="broadcast",
        description="The message stream for letters to subscribers: incidents, changed sub-processors.",
    )
    postmark_webhook_password: SecretStr | None = Field(
        default=None,
        description="What Postmark proves itself by when it tells of bounces and complaints: the password, "
        "of the user `postmark`, in the webhook's URL. Unset, nobody may tell.",
    )
    mail_from: str | None = Field(
        default=None,
        description="Who letters are from: an address that Postmark knows as a sender signature.",
        examples=["Karta <karta@example.com>"],
    )

    @property
    def sends_mail(self) -> bool:
        return self.postmark_token is not None

    def problems(self) -> list[str]:
        problems = super().problems()
        if self.sends_mail and self.mail_from is None:
            problems.append(
                "KARTA_MAIL_FROM: not set, and KARTA_POSTMARK_TOKEN is; set the address that letters are "
                "from, for example Karta <karta@example.com>"
            )
        if self.sends_mail and not (self.master_keys or self.master_keys_file):
            problems.append("KARTA_MASTER_KEYS: letters are sealed; without a master key none can be sent")
        return problems

    @field_validator("postmark_url")
    @classmethod
    def _check_postmark_url(cls, value: str) -> str:
        parts = urlsplit(value.rstrip("/"))
        plain = parts.scheme == "http" and is_loopback(parts.hostname or "")
        if not parts.hostname or not (plain or parts.scheme == "https") or parts.query or parts.username:
            raise ValueError("write it as an https URL; plain http is for loopback only")
        return value.rstrip("/")

    @field_validator("postmark_webhook_password")
    @classmethod
    def _check_webhook_password(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value()) < WEBHOOK_PASSWORD_CHARS_MIN:
            raise ValueError(f"too short to be a secret: {WEBHOOK_PASSWORD_CHARS_MIN} characters or more")
        return value

    @field_validator("mail_from")
    @classmethod
    def _check_mail_from(cls, value: str | None) -> str | None:
        if value is None:
            return None
        name, address = parseaddr(value)
        try:
            normalize_email(address)
        except InvalidValue:
            raise ValueError("write it as an address, or as Name <address>") from None
        if not value.isprintable() or any(char in name for char in '",;<>@'):
            raise ValueError("the name has a character that mail headers do not take as it is")
        return value
