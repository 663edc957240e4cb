"""Just enough of multipart/form-data: the form's fields, and the file's name, type, size and kept bytes.

Parsing works on the kept beginning of the body. When the body was too long to keep whole, the last part is
the file (SDKs send fields first) and its size follows from the length of the whole.
"""

import re

from bench.sim.form import Form, UploadedFile
from bench.sim.request import Request

_BOUNDARY = re.compile(r'boundary="?([^";]+)"?')
_PARAMETER = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def parse(request: Request, content_type: str) -> Form:
    """The form of a multipart request. Raises TypeError when it has no boundary."""
    found = _BOUNDARY.search(content_type)
    if found is None:
        raise TypeError("a multipart body needs a boundary in its content-type")
    delimiter = b"--" + found[1].encode("latin-1")
    form = Form({}, [])
    body = request.body
    missing_bytes = request.size_bytes - len(body)
    parts = body.split(delimiter)
    for index, part in enumerate(parts[1:], start=1):
        if part.startswith(b"--"):
            break
        head, _, content = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        content = content.removesuffix(b"\r\n")
        cut = missing_bytes if index == len(parts) - 1 else 0
        _add(form, head.decode("utf-8", "replace"), content, cut, len(delimiter))
    return form


def _add(form: Form, head: str, content: bytes, missing_bytes: int, delimiter_bytes: int) -> None:
    named = dict(_PARAMETER.findall(head.partition("\r\n")[0] if "isposition" not in head else head))
    name = named.get("name", "")
    if "filename" not in named:
        form.fields[name] = content.decode("utf-8", "replace")
        return
    kind = re.search(r"content-type:\s*(\S+)", head, re.IGNORECASE)
    size = len(content)
    if missing_bytes:
        # What is missing ends with CRLF, the delimiter and "--" CRLF.
        size += missing_bytes - delimiter_bytes - 6
    kept = None if missing_bytes else content
    form.files.append(
        UploadedFile(name, named["filename"], kind[1] if kind else "application/octet-stream", size, kept)
    )
