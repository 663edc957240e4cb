"""What kind of exception nobody expected, and where it was raised. Its own words are left out: a message may
quote a request, a key or a row, and logs go to places where none of these may."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Final

_ROOT: Final = Path(__file__).parent.parent
_PACKAGES: Final = frozenset({"admin", "gateway", "karta", "storage"})


def describe(error: BaseException) -> str:
    """Kind and place of an exception, or of each of a group."""
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(describe(one) for one in error.exceptions)
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return type(error).__name__
    # The last frame of ours says more than one deep in a library.
    own = [frame for frame in frames if _is_ours(Path(frame.filename))]
    frame = (own or frames)[-1]
    return f"{type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}"


def _is_ours(path: Path) -> bool:
    if path.is_absolute():
        if not path.is_relative_to(_ROOT):
            return False
        path = path.relative_to(_ROOT)
    # What was compiled has relative names.
    return path.parts[0] in _PACKAGES
