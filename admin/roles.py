"""What members of a role may do, in a few words, for letters and pages."""

from __future__ import annotations

from storage.model import Role

WHAT_ROLES_DO = {
    Role.OWNER: "everything, its members and its end too",
    Role.ADMIN: "keys, provider keys, members and settings",
    Role.DEVELOPER: "keys and usage",
    Role.BILLING: "usage, budgets and bills",
    Role.VIEWER: "looks, and changes nothing",
}
