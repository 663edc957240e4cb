"""Pages."""

from typing import Any

from bench.sim.paging import page
from bench.sim.request import Request

OBJECTS: list[dict[str, Any]] = [{"id": f"o{index}"} for index in range(25)]


def asked(query: str, dialect: str = "openai") -> dict[str, Any]:
    request = Request(f"/v1/files?{query}".encode())
    request.dialect = dialect
    return page(request, OBJECTS)


def test_openai_pages_by_after() -> None:
    first = asked("limit=10")
    assert (first["object"], first["first_id"], first["last_id"], first["has_more"]) == (
        "list",
        "o0",
        "o9",
        True,
    )
    last = asked("limit=10&after=o19")
    assert [one["id"] for one in last["data"]] == ["o20", "o21", "o22", "o23", "o24"]
    assert last["has_more"] is False


def test_anthropic_pages_by_after_id() -> None:
    found = asked("after_id=o23&limit=nonsense", "anthropic")
    assert found["first_id"] == "o24"
    assert "object" not in found


def test_nothing_after_an_unknown_id() -> None:
    found = asked("after=zzz")
    assert (found["data"], found["first_id"], found["has_more"]) == ([], None, False)


def test_twenty_by_default() -> None:
    assert len(asked("")["data"]) == 20
