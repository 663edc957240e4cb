"""The control plane's settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, field_validator

from admin.mail.settings import MailSettings
from admin.stripe_settings import StripeSettings
from admin.trust.security_txt import NotSecurityTxt, SignedFile
from admin.trust.security_txt import load as load_signed
from admin.trust.sub_processors import NotSubProcessors, load
from storage.errors import InvalidValue
from storage.settings import Bind, BindSetting, Network, split_list
from storage.users import normalize_email

STALLED_SECONDS = 60.0
DATABASE_CONNECTIONS_MAX = 6
"""Of each process; of which the delivery worker keeps two busy at most."""


class AdminSettings(MailSettings, StripeSettings):
    """What `karta admin` reads."""

    admin_bind: BindSetting = Field(
        default=Bind("127.0.0.1", 8000), description="Where the admin pages are served."
    )
    admin_processes: int = Field(
        default=1,
        ge=1,
        le=64,
        description="How many processes serve the admin pages, on one port. One answers some 200 pages a "
        f"second, and takes up to {DATABASE_CONNECTIONS_MAX} connections to the database.",
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
    status_url: str | None = Field(
        default=None,
        description="The status page's own origin, when it is served under a name of its own as well: there "
        "is nothing else under it.",
        examples=["https://status.example.com"],
    )
    status_dir: Path | None = Field(
        default=None,
        description="A folder where the last-known status page is kept, as files that any web server can "
        "show; also what the admin pages show after a start without a database.",
    )
    security_contact: str | None = Field(
        default=None,
        description="Whom to tell of a weakness, for security.txt: a mail address or an https URL. Unset, it "
        "is the abuse form.",
        examples=["security@example.com"],
    )
    security_txt_file: Path | None = Field(
        default=None,
        description="A security.txt that you have signed (`gpg --clearsign`), served as it is until it "
        "expires; after that, and unset, one without a signature. It is read at the start.",
    )
    abuse_email: str | None = Field(
        default=None,
        description="Who is sent each report of abuse by mail. Unset, reports are only kept.",
        examples=["abuse@example.com"],
    )
    sub_processors_file: Path | None = Field(
        default=None, description="The list of sub-processors to show instead of the release's own."
    )
    admin_stalled_seconds: float = Field(
        default=STALLED_SECONDS,
        gt=0,
        le=3600,
        description="For how long a browser may take nothing of an answer, an export for example, before its "
        "connection is reset (on Linux).",
    )
    session_hours: float = Field(
        default=12, gt=0, le=24 * 30, description="How long a sign-in lasts, at most."
    )
    session_idle_minutes: float = Field(
        default=120, gt=0, le=60 * 24 * 30, description="How long a sign-in lasts while nobody uses it."
    )

    webhooks_deliver: bool = Field(
        default=True,
        description="Whether the admin server sends outgoing webhooks itself. Set it to false where "
        "`karta webhooks` runs.",
    )
    webhooks_allowed_networks: Annotated[tuple[Network, ...], BeforeValidator(split_list)] = Field(
        default=(),
        description="Private networks that outgoing webhooks may reach, comma separated. DANGEROUS where "
        "others than you are customers: they choose the URLs. Empty, only addresses of the public internet "
        "are reached, on ports 443 and 8443.",
    )
    webhooks_ca_file: Path | None = Field(
        default=None,
        description="Authorities that vouch for receivers of webhooks, as PEM, besides the system's.",
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
        if self.webhooks_ca_file is not None and not self.webhooks_ca_file.is_file():
            problems.append("KARTA_WEBHOOKS_CA_FILE: there is no such file")
        try:
            load(self.sub_processors_file)
        except NotSubProcessors as error:
            problems.append(f"KARTA_SUB_PROCESSORS_FILE: {error}")
        try:
            self.load_security_txt()
        except NotSecurityTxt as error:
            problems.append(f"KARTA_SECURITY_TXT_FILE: {error}")
        return problems

    @field_validator("public_url")
    @classmethod
    def _check_public_url(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            raise ValueError("write it as a URL, for example https://gateway.example.com")
        return value.rstrip("/") if value else None

    def load_security_txt(self) -> SignedFile | None:
        """The signed file, which may have expired: no reason not to start. Raises `NotSecurityTxt`."""
        return None if self.security_txt_file is None else load_signed(self.security_txt_file, self.admin_url)

    @field_validator("security_contact", "abuse_email")
    @classmethod
    def _check_contact(cls, value: str | None) -> str | None:
        if value is None or (value.startswith("https://") and value.isprintable() and " " not in value):
            return value
        try:
            return normalize_email(value)
        except InvalidValue:
            raise ValueError("write it as a mail address") from None

    @field_validator("admin_url", "status_url")
    @classmethod
    def _check_admin_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value.rstrip("/").lower())
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path or parts.query:
            raise ValueError("write it as an origin, for example https://admin.example.com")
        return f"{parts.scheme}://{parts.netloc}"
