"""Which domain error a PostgreSQL error code (SQLSTATE) stands for: a table, so that the choice can be read
and tested.

By code, never by the text of a message: texts are translated, reworded and quote values.
"""

from __future__ import annotations

from storage import errors

APPEND_ONLY_SQLSTATE = "KA001"
"""Our own code: what the audit triggers raise."""

_BY_SQLSTATE: dict[str, type[errors.StorageError]] = {
    "08P01": errors.InvalidValue,  # in a session that lives on: a value sent in binary form was malformed
    "23505": errors.Conflict,
    "23P01": errors.Conflict,
    "23503": errors.InvalidReference,
    "23502": errors.CheckFailed,
    "23514": errors.CheckFailed,
    "42501": errors.Denied,
    "25006": errors.DatabaseUnavailable,  # read only: a failover has left us with the old primary
    "40001": errors.DatabaseBusy,
    "40P01": errors.DatabaseBusy,
    "55P03": errors.DatabaseBusy,
    "57014": errors.DatabaseBusy,
    APPEND_ONLY_SQLSTATE: errors.AppendOnly,
}
"""Exact codes."""

_BY_SQLSTATE_CLASS: dict[str, type[errors.StorageError]] = {
    "08": errors.DatabaseUnavailable,
    "22": errors.InvalidValue,
    "28": errors.DatabaseUnavailable,
    "3D": errors.DatabaseUnavailable,
    "53": errors.DatabaseBusy,
    "57": errors.DatabaseUnavailable,
    "58": errors.DatabaseUnavailable,
}
"""The first two characters, where the whole code is not listed."""


def sqlstate_error(
    sqlstate: str, *, text: str, constraint: str | None, connected: bool
) -> errors.StorageError:
    """The error to raise for `sqlstate`. `connected` is False while a session was being started."""
    kind = _BY_SQLSTATE.get(sqlstate) or _BY_SQLSTATE_CLASS.get(sqlstate[:2]) or errors.StorageError
    if kind is errors.InvalidValue and not connected:
        # At start-up the only values are our settings: the role does not exist there, or may not be taken.
        kind = errors.DatabaseUnavailable
    if kind is errors.InvalidValue:
        # Class 22 quotes the offending value, so its text stays behind; the others name only objects of the
        # schema.
        text = "a value does not fit its column"
    error = kind(text if kind is errors.AppendOnly else f"{text} (SQLSTATE {sqlstate})")
    error.sqlstate, error.constraint = sqlstate, constraint
    return error
