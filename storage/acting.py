"""Whether whoever asked may still do it, in the transaction that does it.

Who may do what is the pages' and the management API's to say (`admin/authorization.py`), before they begin.
Between that and the change lies what takes a while, and some of it whoever asks may draw out: a digest, a
provider or a name server that is slow to answer. So what hands something out that would outlive a membership
(a key, an invitation, where messages go) asks here once more.

Only of people and of their management keys: what the command line or a job does, nobody's role allows.
"""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from storage.bridge import Transaction
from storage.errors import NotAllowed
from storage.model import Actor, ActorKind, Role

ADMINS = frozenset({Role.OWNER, Role.ADMIN})
DEVELOPERS = frozenset({Role.OWNER, Role.ADMIN, Role.DEVELOPER})


async def require_role(tx: Transaction, actor: Actor, org_id: UUID, roles: Collection[Role]) -> None:
    """Raises NotAllowed unless the actor is a member with one of the roles, or the live key of one. They stay
    so until the transaction ends: who takes them out, or ends the key, waits.

    Lock the organization first, if the transaction does at all, as everywhere.
    """
    if actor.kind is ActorKind.USER:
        row = await tx.fetch_row(
            "SELECT role, role AS role_then FROM memberships WHERE org_id = $1 AND user_id = $2 FOR SHARE",
            org_id,
            UUID(actor.actor_id),
        )
    elif actor.kind is ActorKind.MANAGEMENT_KEY:
        # As `management_keys.select_acting` has it: the role its minter had then, and the one they have now.
        # Rows are locked in the order in which their tables stand here: a member before their keys, as
        # whoever takes a member out does.
        row = await tx.fetch_row(
            """
            SELECT m.role, k.role AS role_then
              FROM memberships m
              JOIN management_keys k ON k.org_id = m.org_id AND k.user_id = m.user_id
                                    AND k.created_at >= m.created_at
             WHERE k.org_id = $1 AND k.key_id = $2 AND k.revoked_at IS NULL AND k.expires_at > now()
               FOR SHARE
            """,
            org_id,
            actor.actor_id,
        )
    else:
        return
    if row is None or not {Role(row["role"]), Role(row["role_then"])} <= set(roles):
        raise NotAllowed("who asked has no such right in this organization any more")
