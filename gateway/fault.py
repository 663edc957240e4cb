"""How an exception nobody expected is told in the log: what kind, and where, and not a word more.

Its message may quote a request, a key or a row, and logs go to places where none of these may.
"""

from __future__ import annotations

import traceback
from pathlib import Path


def describe(error: BaseException) -> str:
    """Kind and place of an exception, or of each of a group."""
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(describe(one) for one in error.exceptions)
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return type(error).__name__
    # The last frame of ours says more than one deep in a library.
    own = [frame for frame in frames if Path(frame.filename).parent == Path(__file__).parent]
    frame = (own or frames)[-1]
    return f"{type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}"
