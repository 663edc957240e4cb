"""Amounts as people read them; and the documentation has what the model says."""

from __future__ import annotations

import pytest

from bench.capacity.coefficients import read_coefficients, values_of
from bench.capacity.model import plan
from bench.capacity.tables import plan_lines, told
from bench.capacity.target import Target
from tests.reference import CAPACITY, capacity


@pytest.mark.parametrize(
    ("amount", "unit", "text"),
    [
        (0, "", "0"),
        (0.01234, "s", "0.0123 s"),
        (12.0, "", "12"),
        (999.9, "/s", "1 k/s"),
        (1234.5, "/s", "1.23 k/s"),
        (20e6, "/s", "20 M/s"),
        (35_184_372_088_832, "bytes", "35.2 TB"),
        (512, "bytes", "512 B"),
        (float("inf"), "s", "no end"),
    ],
)
def test_told(amount: float, unit: str, text: str) -> None:
    assert told(amount, unit) == text


def test_the_terminal_says_what_breaks_first() -> None:
    figures = values_of(read_coefficients())
    assert "would break first: " in "\n".join(plan_lines(plan(Target(), figures)))
    broken = "\n".join(plan_lines(plan(Target(orgs=1_000_000), figures)))
    assert "\nbreaks first: " in broken
    assert "BROKEN" in broken
    # Units that have an "of" of their own are told apart from what there is at most.
    assert " of each second, at most 1 s of each second: " in broken


def test_the_documentation_is_current() -> None:
    assert CAPACITY.read_text() == capacity(), "run `tox -e docs` (or `python -m tests.reference`)"
