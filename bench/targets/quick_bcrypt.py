"""A stand-in for the library `bcrypt`: works at the least cost, labels its digests with the cost asked.

For one purpose: benches with thousands of keys, whose making and first use would take an hour of bcrypt. What
they measure is the state after that, in which no digest is computed.  `for_python` puts this file, as
`bcrypt.py`, where the processes of one target find it before the real library, which it calls.  Its digests
are worth nothing, so it is only ever used on a database that the bench throws away, and reports say so.
"""

import importlib.machinery
import importlib.util
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

_COST = b"04"
# "$2b$12$": the cost is two digits at this place.
_AT = slice(4, 6)


def for_python(directory: Path) -> Mapping[str, str]:
    """Return the environment in which Python takes this file for `bcrypt`; it is copied into `directory`."""
    directory.mkdir()
    shutil.copy(__file__, directory / "bcrypt.py")
    before = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": os.pathsep.join([str(directory), *([before] if before else [])])}


def _library() -> ModuleType:
    here = Path(__file__).parent.resolve()
    elsewhere = [entry for entry in sys.path if Path(entry or ".").resolve() != here]
    found = importlib.machinery.PathFinder.find_spec("bcrypt", elsewhere)
    if found is None or found.origin is None:
        raise ImportError("the real bcrypt is not installed")
    spec = importlib.util.spec_from_file_location("bcrypt_itself", found.origin)
    if spec is None or spec.loader is None:
        raise ImportError(f"{found.origin} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    # Its own imports are relative, and look here for the package.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


_bcrypt = _library()


def gensalt(rounds: int = 12, prefix: bytes = b"2b") -> bytes:
    return bytes(_bcrypt.gensalt(rounds, prefix))


def hashpw(password: bytes, salt: bytes) -> bytes:
    return _with_cost(_bcrypt.hashpw(password, _with_cost(salt, _COST)), salt[_AT])


def checkpw(password: bytes, hashed_password: bytes) -> bool:
    return bool(_bcrypt.checkpw(password, _with_cost(hashed_password, _COST)))


def _with_cost(digest: bytes, cost: bytes) -> bytes:
    return digest[: _AT.start] + cost + digest[_AT.stop :]
