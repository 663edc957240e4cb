"""Lets tox see every Python that pyenv has installed, not only the one that is switched on.

tox loads this file by its name. Without pyenv it does nothing.
"""

import os
from pathlib import Path

versions = Path(os.environ.get("PYENV_ROOT", ""), "versions")
if "PYENV_ROOT" in os.environ and versions.is_dir():
    # Listed after what is switched on, and read by the discovery of interpreters; tests never see it.
    installed = sorted(path.name for path in versions.iterdir() if (path / "bin").is_dir())
    os.environ.setdefault("PYENV_VERSION", ":".join(installed))
