"""The control plane's settings."""

from __future__ import annotations

from urllib.parse import urlsplit

from pydantic import Field, field_validator

from storage.settings import Bind, BindSetting, ServerSettings


class AdminSettings(ServerSettings):
    """What `karta admin` reads."""

    admin_bind: BindSetting = Field(
        default=Bind("127.0.0.1", 8000), description="Where the admin pages are served."
    )
    admin_url: str | None = Field(
        default=None,
        description="The admin pages' own origin as browsers see it: what links in mail name, and what "
        "passkeys belong to. Unset, it is the bind's, under the name `localhost`; production must set it.",
        examples=["https://admin.example.com"],
    )
    public_url: str | None = Field(
        default=None,
        description="The gateway's own origin as clients see it: what the snippets on the pages name.",
        examples=["https://gateway.example.com"],
    )
    session_hours: float = Field(
        default=12, gt=0, le=24 * 30, description="How long a sign-in lasts, at most."
    )
    session_idle_minutes: float = Field(
        default=120, gt=0, le=60 * 24 * 30, description="How long a sign-in lasts while nobody uses it."
    )

    @property
    def gateway_url(self) -> str:
        """What snippets name: the gateway's origin, or where one on this machine is by default."""
        return self.public_url or "http://127.0.0.1:8080"

    def listens_on(self) -> dict[str, Bind]:
        return {"KARTA_ADMIN_BIND": self.admin_bind}

    def problems(self) -> list[str]:
        problems = super().problems()
        if self.env == "production" and not (self.admin_url or "").startswith("https://"):
            problems.append(
                "KARTA_ADMIN_URL: production needs the admin pages' own https origin, for example "
                "https://admin.example.com"
            )
        return problems

    @field_validator("public_url")
    @classmethod
    def _check_public_url(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            raise ValueError("write it as a URL, for example https://gateway.example.com")
        return value.rstrip("/") if value else None

    @field_validator("admin_url")
    @classmethod
    def _check_admin_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value.rstrip("/").lower())
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path or parts.query:
            raise ValueError("write it as an origin, for example https://admin.example.com")
        return f"{parts.scheme}://{parts.netloc}"
