"""The reference in docs/ is what the code says."""

from __future__ import annotations

import pytest

from tests.reference import FOLDER, pages


@pytest.mark.parametrize("file", ["command-line.md", "management-api.md", "metrics.md", "settings.md"])
def test_the_reference_is_current(file: str) -> None:
    assert (FOLDER / file).read_text() == pages()[file], "run `tox -e docs` (or `python -m tests.reference`)"
