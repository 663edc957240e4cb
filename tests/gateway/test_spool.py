"""The usage journal: what was appended is read again, whatever happened to the file."""

from __future__ import annotations

import subprocess
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import spool as spool_module
from gateway.spool import MAGIC, Damage, Spool, SpoolLocked, read_frames
from tests.gateway.journals import everything, opened, read_all, record, segments


def test_what_is_appended_is_read_again(tmp_path: Path) -> None:
    with opened(tmp_path) as spool:
        records = [record(number) for number in range(10)] + [record(10, model=None)]
        for one in records:
            spool.append(one)
        assert read_all(spool.current) == records
        assert read_all(spool.current, records_max=1) == records
        assert spool.appended == 11
        assert spool.bytes_waiting == spool.current.stat().st_size
        assert not spool.full


def test_a_record_is_on_file_when_append_returns(tmp_path: Path) -> None:
    """Nothing is kept back in a buffer of the process."""
    with opened(tmp_path) as spool:
        for number in range(5):
            spool.append(record(number))
            assert len(read_all(spool.current)) == number + 1


def test_reading_goes_on_where_it_stopped(tmp_path: Path) -> None:
    with opened(tmp_path) as spool:
        assert read_frames(spool.current, 0, 100) == ([], len(MAGIC), True)
        spool.append(record(1))
        first, offset, at_end = read_frames(spool.current, len(MAGIC), 100)
        assert (first, at_end) == ([record(1)], True)
        assert read_frames(spool.current, offset, 100) == ([], offset, True)
        spool.append(record(2))
        assert read_frames(spool.current, offset, 100)[0] == [record(2)]


def test_files_are_the_owner_s_alone(tmp_path: Path) -> None:
    with opened(tmp_path / "new" / "spool") as spool:
        assert spool.current.parent.stat().st_mode & 0o777 == 0o700
        for file in spool.current.parent.iterdir():
            assert file.stat().st_mode & 0o777 == 0o600


# Owners.


def test_a_second_opener_is_refused_and_the_first_unharmed(tmp_path: Path) -> None:
    with opened(tmp_path) as spool:
        with pytest.raises(SpoolLocked, match="in use by another gateway worker"):
            Spool(tmp_path)
        spool.append(record(1))
        assert len(segments(tmp_path)) == 1
    with opened(tmp_path):
        pass


def test_the_lock_is_not_inherited_by_children(tmp_path: Path) -> None:
    with opened(tmp_path):
        child = subprocess.Popen(["sleep", "60"])
    try:
        with opened(tmp_path):
            pass
    finally:
        child.kill()
        child.wait()


def test_an_earlier_life_comes_first_and_numbers_go_on(tmp_path: Path) -> None:
    for life in range(3):
        with opened(tmp_path) as spool:
            assert spool.finished == segments(tmp_path)[:-1]
            assert len(spool.finished) == life
            assert spool.current == segments(tmp_path)[-1]
            spool.append(record(life))
    assert everything(tmp_path) == [record(0), record(1), record(2)]


def test_a_segment_set_aside_keeps_its_number(tmp_path: Path) -> None:
    with opened(tmp_path) as spool:
        spool.current.with_suffix(".damaged").write_bytes(b"evidence")
        first = spool.current
    first.unlink()
    (tmp_path / "notes.txt").write_text("somebody's")
    with opened(tmp_path) as spool:
        assert spool.current.stem > first.stem
    assert first.with_suffix(".damaged").read_bytes() == b"evidence"


# Segments.


def test_segments_rotate_and_go_when_they_are_shipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "SEGMENT_BYTES_MAX", 2000)
    with opened(tmp_path) as spool:
        for number in range(50):
            spool.append(record(number))
            assert spool.bytes_waiting == sum(one.stat().st_size for one in segments(tmp_path))
        assert len(spool.finished) >= 4
        assert [*spool.finished, spool.current] == segments(tmp_path)
        assert all(2000 <= one.stat().st_size < 2500 for one in spool.finished)
        assert everything(tmp_path) == [record(number) for number in range(50)]
        for segment in list(spool.finished):
            spool.remove(segment)
        assert spool.finished == []
        assert segments(tmp_path) == [spool.current]
        assert spool.bytes_waiting == spool.current.stat().st_size


