from __future__ import annotations

import subprocess
import sys

_PROGRAM = """
import resource
from storage.core_files import leave_no_core_file
leave_no_core_file()
print(*resource.getrlimit(resource.RLIMIT_CORE))
"""


def test_none_is_left_and_none_can_be_asked_for() -> None:
    told = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, check=True, text=True)
    assert told.stdout.split() == ["0", "0"]
