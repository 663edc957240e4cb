from __future__ import annotations

import pytest

from storage import errors
from storage.sqlstate import APPEND_ONLY_SQLSTATE, sqlstate_error


@pytest.mark.parametrize(
    ("sqlstate", "kind"),
    [
        ("23505", errors.Conflict),
        ("23P01", errors.Conflict),
        ("23503", errors.InvalidReference),
        ("23514", errors.CheckFailed),
        ("23502", errors.CheckFailed),
        ("42501", errors.Denied),
        ("22001", errors.InvalidValue),
        ("08006", errors.DatabaseUnavailable),
        ("57P01", errors.DatabaseUnavailable),
        ("57P03", errors.DatabaseUnavailable),
        ("25006", errors.DatabaseUnavailable),
        ("28P01", errors.DatabaseUnavailable),
        ("3D000", errors.DatabaseUnavailable),
        ("58030", errors.DatabaseUnavailable),
        ("53300", errors.DatabaseBusy),
        ("40001", errors.DatabaseBusy),
        ("40P01", errors.DatabaseBusy),
        ("55P03", errors.DatabaseBusy),
        ("57014", errors.DatabaseBusy),
        ("42601", errors.StorageError),
        ("", errors.StorageError),
        (APPEND_ONLY_SQLSTATE, errors.AppendOnly),
    ],
)
def test_each_code_has_its_error(sqlstate: str, kind: type[errors.StorageError]) -> None:
    error = sqlstate_error(sqlstate, text="what the server said", constraint="c", connected=True)
    assert type(error) is kind
    assert (error.sqlstate, error.constraint) == (sqlstate, "c")


def test_values_are_not_quoted() -> None:
    error = sqlstate_error("22P02", text='invalid input: "sk-secret"', constraint=None, connected=True)
    assert "sk-secret" not in str(error)


def test_a_fault_at_start_up_is_the_databases() -> None:
    error = sqlstate_error("22023", text='role "x" does not exist', constraint=None, connected=False)
    assert type(error) is errors.DatabaseUnavailable
    assert "does not exist" in str(error)


def test_our_own_message_stands_alone() -> None:
    error = sqlstate_error(
        APPEND_ONLY_SQLSTATE, text="audit log is append-only", constraint=None, connected=True
    )
    assert str(error) == "audit log is append-only"
