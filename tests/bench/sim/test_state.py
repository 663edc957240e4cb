"""Objects that clients create: found, made up, deleted, bounded."""

from typing import Any

import pytest

from bench.sim import state as module
from bench.sim.errors import Invalid
from bench.sim.state import State


def made_up(object_id: str) -> dict[str, Any]:
    return {"id": object_id, "made": "up"}


def test_an_object_is_kept_made_up_or_gone() -> None:
    state = State()
    state.put("file", "f1", {"id": "f1"})
    assert state.get("file", "f1", made_up) == {"id": "f1"}
    assert state.get("file", "f2", made_up) == {"id": "f2", "made": "up"}
    state.remove("file", "f1")
    with pytest.raises(Invalid) as refused:
        state.get("file", "f1", made_up)
    assert refused.value.status == 404
    assert state.find("file", "f1") is None


def test_ids_repeat_until_taken() -> None:
    state = State()
    first = state.new_id("file", "file-", 8, b"same")
    assert state.new_id("file", "file-", 8, b"same") == first
    state.put("file", first, {})
    assert state.new_id("file", "file-", 8, b"same") != first


def test_lists_are_newest_first() -> None:
    state = State()
    for name in ("a", "b", "c"):
        state.put("batch", name, {"id": name})
    state.put("file", "x", {"id": "x"})
    assert [one["id"] for one in state.listed("batch")] == ["c", "b", "a"]


def test_objects_and_contents_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OBJECTS_MAX", 2)
    monkeypatch.setattr(module, "FILE_BYTES_MAX", 10)
    state = State()
    for name in ("a", "b", "c"):
        state.put("file", name, {"id": name})
        state.put_content(name, b"1234567")
    assert [one["id"] for one in state.listed("file")] == ["c", "b"]
    assert state.content("b") is None
    assert state.content("c") == b"1234567"
    state.clear()
    assert state.listed("file") == []


def test_counting_is_by_name() -> None:
    state = State()
    assert [state.count("a"), state.count("a"), state.count("b")] == [1, 2, 1]
    state.forget_counts()
    assert state.count("a") == 1
