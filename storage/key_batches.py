"""Very many customer keys at once, which only tests of load want.

In batches, each of them a transaction: one for each key would spend most of its time waiting for the one
before, as all lock their organization, and one for all would hold that lock for minutes. Every key has its
row in the audit log and its letter as any other. The room for all of them is looked at before each batch, so
that a plan which has none refuses before there is any. A token is nowhere but here: those of a batch are
handed on as soon as it is committed, so that whatever fails later loses none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from uuid import UUID

import trio

from storage import audit
from storage.api_keys import describe, insert_keys, make_key
from storage.audit import Event
from storage.bridge import Database
from storage.errors import CommitUnknown
from storage.key_format import MintedKey
from storage.key_letters import tell_minted
from storage.key_scopes import to_tuple
from storage.model import Actor, APIKey, KeyScope, Mode
from storage.plans import require_key_room

BATCH_KEYS_MAX = 100
"""A few hundredths of a second of one transaction."""


async def mint_keys(
    db: Database,
    actor: Actor,
    count: int,
    hand_on: Callable[[Sequence[tuple[APIKey, str]]], None],
    *,
    org_id: UUID,
    name: str,
    mode: Mode,
    allowed_models: Sequence[str] | None = None,
    allowed_endpoints: Sequence[str] | None = None,
    allowed_networks: Sequence[str] | None = None,
    billed_elsewhere: bool = False,
) -> None:
    """`count` new keys that differ in nothing else.

    Args:
      hand_on: is given the keys of each batch, with their tokens, once they are committed; or perhaps are,
        when `CommitUnknown` is raised next.

    Raises as `api_keys.mint_key` does, also after some batches.
    """
    scope = KeyScope(
        models=to_tuple(allowed_models),
        endpoints=to_tuple(allowed_endpoints),
        networks=to_tuple(allowed_networks),
    )
    left = count
    while left > 0:
        async with db.transaction() as tx:
            await require_key_room(tx, org_id, left)
        made = await _make(min(left, BATCH_KEYS_MAX), mode)
        tokens = {one.key_id: one.token for one, _ in made}
        try:
            async with db.transaction() as tx:
                await require_key_room(tx, org_id, len(made))
                keys = await insert_keys(tx, made, org_id, name, mode, None, scope, billed_elsewhere)
                await tell_minted(tx, actor, keys)
                changes = [(key.key_id, describe(key)) for key in keys]
                await audit.record_each(tx, actor, Event.KEY_MINTED, org_id, changes)
        except CommitUnknown:
            hand_on([(key, tokens[key.key_id]) for key in keys])
            raise
        hand_on([(key, tokens[key.key_id]) for key in keys])
        left -= len(keys)


async def _make(count: int, mode: Mode) -> list[tuple[MintedKey, bytes]]:
    """Made in threads, as many at once as there may be."""
    made: list[tuple[MintedKey, bytes]] = []

    async def make() -> None:
        made.append(await make_key(mode))

    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(make)
    return made
