"""Keys come from a file or the environment."""

from pathlib import Path

import pytest

from bench.keys import KEY_VARIABLE, read_keys
from bench.targets.base import PLACEHOLDER_KEY


def test_keys_come_from_the_environment_or_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    assert read_keys(None) == [PLACEHOLDER_KEY]
    monkeypatch.setenv(KEY_VARIABLE, "kt_env")
    assert read_keys(None) == ["kt_env"]
    file = tmp_path / "keys"
    file.write_text("kt_one\n\n kt_two \n")
    assert read_keys(file) == ["kt_one", "kt_two"]
    file.write_text("\n")
    with pytest.raises(ValueError, match="no key in"):
        read_keys(file)
