"""Paths told apart: which API, which operation, which parameters."""

import pytest

from bench.sim.routes import dialect_of, match


def test_a_path_of_one_api() -> None:
    found = match("/v1/chat/completions")
    assert list(found.operations) == ["openai"]
    assert dialect_of(found, has_version_header=True) == "openai"


def test_a_path_of_both_is_told_by_the_version_header() -> None:
    found = match("/v1/files/file_1/content")
    assert set(found.operations) == {"anthropic", "openai"}
    assert found.parameters == ("file_1",)
    assert dialect_of(found, has_version_header=True) == "anthropic"
    assert dialect_of(found, has_version_header=False) == "openai"


def test_a_prefix_forces_the_api() -> None:
    found = match("/anthropic/v1/models")
    assert dialect_of(found, has_version_header=False) == "anthropic"
    assert found.operations["anthropic"].template == "/v1/models"
    assert dialect_of(match("/openai/v1/models"), has_version_header=True) == "openai"


def test_percent_encoded_slashes_stay_in_their_segment() -> None:
    assert match("/v1/models/org%2Fname").parameters == ("org%2Fname",)


def test_the_more_literal_path_wins() -> None:
    found = match("/v1/agents/automations")
    assert found.operations["openai"].template == "/v1/agents/automations"
    assert found.operations["anthropic"].template == "/v1/agents/{agent_id}"


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v1/nope", "/v1/messages/x/y/z", "/v2/messages", "//v1/models", "/v1//x"]
)
def test_unknown_paths_match_nothing(path: str) -> None:
    assert match(path).operations == {}


def test_special_answers_are_flagged() -> None:
    assert match("/v1/files/f/content").operations["openai"].methods == {"GET": "b"}
    assert match("/v1/vaults").operations["anthropic"].methods == {"GET": "l", "POST": ""}
