"""What a connection may be waiting for, who is told when the wait is over-long, and the exception then."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from gateway.authorize import Grant


class Waiting(Enum):
    """Decides what happens when the wait exceeds its limit."""

    REQUEST = "request"
    HEAD = "head"
    BODY = "body"
    UPSTREAM = "upstream"
    WRITE = "write"


class Overdue(Exception):
    """A wait exceeded its limit."""

    def __init__(self, waiting: Waiting) -> None:
        super().__init__(waiting.value)
        self.waiting = waiting


class Ongoing(Protocol):
    """An answer on its way."""

    grant: Grant
    """Whose it is."""

    def expire(self, overdue: Overdue) -> None:
        """Its wait is over-long."""

    def leave(self) -> None:
        """The client has gone."""

    def fail(self, error: Exception) -> None:
        """It cannot go on: tell the client, if that is possible, and end."""
