"""Who else verifies keys on this host.

A worker alone has nobody to ask; one of several shares what it verifies with the others by its supervisor
(`supervised`, docs/decisions/0050).
"""

from __future__ import annotations

import secrets
from enum import Enum
from typing import Protocol


class Verdict(Enum):
    """What is to be done about a token that claims a key."""

    GO = "go"
    """Verify it."""
    GOOD = "good"
    """Another worker has verified it, under the same digest."""
    WRONG = "wrong"
    """Another worker has found that it does not fit."""


class Peers(Protocol):
    """The other workers. `mac` stands for a token, `mark` for the digest it claims to fit: both are made with
    `secret`, which all of them have."""

    @property
    def secret(self) -> bytes:
        """32 random bytes, made at start-up and never kept."""

    async def claim(self, mac: bytes, mark: bytes) -> Verdict:
        """Wait until it is this worker's turn to verify, or another has done it.

        After GO one of the following two must be called.
        """

    def verified(self, mac: bytes, mark: bytes, key_id: str) -> None:
        """It is good."""

    def failed(self, mac: bytes, mark: bytes, *, wrong: bool) -> None:
        """It did not come to a verification; `wrong` if that is the token's fault."""

    def forget(self, key_ids: list[str]) -> None:
        """These keys have ended."""


class Alone:
    """Nobody else."""

    def __init__(self) -> None:
        self.secret = secrets.token_bytes(32)

    async def claim(self, mac: bytes, mark: bytes) -> Verdict:  # noqa: ARG002
        return Verdict.GO

    def verified(self, mac: bytes, mark: bytes, key_id: str) -> None:
        """Nobody to tell."""

    def failed(self, mac: bytes, mark: bytes, *, wrong: bool) -> None:
        """Nobody to tell."""

    def forget(self, key_ids: list[str]) -> None:
        """Nobody to tell."""
