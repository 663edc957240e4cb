from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.process import descriptors_max, memory_bytes, streams_max

_PROGRAM = """
import gc, resource
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
from gateway.process import prepare_process
prepare_process()
print(*resource.getrlimit(resource.RLIMIT_NOFILE), *resource.getrlimit(resource.RLIMIT_CORE))
print(gc.get_threshold()[0])
"""


def test_it_takes_the_descriptors_it_may_have_and_leaves_no_core_file() -> None:
    told = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, check=True, text=True)
    assert told.stdout.split() == [str(descriptors_max())] * 2 + ["0", "0", "20000"]


@pytest.mark.parametrize(
    ("descriptors", "streams"), [(20_000, 9_968), (1_024, 480), (10, 0), (resource.RLIM_INFINITY, -1)]
)
def test_streams_are_what_descriptors_allow(descriptors: int, streams: int) -> None:
    assert streams_max(descriptors) == streams


@pytest.mark.parametrize(
    ("name", "told", "found"),
    [
        ("memory.max", "104857600\n", 104_857_600),
        ("memory/memory.limit_in_bytes", "104857600\n", 104_857_600),
        ("memory.max", "max\n", None),
        ("memory.max", f"{2**63 - 4096}\n", None),
    ],
)
def test_memory_is_the_container_s(name: str, told: str, found: int | None, tmp_path: Path) -> None:
    machine = memory_bytes(tmp_path)
    assert machine > 2**28
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(told)
    assert memory_bytes(tmp_path) == (found or machine)