def test_the_whole_journal_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "SEGMENT_BYTES_MAX", 2000)
    monkeypatch.setattr(spool_module, "SPOOL_BYTES_MAX", 6000)
    with opened(tmp_path) as spool:
        number = 0
        while not spool.full:
            spool.append(record(number))
            number += 1
        assert 6000 <= spool.bytes_waiting < 6500
        spool.append(record(number))
        assert len(everything(tmp_path)) == number + 1, "what had been admitted is recorded all the same"
    with opened(tmp_path) as spool:
        assert spool.full, "also after a restart"
        spool.remove(spool.finished[0])
        assert not spool.full


# Damage.


@pytest.fixture
def three(tmp_path: Path) -> Path:
    with opened(tmp_path) as spool:
        for number in range(3):
            spool.append(record(number))
        return spool.current


def ends(segment: Path) -> list[int]:
    """Where the magic and each record end."""
    found, offset = [len(MAGIC)], 0
    while True:
        records, offset, at_end = read_frames(segment, offset, 1)
        if not records:
            return found
        found.append(offset)
        if at_end:
            return found


def test_a_tail_torn_at_any_byte_leaves_the_whole_records(three: Path, tmp_path: Path) -> None:
    data = three.read_bytes()
    whole = ends(three)
    assert len(whole) == 4
    torn = tmp_path / "torn"
    for size in range(len(data) + 1):
        torn.write_bytes(data[:size])
        records, offset, at_end = read_frames(torn, 0, 100)
        count = sum(size >= end for end in whole[1:])
        assert records == [record(number) for number in range(count)], size
        assert offset == (whole[count] if size >= whole[0] else 0)
        assert at_end is (size in whole or size < whole[0])
        # Nothing more comes of asking again.
        if offset:
            assert read_frames(torn, offset, 100)[0] == []


def test_a_flipped_bit_anywhere_loses_no_record_before_it_and_invents_none(
    three: Path, tmp_path: Path
) -> None:
    data = three.read_bytes()
    whole = ends(three)
    damaged = tmp_path / "damaged"
    for at in range(len(data)):
        for bit in (0, 7):
            changed = bytearray(data)
            changed[at] ^= 1 << bit
            damaged.write_bytes(changed)
            before = max(sum(at >= end for end in whole) - 1, 0)
            assert read_all(damaged) == [record(number) for number in range(before)], at


def test_damage_is_reported_where_it_is_after_the_good_records(three: Path) -> None:
    data = bytearray(three.read_bytes())
    _, first, second, _ = ends(three)
    data[second + 20] ^= 1
    three.write_bytes(data)
    records, offset, at_end = read_frames(three, 0, 100)
    assert (records, offset, at_end) == ([record(0), record(1)], second, False)
    with pytest.raises(Damage, match=rf"{three.name} is torn or damaged at byte {second}") as caught:
        read_frames(three, offset, 100)
    assert (caught.value.segment, caught.value.offset) == (three, second)
    assert read_frames(three, first, 100)[0] == [record(1)]


@pytest.mark.parametrize("content", [b"", MAGIC[:5], MAGIC])
def test_a_segment_that_was_only_begun_holds_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "000000000007.spool").write_bytes(content)
    assert read_frames(tmp_path / "000000000007.spool", 0, 100)[::2] == ([], True)
    with opened(tmp_path) as spool:
        assert [path.name for path in spool.finished] == ["000000000007.spool"]
        assert spool.current.name == "000000000008.spool"


@pytest.mark.parametrize("content", [b"x", b"KARTA-USAGE-2\n", b"\0" * 100, MAGIC + b"\0" * 100])
def test_what_is_no_segment_is_damage(tmp_path: Path, content: bytes) -> None:
    segment = tmp_path / "1.spool"
    segment.write_bytes(content)
    with pytest.raises(Damage):
        read_frames(segment, 0, 100)


@given(st.binary(max_size=300))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_damage_or_nothing(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    segment = tmp_path_factory.getbasetemp() / "any.spool"
    segment.write_bytes(MAGIC + data)
    assert read_all(segment) == []


def test_a_record_of_another_shape_is_damage(tmp_path: Path) -> None:
    """A frame whose checksum is right and whose content is from some other version of Karta."""
    payload = b"\x91\x01"
    frame = spool_module._HEADER.pack(len(payload), zlib.crc32(payload)) + payload
    segment = tmp_path / "1.spool"
    segment.write_bytes(MAGIC + frame)
    with pytest.raises(Damage):
        read_frames(segment, 0, 100)
