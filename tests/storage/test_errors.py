from __future__ import annotations

import inspect

from storage import errors


def test_one_family() -> None:
    """Whoever catches StorageError has caught all; whoever retries on DatabaseUnavailable retries what may
    pass."""
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]
    assert all(issubclass(kind, errors.StorageError) for kind in kinds)
    passing = {kind for kind in kinds if issubclass(kind, errors.DatabaseUnavailable)}
    assert passing == {errors.DatabaseUnavailable, errors.DatabaseBusy, errors.CommitUnknown}
    assert all(kind.__doc__ for kind in kinds)
