"""What the fields of a scope mean, and that nothing is lost between the form and the command line."""

from __future__ import annotations

from werkzeug.datastructures import MultiDict

from admin.keys.scope_form import FAMILIES, find_others, read_scope, show_given, show_scope
from gateway.operations import load
from gateway.scope import endpoint_of
from storage.model import KeyScope


def form(*fields: tuple[str, str]) -> MultiDict[str, str]:
    return MultiDict(fields)


def test_an_empty_form_is_no_limit() -> None:
    assert read_scope(form()) == (KeyScope(), {})


def test_what_is_shown_is_read_again() -> None:
    given = form(
        ("models", "a, b\nc"), ("endpoints", "messages"), ("endpoints", "files"), ("networks", "192.0.2.0/24")
    )
    scope, problems = read_scope(given)
    assert problems == {}
    assert scope == KeyScope(
        models=("a", "b", "c"),
        endpoints=("messages", "complete", "files", "uploads", "batches"),
        networks=("192.0.2.0/24",),
    )
    shown = show_scope(scope)
    assert shown["endpoints"] == show_given(given)["endpoints"] == ["messages", "files"]
    assert (shown["models"], shown["networks"]) == ("a\nb\nc", "192.0.2.0/24")


def test_endpoints_of_the_command_line_stay() -> None:
    scope = KeyScope(endpoints=("messages", "complete", "batches", "evals"))
    assert show_scope(scope)["endpoints"] == ["messages"]
    assert find_others(scope) == ("batches", "evals")
    again, _ = read_scope(form(("endpoints", "messages")), find_others(scope))
    assert again == scope


def test_what_is_wrong_is_told_by_field() -> None:
    _, problems = read_scope(form(("models", "x" * 201), ("networks", "192.0.2.1/24")))
    assert set(problems) == {"models", "networks"}
    _, problems = read_scope(form(("models", "\n".join(map(str, range(201))))))
    assert set(problems) == {"models"}


def test_each_endpoint_of_the_form_exists() -> None:
    there = {endpoint_of(operation) for operation in load().all}
    assert {name for family in FAMILIES for name in family.endpoints} <= there
