"""The usage journal: what was appended is read again, whatever happened to the file."""

from __future__ import annotations

import subprocess
import time
import zlib
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import spool as spool_module
from gateway.spool import MAGIC, TURNS_OF_A_LIFE, Damage, Frames, Spool, SpoolLocked, held, read_frames
from gateway.usage_writer import COLUMNS
from tests.gateway.journals import everything, opened, read_all, record, records_of, row, segments

HEADING = spool_module._HEADING


def test_what_is_appended_is_read_again(tmp_path: Path) -> None:
    with opened(tmp_path) as spool:
        records = [record(number) for number in range(10)] + [record(10, model=None)]
        for one in records:
            spool.append(row(one))
        assert read_all(spool.current) == records
        assert read_all(spool.current, records_max=1) == records
        assert spool.appended == 11
        assert spool.bytes_waiting == spool.current.stat().st_size
        assert not spool.full


def test_a_record_is_on_file_when_append_returns(tmp_path: Path) -> None:
    """Nothing is kept back in a buffer of the process."""
    with opened(tmp_path) as spool:
        for number in range(5):
            spool.append(row(record(number)))
            assert len(read_all(spool.current)) == number + 1


def test_reading_goes_on_where_it_stopped(tmp_path: Path) -> None:
    with opened(tmp_path) as spool:
        begin = len(HEADING)
        assert read_frames(spool.current, 0, 100) == Frames(COLUMNS, b"", 0, begin, True)
        spool.append(row(record(1)))
        first = read_frames(spool.current, begin, 100)
        assert (records_of(first), first.at_end) == ([record(1)], True)
        assert read_frames(spool.current, first.next_offset, 100) == (
            COLUMNS,
            b"",
            0,
            first.next_offset,
            True,
        )
        spool.append(row(record(2)))
        assert records_of(read_frames(spool.current, first.next_offset, 100)) == [record(2)]


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
        spool.append(row(record(1)))
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
            spool.append(row(record(life)))
    assert everything(tmp_path) == [record(0), record(1), record(2)]


def test_a_segment_set_aside_keeps_its_number(tmp_path: Path) -> None:
    with opened(tmp_path) as spool:
        spool.current.with_suffix(".damaged").write_bytes(b"evidence")
        first = spool.current
    assert not first.exists(), "nothing was appended to it"
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
            spool.append(row(record(number)))
            assert spool.bytes_waiting == sum(one.stat().st_size for one in segments(tmp_path))
        assert len(spool.finished) >= 4
        assert [*spool.finished, spool.current] == segments(tmp_path)
        assert all(2000 <= one.stat().st_size < 2600 for one in spool.finished)
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
            spool.append(row(record(number)))
            number += 1
        assert 6000 <= spool.bytes_waiting < 6600 + len(HEADING)
        spool.append(row(record(number)))
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
            spool.append(row(record(number)))
        return spool.current


def ends(segment: Path) -> list[int]:
    """Where the heading and each record end."""
    found, offset = [len(HEADING)], 0
    while True:
        frames = read_frames(segment, offset, 1)
        if not frames.number:
            return found
        offset = frames.next_offset
        found.append(offset)
        if frames.at_end:
            return found


def test_a_tail_torn_at_any_byte_leaves_the_whole_records(three: Path, tmp_path: Path) -> None:
    data = three.read_bytes()
    whole = ends(three)
    assert len(whole) == 4
    torn = tmp_path / "torn"
    for size in range(len(data) + 1):
        torn.write_bytes(data[:size])
        frames = read_frames(torn, 0, 100)
        count = sum(size >= end for end in whole[1:])
        assert records_of(frames) == [record(number) for number in range(count)], size
        assert frames.next_offset == (whole[count] if size >= whole[0] else 0)
        assert frames.at_end is (size in whole or size < whole[0])
        # Nothing more comes of asking again.
        if frames.next_offset:
            assert read_frames(torn, frames.next_offset, 100).rows == b""


def test_a_flipped_bit_anywhere_loses_no_record_before_it_and_invents_none(
    three: Path, tmp_path: Path
) -> None:
    """In the heading too: of columns whose names are wrong nothing is believed."""
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
            if at < len(HEADING):
                with pytest.raises(Damage):
                    read_frames(damaged, 0, 100)


def test_damage_is_reported_where_it_is_after_the_good_records(three: Path) -> None:
    data = bytearray(three.read_bytes())
    _, first, second, _ = ends(three)
    data[second + 20] ^= 1
    three.write_bytes(data)
    frames = read_frames(three, 0, 100)
    assert records_of(frames) == [record(0), record(1)]
    assert (frames.next_offset, frames.at_end) == (second, False)
    with pytest.raises(Damage, match=rf"{three.name} is torn or damaged at byte {second}") as caught:
        read_frames(three, second, 100)
    assert (caught.value.segment, caught.value.offset) == (three, second)
    assert records_of(read_frames(three, first, 100)) == [record(1)]


