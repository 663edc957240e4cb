"""Suites are read from TOML, with their options changed, and wrong ones are told in one line."""

from pathlib import Path

import pytest

from bench.compare.scenarios import Beside, Scenario, Suite
from bench.compare.suite import load_suite, suite_names

GOOD = """
title = "Mine"
[options]
many = 7
[[scenario]]
name = "a"
connections = "$many"
[[scenario]]
name = "b"
sweep = { keys = [1, "$many"] }
"""

REFERENCE = Path(__file__).parents[3] / "docs/reference/scenarios.md"
NOT_FOR_FILES = {"family", "axis", "at"}


def test_every_key_is_in_the_reference() -> None:
    text = REFERENCE.read_text()
    for kind in (Suite, Scenario, Beside):
        for field in set(kind.__struct_fields__) - NOT_FOR_FILES:
            assert f"`{field}`" in text, field


def test_the_example_of_the_reference_is_a_suite(tmp_path: Path) -> None:
    path = tmp_path / "example.toml"
    path.write_text(REFERENCE.read_text().split("```toml\n")[1].split("```")[0])
    assert len(load_suite(str(path)).scenarios()) == 4


def test_the_ready_made_ones_are_whole() -> None:
    assert suite_names() == ["bodies", "faults", "headline", "keys", "smoke", "soak", "streams"]
    for name in suite_names():
        suite = load_suite(name)
        assert suite.scenarios()
    headline = {scenario.name for scenario in load_suite("headline").scenarios()}
    assert headline >= {"unary", "unary-openai", "alone", "burst", "burst-openai", "paced", "soak"}
    assert headline >= {"idle", "idle-tls", "workers@1", "workers@2"}


def test_options_fill_the_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(GOOD)
    first, one, most = load_suite(str(path)).scenarios()
    assert (first.connections, one.keys, most.keys) == (7, 1, 7)
    first, _, most = load_suite(str(path), {"many": 9}).scenarios()
    assert (first.connections, most.keys) == (9, 9)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("title = ", "is not TOML"),
        ("title = 'x'", "scenario"),
        (GOOD + "colour = 1", "colour"),
        (GOOD.replace('"b"', '"a"').replace('sweep = { keys = [1, "$many"] }', ""), "same name"),
        (GOOD.replace("$many", "$more"), "no option 'more'"),
        (GOOD + 'loop = "spiral"', "spiral"),
    ],
)
def test_what_is_wrong_with_a_file_is_told(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=says):
        load_suite(str(path))


def test_unknown_suites_and_options_are_told_with_the_known() -> None:
    with pytest.raises(ValueError, match="bodies, faults"):
        load_suite("headlines")
    with pytest.raises(ValueError, match="its options: connections"):
        load_suite("headline", {"streets": 1})
