"""A report is made anew from a closed list: whatever else was put into an event is not taken over."""

from __future__ import annotations

import json
from typing import Any

import pytest

from storage.report_form import EXCEPTIONS_MAX, FRAMES_MAX, TEXT_CHARS_MAX, no_breadcrumb, reform
from tests.support.planted_secrets import SHAPED, everything, found_in


def _laden(plant: str) -> dict[str, Any]:
    """An event as the SDK with all its integrations could make it, with `plant` in each place there is."""
    frame = {
        "filename": "gateway/lane.py",
        "abs_path": f"/home/{plant}/gateway/lane.py",
        "function": "take",
        "module": "gateway.lane",
        "lineno": 12,
        "context_line": plant,
        "pre_context": [plant],
        "post_context": [plant],
        "vars": {"token": plant, plant: [plant]},
        "in_app": True,
    }
    value = {
        "type": "ValueError",
        "module": "gateway.lane",
        "value": plant,
        "thread_id": plant,
        "mechanism": {"type": "karta", "handled": True, "data": {"x": plant}, "meta": {"x": plant}},
        "stacktrace": {"frames": [frame], "registers": {plant: plant}},
        "raw_stacktrace": {"frames": [frame]},
    }
    return {
        "event_id": "0" * 32,
        "level": "error",
        "timestamp": "2026-11-26T00:00:00Z",
        "platform": "python",
        "message": plant,
        "logentry": {"message": plant, "params": [plant], "formatted": plant},
        "exception": {"values": [value]},
        "threads": {"values": [{"name": plant, "stacktrace": {"frames": [frame]}}]},
        "stacktrace": {"frames": [frame]},
        "breadcrumbs": {"values": [{"message": plant, "data": {"sql": plant}}]},
        "request": {
            "url": f"https://h/{plant}",
            "query_string": plant,
            "data": plant,
            "headers": {"authorization": plant, plant: "x"},
            "cookies": plant,
            "env": {"REMOTE_ADDR": plant},
        },
        "user": {"id": "u1", "email": plant, "ip_address": plant, "username": plant, "data": {"x": plant}},
        "tags": {"organization": "o1", plant: "x", "anything": plant},
        "extra": {"sys.argv": [plant], plant: plant},
        "contexts": {"trace": {"op": "x", "data": {"db.statement": plant}}, "state": {"x": plant}},
        "modules": {plant: plant},
        "fingerprint": [plant],
        "spans": [{"op": "db", "data": {"params": plant}, "tags": {"x": plant}}],
        "_meta": {"x": plant},
        plant: plant,
    }


def test_nothing_planted_is_taken_over() -> None:
    for kind in ("error", "transaction"):
        laden = _laden(everything())
        if kind == "transaction":
            laden["type"] = "transaction"
        assert found_in(json.dumps(laden))
        assert found_in(json.dumps(reform(laden))) == []


def test_what_may_stand_there_stands_there() -> None:
    made = reform(_laden("planted"))
    assert made["user"] == {"id": "u1"}
    assert made["tags"] == {"organization": "o1"}
    (value,) = made["exception"]["values"]
    assert value["type"] == "ValueError"
    assert value["mechanism"] == {"type": "karta", "handled": True}
    assert value["stacktrace"]["frames"] == [
        {
            "filename": "gateway/lane.py",
            "function": "take",
            "module": "gateway.lane",
            "lineno": 12,
            "in_app": True,
        }
    ]
    assert "planted" not in json.dumps(made)


@pytest.mark.parametrize("place", ["tag", "function", "type", "transaction", "user"])
def test_a_secret_in_a_place_that_is_taken_over_is_hidden(place: str) -> None:
    plant = " ".join(secret for kind, secret in SHAPED.items() if kind != "database url")
    event = _laden("x")
    if place == "tag":
        event["tags"]["organization"] = plant
    elif place == "function":
        event["exception"]["values"][0]["stacktrace"]["frames"][0]["function"] = plant
    elif place == "type":
        event["exception"]["values"][0]["type"] = plant
    elif place == "user":
        event["user"]["id"] = plant
    else:
        event["transaction"] = plant
    assert found_in(json.dumps(reform(event))) == []


def test_it_is_bounded() -> None:
    event = _laden("x")
    (value,) = event["exception"]["values"]
    value["stacktrace"]["frames"] *= 10 * FRAMES_MAX
    event["exception"]["values"] = [value] * 10 * EXCEPTIONS_MAX
    event["tags"]["organization"] = "o " * 10 * TEXT_CHARS_MAX
    made = reform(event)
    assert len(made["exception"]["values"]) == EXCEPTIONS_MAX
    assert len(made["exception"]["values"][0]["stacktrace"]["frames"]) == FRAMES_MAX
    assert len(made["tags"]["organization"]) == TEXT_CHARS_MAX


def test_what_has_another_shape_is_refused() -> None:
    with pytest.raises((TypeError, AttributeError, ValueError)):
        reform({"tags": "planted"})


def test_there_are_no_breadcrumbs() -> None:
    assert no_breadcrumb({"message": "planted"}) is None  # type: ignore[func-returns-value]
