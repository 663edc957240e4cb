"""The control plane's settings."""

from __future__ import annotations

from pydantic import Field, field_validator

from storage.settings import Bind, BindSetting, ServerSettings


class AdminSettings(ServerSettings):
    """What `karta admin` reads."""

    admin_bind: BindSetting = Field(
        default=Bind("127.0.0.1", 8000), description="Where the admin pages are served."
    )
    public_url: str | None = Field(
        default=None,
        description="The gateway's own origin as clients see it: what the snippets on the pages name.",
        examples=["https://gateway.example.com"],
    )
    session_hours: float = Field(
        default=12, gt=0, le=24 * 30, description="How long a sign-in lasts, at most."
    )

    def listens_on(self) -> dict[str, Bind]:
        return {"KARTA_ADMIN_BIND": self.admin_bind}

    @field_validator("public_url")
    @classmethod
    def _check_public_url(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            raise ValueError("write it as a URL, for example https://gateway.example.com")
        return value.rstrip("/") if value else None
