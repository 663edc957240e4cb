"""The vocabulary is whole: each event is written by something, and says what it means."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

from storage.audit import Event
from storage.audit_vocabulary import MEANINGS

STORAGE = Path(__file__).parent.parent.parent / "storage"
NOT_WRITERS = {"audit_vocabulary.py"}


@cache
def written() -> set[str]:
    """Every `Event.NAME` that storage's code mentions, and what migrations insert themselves."""
    names = {
        node.attr
        for file in STORAGE.glob("*.py")
        if file.name not in NOT_WRITERS
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "Event"
    }
    inserted = "".join(file.read_text() for file in (STORAGE / "migrations").glob("*.sql"))
    return names | {event.name for event in Event if f"'{event.value}'" in inserted}


@pytest.mark.parametrize("event", Event)
def test_an_event_is_written_and_explained(event: Event) -> None:
    assert event.name in written(), "nothing writes it: it would promise what never comes"
    assert MEANINGS[event].endswith(".")


def test_nothing_else_is_explained() -> None:
    assert set(MEANINGS) == set(Event)
