"""What views share: the database, the settings, the master keys, and the bounded checks of passwords and
keys. Made once, by `server`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from quart import current_app

from admin.accounts.password_check import PasswordCheck
from admin.allowed_addresses import AllowedAddresses
from admin.key_check import KeyCheck
from admin.payments import Payments, no_payments
from admin.provider_check import Endpoint
from admin.settings import AdminSettings
from admin.trust.sub_processors import SubProcessorsFile
from admin.webhooks.dialing import Dialer
from admin.webhooks.safe_address import Rules
from storage.bridge import Database
from storage.sealing import MasterKeys

_EXTENSION = "karta"


class NoMasterKey(Exception):
    """Something must be sealed, and there is no master key to seal it with."""


@dataclass(frozen=True)
class Services:
    db: Database
    settings: AdminSettings
    passwords: PasswordCheck
    origin: str
    """The pages' own, as browsers see it: `https://admin.example.com`. Never taken from a request."""
    loaded_master_keys: MasterKeys | None
    provider_endpoints: Mapping[str, Endpoint] = field(default_factory=dict)
    """Where keys of the providers can be tried, by the provider's name."""
    management_keys: KeyCheck = field(default_factory=KeyCheck)
    webhooks: Dialer = field(default_factory=lambda: Dialer(Rules()))
    """Checks where webhooks may go, and sends them."""
    payments: Payments = field(default_factory=no_payments)
    stripe_addresses: AllowedAddresses = field(default_factory=AllowedAddresses)
    """Where Stripe's events may come from."""
    sub_processors: SubProcessorsFile = field(default_factory=SubProcessorsFile)
    wake_payments: Callable[[], None] = lambda: None
    """Says that an event of Stripe's was kept."""

    @property
    def master_keys(self) -> MasterKeys:
        """Raises `NoMasterKey`."""
        if self.loaded_master_keys is None:
            raise NoMasterKey
        return self.loaded_master_keys

    @property
    def host(self) -> str:
        """The origin's name without the port: what passkeys belong to."""
        return urlsplit(self.origin).hostname or ""

    def attach(self, extensions: dict[str, object]) -> None:
        """To an app's `extensions`."""
        extensions[_EXTENSION] = self


def services() -> Services:
    """Those of the app that answers the current request."""
    found = current_app.extensions[_EXTENSION]
    if not isinstance(found, Services):
        raise TypeError("Services.attach(app.extensions) comes first")
    return found
