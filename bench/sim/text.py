"""Words, identifiers and bulk text, all deterministic.

Strategy: everything is derived from a seed and a little material (the request body's digest, an index), never
from the clock or a global random state, so that the same request gets the same bytes, direct or through a
gateway, today or tomorrow. Only request ids differ from call to call; they are made in `ledger`.
"""

import hashlib
import random
from collections.abc import Iterator

WORDS = [
    "the",
    "a",
    "of",
    "and",
    "to",
    "in",
    "is",
    "that",
    "for",
    "with",
    "as",
    "on",
    "by",
    "from",
    "this",
    "which",
    "or",
    "an",
    "be",
    "are",
    "was",
    "it",
    "at",
    "not",
    "can",
    "more",
    "has",
    "have",
    "one",
    "river",
    "stone",
    "light",
    "window",
    "paper",
    "signal",
    "quiet",
    "garden",
    "north",
    "winter",
    "answer",
    "measure",
    "number",
    "letter",
    "copper",
    "harbour",
    "naïve",
    "café",
    "Ελλάδα",
    "漢字",
    "日本",
    "мир",
    "🎉",
    "“quoted”",
    "back\\slash",
    "tab\there",
    "new\nline",
]
"""Mostly plain words; some need several UTF-8 bytes or JSON escapes, so that a byte-wise cut or a re-encoding
shows."""

BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
CREATED = 1_795_000_000
"""The moment (unix seconds) at which every simulated object was created: fixed, so that answers repeat."""
CREATED_RFC3339 = "2026-11-18T11:06:40Z"
EXPIRES_RFC3339 = "2026-11-19T11:06:40Z"
BULK_PIECE_BYTES = 4_096
"""A piece of bulk text: about what one TLS record of a fast provider carries."""

_BULK = ("All work and no play makes a dull provider. " * 100).encode()[:BULK_PIECE_BYTES]


def tokens(seed: int, count: int) -> list[str]:
    """`count` pieces of text which, joined, read as words; the same for the same seed."""
    generator = random.Random(seed)
    words = generator.choices(WORDS, k=count)
    return [word if index == 0 else " " + word for index, word in enumerate(words)]


def grouped(pieces: list[str], size: int) -> list[str]:
    """The pieces joined `size` at a time: a provider that sends several tokens in one event."""
    if size == 1:
        return pieces
    return ["".join(pieces[start : start + size]) for start in range(0, len(pieces), size)]


def identifier(prefix: str, length: int, *material: object) -> str:
    """`prefix` and `length` base58 characters derived from the material, as provider ids look."""
    digest = hashlib.shake_128(repr(material).encode()).digest(length)
    return prefix + "".join(BASE58[byte % 58] for byte in digest)


def hex_identifier(prefix: str, length: int, *material: object) -> str:
    """`prefix` and `length` hexadecimal digits derived from the material."""
    return prefix + hashlib.shake_128(repr(material).encode()).hexdigest((length + 1) // 2)[:length]


def bulk(size_bytes: int, piece_bytes: int = BULK_PIECE_BYTES) -> Iterator[bytes]:
    """ASCII text of exactly `size_bytes`, free of JSON escapes, in pieces; nothing is held beyond a piece."""
    piece = (
        _BULK
        if piece_bytes == BULK_PIECE_BYTES
        else (_BULK * (piece_bytes // BULK_PIECE_BYTES + 1))[:piece_bytes]
    )
    for _ in range(size_bytes // piece_bytes):
        yield piece
    if rest := size_bytes % piece_bytes:
        yield piece[:rest]


def estimate_tokens(size_bytes: int) -> int:
    """A plausible token count for so many bytes: a quarter, and at least one."""
    return max(1, size_bytes // 4)
