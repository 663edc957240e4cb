"""Karta takes the stand-in for the library, and its keys for what they look like."""

import os
import subprocess
import sys
from pathlib import Path

import bcrypt

from bench.targets import quick_bcrypt

_SCRIPT = """
import bcrypt
from storage import key_format
made = key_format.digest(b"a secret")
assert key_format.verify(b"a secret", made)
assert not key_format.verify(b"another", made)
print(bcrypt.__file__)
print(made.decode())
"""


def test_a_process_takes_it_for_bcrypt(tmp_path: Path) -> None:
    environment = {**os.environ, **quick_bcrypt.for_python(tmp_path / "quick")}
    said = subprocess.run(
        [sys.executable, "-P", "-c", _SCRIPT], env=environment, check=True, capture_output=True, text=True
    ).stdout
    file, digest = said.split()
    assert file == str(tmp_path / "quick" / "bcrypt.py")
    assert digest.startswith("$2b$12$")
    # It only looks like one: the real library knows it by the cost that it has.
    assert not bcrypt.checkpw(b"a secret", digest.encode())
    assert bcrypt.checkpw(b"a secret", digest.replace("$12$", "$04$").encode())


def test_here_the_library_is_itself() -> None:
    assert "quick" not in str(bcrypt.__file__)
    assert quick_bcrypt.gensalt(12).startswith(b"$2b$12$")
