"""What each model used when several had a part in one of Anthropic's answers."""

from __future__ import annotations

import pytest

from tests.gateway.test_usage_figures import anthropic, run, shown

ALL: dict[str, object] = {
    "input_tokens": 1,
    "output_tokens": 20,
    "cache_read_input_tokens": 300,
    "cache_creation_input_tokens": 54_000,
    "cache_creation": {"ephemeral_5m_input_tokens": 4_000, "ephemeral_1h_input_tokens": 50_000},
}
ALL_SHOWN = {
    "input_tokens": 1,
    "output_tokens": 20,
    "cache_read_tokens": 300,
    "cache_write_5m_tokens": 4_000,
    "cache_write_1h_tokens": 50_000,
}


def times(count: int, **others: object) -> dict[str, object]:
    return {name: count * value for name, value in ALL_SHOWN.items()} | others


def test_every_class_of_a_compaction_is_added() -> None:
    iterations = [run("compaction", None, **ALL), run("message", None, **ALL), run("compaction", None, **ALL)]
    figures = anthropic("m", ALL | {"iterations": iterations})
    assert shown(figures) == times(3, model="m")
    assert figures.runs == ()


def test_runs_of_one_model_are_one() -> None:
    iterations = [
        run("compaction", "n", **ALL),
        run("message", None, **ALL),
        run("compaction", "n", **ALL),
        run("advisor_message", "wise", **ALL),
        run("advisor_message", "wise", **ALL),
    ]
    figures = anthropic("m", ALL | {"iterations": iterations})
    assert shown(figures) == times(5, model="m")
    assert [shown(part) for part in figures.runs] == [
        times(1, model="m"),
        times(2, model="n"),
        times(2, model="wise"),
    ]


def test_a_run_of_another_model_alone_is_that_model_s() -> None:
    iterations = [run("message", "other", input_tokens=20, output_tokens=5)]
    figures = anthropic("m", {"input_tokens": 20, "output_tokens": 5, "iterations": iterations})
    assert shown(figures) == {"model": "m", "input_tokens": 20, "output_tokens": 5}
    assert [shown(part) for part in figures.runs] == [
        {"model": "other", "input_tokens": 20, "output_tokens": 5}
    ]


def test_an_advisor_beside_a_breakdown_that_does_not_add_up() -> None:
    iterations = [
        run("message", "other", input_tokens=3, output_tokens=1),
        run("advisor_message", "wise", input_tokens=30, output_tokens=4),
    ]
    usage = {"input_tokens": 20, "output_tokens": 5, "cache_read_input_tokens": 7, "iterations": iterations}
    figures = anthropic("m", usage)
    assert shown(figures) == {"model": "m", "input_tokens": 50, "output_tokens": 9, "cache_read_tokens": 7}
    assert [shown(part) for part in figures.runs] == [
        {"model": "m", "input_tokens": 20, "output_tokens": 5, "cache_read_tokens": 7},
        {"model": "wise", "input_tokens": 30, "output_tokens": 4},
    ]


def test_a_fallback_that_names_no_model_is_the_one_asked() -> None:
    iterations = [run("fallback_message", input_tokens=3, output_tokens=1)]
    figures = anthropic("m", {"input_tokens": 3, "output_tokens": 1, "iterations": iterations})
    assert (figures.model, figures.runs) == ("m", ())


def test_runs_before_a_fallback_are_those_of_the_model_asked() -> None:
    iterations = [
        run("fallback_message", "small", input_tokens=3, output_tokens=1),
        run("message", input_tokens=10, output_tokens=2),
    ]
    figures = anthropic("big", {"input_tokens": 13, "output_tokens": 3, "iterations": iterations})
    assert figures.model == "small"
    assert [(part.model, part.tokens) for part in figures.runs] == [("small", 4), ("big", 12)]


@pytest.mark.parametrize("at", [0, 1])
def test_a_run_whose_figures_cannot_be_makes_the_answer_wrong(at: int) -> None:
    iterations = [run("message", input_tokens=2, output_tokens=1) for _ in range(2)]
    usage = {"input_tokens": 4, "output_tokens": 2, "iterations": iterations}
    assert not anthropic("m", usage).wrong
    iterations[at]["cache_read_input_tokens"] = -1
    assert anthropic("m", usage).wrong


def test_a_model_beyond_the_bound_is_counted_as_the_first() -> None:
    names = [*"abcdefgh", "i", "b"]
    iterations = [run("message", name, input_tokens=1, output_tokens=1) for name in names]
    figures = anthropic("m", {"input_tokens": 10, "output_tokens": 10, "iterations": iterations})
    assert {part.model: part.tokens for part in figures.runs} == dict.fromkeys("cdefgh", 2) | {"a": 4, "b": 4}
