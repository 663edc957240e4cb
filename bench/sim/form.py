"""A decoded multipart form: its fields and its files."""

from typing import NamedTuple


class UploadedFile(NamedTuple):
    """One file part; `content` is None when it was too long to keep."""

    field: str
    filename: str
    content_type: str
    size_bytes: int
    content: bytes | None


class Form(NamedTuple):
    """A parsed form; of repeated fields the last value is kept, of files all."""

    fields: dict[str, str]
    files: list[UploadedFile]
