"""Words, ids and bulk text repeat."""

from bench.sim import text


def test_tokens_repeat_by_seed() -> None:
    assert text.tokens(7, 50) == text.tokens(7, 50)
    assert text.tokens(7, 50) != text.tokens(8, 50)
    assert len(text.tokens(7, 50)) == 50


def test_tokens_hold_characters_of_several_bytes() -> None:
    joined = "".join(text.tokens(1, 500))
    assert len(joined.encode()) > len(joined)


def test_grouping_loses_nothing() -> None:
    pieces = text.tokens(3, 10)
    assert text.grouped(pieces, 1) == pieces
    grouped = text.grouped(pieces, 4)
    assert len(grouped) == 3
    assert "".join(grouped) == "".join(pieces)


def test_identifiers_depend_on_their_material() -> None:
    assert text.identifier("msg_01", 22, 1, b"a") != text.identifier("msg_01", 22, 1, b"b")
    assert len(text.identifier("msg_01", 22, 1)) == 28
    assert len(text.hex_identifier("resp_", 47, 1)) == 52


def test_bulk_is_exactly_as_long_as_asked() -> None:
    for size in (0, 1, 4_095, 4_096, 4_097, 100_000):
        assert sum(map(len, text.bulk(size))) == size
        assert sum(map(len, text.bulk(size, 65_536))) == size


def test_an_estimate_is_never_nothing() -> None:
    assert text.estimate_tokens(0) == 1
    assert text.estimate_tokens(400) == 100
