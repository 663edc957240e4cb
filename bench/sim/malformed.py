"""HTTP that is wrong on purpose, for the ways in which a provider, or something before it, can break."""

CHUNKED_KINDS = frozenset({"chunk", "chunk_size", "both"})
"""Kinds that need a chunked body: `both` is a sound one under a head that also states a length."""
HEAD_END = b"\r\n\r\n"


def spoil_head(kind: str | None, lines: bytes) -> bytes:
    """The response head made wrong in the way `kind` names; unchanged when the kind does not concern
    heads."""
    status_line, _, rest = lines.partition(b"\r\n")
    if kind == "head":
        return b"this is not HTTP at all\r\n\r\n"
    if kind == "version":
        return b"HTTP/9.9 200 OK\r\n" + rest
    if kind == "status":
        return b"HTTP/1.1 2x0 OK\r\n" + rest
    if kind == "header":
        return status_line + b"\r\nno colon in this line\r\n" + rest
    if kind == "nul":
        return status_line + b"\r\nx-nul: a\x00b\r\n" + rest
    if kind == "length":
        return status_line + b"\r\ncontent-length: -5\r\n" + _without_framing(rest)
    if kind == "lengths":
        return status_line + b"\r\ncontent-length: 5\r\ncontent-length: 7\r\n" + _without_framing(rest)
    if kind == "both":
        return (
            status_line + b"\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n" + _without_framing(rest)
        )
    return lines


def body_bytes(kind: str | None) -> bytes | None:
    """Bytes to put in the middle of a body; None when the kind does not concern bodies."""
    if kind == "chunk":
        return b"zz\r\nnot a chunk\r\n"
    if kind == "chunk_size":
        return b"ffffffffffffffffff\r\n"
    return None


def spoil_payload(kind: str | None, data: bytes) -> bytes:
    """A JSON payload made wrong: cut JSON, or bytes that are not UTF-8."""
    if kind == "json":
        return data[: len(data) // 2] + b"#" + data[len(data) // 2 :]
    if kind == "utf8":
        return data[: len(data) // 2] + b"\xff\xfe" + data[len(data) // 2 :]
    return data


def _without_framing(rest: bytes) -> bytes:
    kept = [
        line
        for line in rest.removesuffix(HEAD_END).split(b"\r\n")
        if not line.lower().startswith((b"content-length:", b"transfer-encoding:"))
    ]
    return b"\r\n".join(kept) + HEAD_END
