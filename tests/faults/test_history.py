"""The checker finds what it is there to find: a checker that finds nothing proves nothing."""

from __future__ import annotations

from typing import Any

from tests.faults.history import Attempt, check, percentile

TOKENS = {"input_tokens": 3, "output_tokens": 5, "cache_read_tokens": 1, "reasoning_tokens": 0}


def attempt(model: str, *, whole: bool = True) -> Attempt:
    made = Attempt(model, status=200)
    if whole:
        made.take_body(b"answer")
    return made


def entry(model: str, **changed: Any) -> dict[str, Any]:
    return {"model": model, "tokens": TOKENS, "response_sha256": attempt("x").body_sha256, **changed}


def row(model: str, **changed: Any) -> dict[str, Any]:
    return {"model_asked": model, **TOKENS, **changed}


def test_nothing_is_found_where_all_is_well() -> None:
    found = check([attempt("a"), attempt("b", whole=False)], [entry("a"), entry("b")], [row("a")])
    assert found.none


def test_what_is_lost_doubled_or_made_up_is_found() -> None:
    history = [attempt("lost"), attempt("twice"), attempt("fine")]
    entries = [entry(one.model) for one in history]
    found = check(history, entries, [row("twice"), row("twice"), row("fine"), row("nobody's")])
    assert (found.lost, found.doubled, found.phantom) == (["lost"], ["twice"], ["nobody's"])
    assert not found.none


def test_other_bytes_and_other_sums_are_found() -> None:
    found = check(
        [attempt("a"), attempt("b")],
        [entry("a", response_sha256="other"), entry("b")],
        [row("a"), row("b", output_tokens=6)],
    )
    assert found.altered == ["a"]
    assert found.sums == {"output_tokens": (11, 10)}


def test_a_percentile_is_one_of_the_values() -> None:
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile(range(100), 0.99) == 99
