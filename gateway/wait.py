"""What a connection may be waiting for, and the exception when a wait is over-long."""

from __future__ import annotations

from enum import Enum


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
