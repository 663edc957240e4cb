"""Where the keys of targets come from: a file or the environment, never the arguments, which every user of
the machine can read."""

import os
from pathlib import Path

from bench.targets.base import PLACEHOLDER_KEY

KEY_VARIABLE = "KARTA_BENCH_KEY"


def read_keys(key_file: Path | None) -> list[str]:
    """Return the keys of the file, or of KARTA_BENCH_KEY, or a placeholder for targets that check none."""
    text = key_file.read_text() if key_file is not None else os.environ.get(KEY_VARIABLE, PLACEHOLDER_KEY)
    keys = [line.strip() for line in text.splitlines() if line.strip()]
    if not keys:
        raise ValueError(f"there is no key in {key_file or KEY_VARIABLE}; put one on each line")
    return keys