@pytest.mark.parametrize("content", [b"", MAGIC[:5], MAGIC, HEADING[:-1], HEADING])
def test_a_segment_that_was_only_begun_holds_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "000000000007.spool").write_bytes(content)
    frames = read_frames(tmp_path / "000000000007.spool", 0, 100)
    assert (frames.rows, frames.number, frames.at_end) == (b"", 0, True)
    with opened(tmp_path) as spool:
        assert [path.name for path in spool.finished] == ["000000000007.spool"]
        assert spool.current.name == "000000000008.spool"


@pytest.mark.parametrize(
    "content",
    [
        b"x",
        b"KARTA-USAGE-1\n",
        b"\0" * 100,
        MAGIC + b"\0" * 100,
        HEADING + b"\0" * 100,
        HEADING[:-1] + b"\0" * 100,
        MAGIC + b"\n",
        MAGIC + b"a," * 5000,
        MAGIC + b"org_id\n",
        HEADING.replace(b"org_id", b"key_id"),
    ],
)
def test_what_is_no_segment_is_damage(tmp_path: Path, content: bytes) -> None:
    segment = tmp_path / "1.spool"
    segment.write_bytes(content)
    with pytest.raises(Damage):
        read_frames(segment, 0, 100)


def test_columns_of_another_release_are_told_as_they_are(tmp_path: Path) -> None:
    names = b"key_id,of_a_later_one"
    payload = b"whatever it wrote"
    frame = spool_module._HEADER.pack(len(payload), zlib.crc32(payload)) + payload
    segment = tmp_path / "1.spool"
    heading = MAGIC + b"%s %08x\n" % (names, zlib.crc32(names))
    segment.write_bytes(heading + frame)
    assert read_frames(segment, 0, 100) == (
        ("key_id", "of_a_later_one"),
        payload,
        1,
        len(heading) + len(frame),
        True,
    )


@given(st.binary(max_size=300), st.sampled_from([b"", MAGIC, HEADING]))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_damage_or_nothing(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, before: bytes
) -> None:
    segment = tmp_path_factory.getbasetemp() / "any.spool"
    segment.write_bytes(before + data)
    assert read_all(segment) == []


# The owner.


def test_the_owner_stays_with_the_directory(tmp_path: Path) -> None:
    owners = set()
    for _ in range(3):
        with opened(tmp_path / "one") as spool:
            owners.add(spool.owner)
    assert len(owners) == 1
    with opened(tmp_path / "another") as spool:
        assert spool.owner not in owners


@pytest.mark.parametrize("content", [b"", b"no id\n", b"\xff\xfe", b"0" * 31])
def test_an_owner_that_cannot_be_read_is_made_anew(tmp_path: Path, content: bytes) -> None:
    with opened(tmp_path) as spool:
        before = spool.owner
    (tmp_path / "owner").write_bytes(content)
    with opened(tmp_path) as spool:
        made = spool.owner
    assert made != before
    with opened(tmp_path) as spool:
        assert spool.owner == made


def test_an_owner_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    """As on a disk whose last block the segment took."""
    (tmp_path / "owner.new").mkdir()
    with opened(tmp_path) as spool:
        first = spool.owner
        spool.append(row(record(1)))
        assert read_all(spool.current) == [record(1)]
    with opened(tmp_path) as spool:
        assert spool.owner != first


def test_calls_for_leases_are_numbered_far_above_those_of_every_process_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = []
    for clock_ns in (1_790_000_000 * 10**9, 1_790_000_000 * 10**9, 10**9, 10**9):
        # Set back by decades, in between.
        monkeypatch.setattr(time, "time_ns", lambda now=clock_ns: now)
        with opened(tmp_path) as spool:
            turns.append(spool.turn)
    assert turns[0] > 1_790_000_000 * 10**6, "above those of a release that numbered them by the clock"
    assert all(later - earlier >= TURNS_OF_A_LIFE for earlier, later in pairwise(turns))


@pytest.mark.parametrize("content", [b"", b"no number\n", b"\xff\xfe", b"-1\n", b"9" * 30, b"9" * 5000])
def test_a_number_that_cannot_be_read_begins_anew(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "turn").write_bytes(content)
    with opened(tmp_path) as spool:
        made = spool.turn
    assert time.time_ns() // 1000 < made < 2**62
    with opened(tmp_path) as spool:
        assert spool.turn == made + TURNS_OF_A_LIFE


def test_a_number_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    with opened(tmp_path) as spool:
        first = spool.turn
    (tmp_path / "turn.new").mkdir()
    with opened(tmp_path) as spool:
        assert spool.turn > first


def test_a_home_has_one_gateway(tmp_path: Path) -> None:
    with held(tmp_path / "home"):
        with pytest.raises(SpoolLocked, match="in use by another"), held(tmp_path / "home"):
            pass
        with held(tmp_path / "other"):
            pass
    with held(tmp_path / "home"):
        pass
