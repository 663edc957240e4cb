"""What storage may raise: a closed family, so that callers never see a driver's exception.

Each class says what the caller can do about it. `storage.bridge` chooses the class by SQLSTATE, never by the
text of a message. Messages name the mend and never carry a value from a row: PostgreSQL's own details (which
quote whole rows) are dropped at the boundary.
"""

from __future__ import annotations


class StorageError(Exception):
    """Something storage could not do. Raised itself only for faults that have no better name (a bug, a bad
    schema)."""

    sqlstate: str | None = None
    """PostgreSQL's code for the fault, where it was PostgreSQL that refused."""
    constraint: str | None = None
    """The constraint that was broken, where one was."""


class NotFound(StorageError):
    """The row that was named does not exist (or is not visible to this organization)."""


class Conflict(StorageError):
    """The change collides with what is there: a duplicate, or a row that is already in its final state."""


class InvalidReference(StorageError):
    """The change names an organization, user or credential that does not exist."""


class CheckFailed(StorageError):
    """A value breaks a rule of the schema (a CHECK or NOT NULL constraint)."""


class InvalidValue(StorageError):
    """A value cannot be stored as given: too long, of the wrong form, or with characters that have no place
    there."""


class Denied(StorageError):
    """The database role in use lacks a privilege that the statement needs."""


class NotAllowed(StorageError):
    """The one who asks has no such right in this organization."""


class SessionEnded(StorageError):
    """The session of the one who asks has ended meanwhile: they must sign in again."""


class ProofRequired(StorageError):
    """The one who asks may, but must prove who they are first."""


class PlanRefused(StorageError):
    """The organization's plan does not include what was asked."""


class AppendOnly(StorageError):
    """Somebody tried to change, remove or backdate an audit row."""


class SealError(StorageError):
    """Sealed material does not open, or a master key is missing, malformed or kept where others can read
    it."""


class DatabaseUnavailable(StorageError):
    """The database cannot be reached or does not answer in time. Trying again later may help."""


class DatabaseBusy(DatabaseUnavailable):
    """The database was reached but gave up: a lock, a deadlock, a timeout, or no resources. Trying again may
    help."""


class CommitUnknown(DatabaseUnavailable):
    """The connection was lost during COMMIT: the change may or may not have been made. Read before trying
    again."""


class SchemaMismatch(StorageError):
    """The schema in the database is not the one this code was written for."""


class MigrationsPending(SchemaMismatch):
    """The database is older than the code."""


class DatabaseTooNew(SchemaMismatch):
    """The database is newer than the code: another, newer release has migrated it."""


class MigrationChanged(SchemaMismatch):
    """A migration that was applied is not, byte for byte, the one in this release."""
