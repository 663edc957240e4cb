"""What views share: the database, the settings, and the bounded password checks. Made once, by `server`."""

from __future__ import annotations

from dataclasses import dataclass

from quart import current_app

from admin.accounts.password_check import PasswordCheck
from admin.settings import AdminSettings
from storage.bridge import Database

_EXTENSION = "karta"


@dataclass(frozen=True)
class Services:
    db: Database
    settings: AdminSettings
    passwords: PasswordCheck

    def attach(self, extensions: dict[str, object]) -> None:
        """To an app's `extensions`."""
        extensions[_EXTENSION] = self


def services() -> Services:
    """Those of the app that answers the current request."""
    found = current_app.extensions[_EXTENSION]
    if not isinstance(found, Services):
        raise TypeError("Services.attach(app.extensions) comes first")
    return found
