"""Which records a fetch response holds is told from the headers of its batches alone."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiostream_engine.blocks.formats import read_chunks
from aiostream_engine.errors import CorruptionError, SourceError
from aiostream_engine.kafka.decoding import BATCHES, FORMAT
from aiostream_engine.kafka.record import KafkaRecord
from aiostream_engine.kafka.record_batch import Piece, headers, slice_batches
from aiostream_engine.types import BlockRef
from tests.kafka.batches import CODECS, make_batch, marker


def read(piece: Piece, projection: str = "record", value: str = "bytes") -> list:
    """The records of a piece as a worker reads them."""
    data = piece.data if piece.data is not None else b"".join(piece.views)
    args = ("t", 0, piece.start, piece.stop, BATCHES, projection, "bytes", value)
    return [record for chunk in read_chunks(BlockRef(FORMAT, data, args=args)) for record in chunk]


def stored(piece: Piece) -> Piece:
    piece.data, piece.views = b"".join(piece.views), []
    return piece


def offsets(pieces: list[Piece]) -> list[int]:
    return [record.offset for piece in pieces for record in read(piece)]


def pieces_of(data: bytes, position: int = 0, aborted=(), **options) -> list[Piece]:
    return slice_batches(memoryview(data), position, aborted, **options)


@pytest.mark.parametrize("codec", CODECS)
def test_records_come_back_with_all_fields_from_every_codec(codec: str) -> None:
    data = make_batch(7, [b"a" * 300, None, b"c" * 300], codec=CODECS[codec])
    (piece,) = pieces_of(data, 7)
    assert (piece.start, piece.stop, piece.records, piece.exact) == (7, 10, 3, True)
    assert read(piece) == [
        KafkaRecord("t", 0, 7, 1_000_007, b"k7", b"a" * 300, (("h", b"1"),)),
        KafkaRecord("t", 0, 8, 1_000_008, b"k8", None, (("h", b"1"),)),
        KafkaRecord("t", 0, 9, 1_000_009, b"k9", b"c" * 300, (("h", b"1"),)),
    ]


def test_records_below_the_position_do_not_count() -> None:
    (piece,) = pieces_of(make_batch(0, [b"x"] * 10), 4)
    assert (piece.start, piece.stop, piece.records) == (4, 10, 6)
    assert offsets([piece]) == [4, 5, 6, 7, 8, 9]


def test_batches_before_the_position_are_not_kept() -> None:
    data = make_batch(0, [b"x"] * 5) + make_batch(5, [b"y"] * 5)
    (piece,) = pieces_of(data, 6)
    assert piece.length < len(data) * 2 / 3
    assert offsets([piece]) == [6, 7, 8, 9]


def test_a_batch_that_is_cut_short_is_left_for_the_next_fetch() -> None:
    first, second = make_batch(0, [b"x"] * 3), make_batch(3, [b"y"] * 3)
    for kept in (0, 1, 16, 17, 60, 61, len(second) - 1):
        (piece,) = pieces_of(first + second[:kept])
        assert piece.stop == 3
    assert pieces_of(second[:-1], 3) == []


def test_control_batches_are_passed_over_and_their_offsets_covered() -> None:
    data = make_batch(0, [b"x"], producer=5, transactional=True) + marker(1, 5)
    (piece,) = pieces_of(data)
    assert (piece.start, piece.stop, piece.records) == (0, 2, 1)
    assert offsets([piece]) == [0]


def test_a_response_of_control_batches_alone_moves_on_without_bytes() -> None:
    (piece,) = pieces_of(marker(4, 9), 4)
    assert (piece.start, piece.stop, piece.records, piece.length) == (4, 5, 0, 0)


def test_aborted_transactions_are_left_out_up_to_their_marker() -> None:
    """E18: records of an aborted transaction are not seen; those of others in between are."""
    data = (
        make_batch(0, [b"a"], producer=1, transactional=True)  # aborted
        + make_batch(1, [b"b"], producer=2, transactional=True)
        + make_batch(2, [b"c"], producer=1, transactional=True)  # aborted
        + make_batch(3, [b"d"], producer=1)  # of the same producer, outside of a transaction
        + marker(4, 1)
        + make_batch(5, [b"e"], producer=1, transactional=True)
        + marker(6, 2)
        + marker(7, 1)
    )
    pieces = pieces_of(data, aborted=[(1, 0)])
    assert offsets(pieces) == [1, 3, 5]
    assert pieces[-1].stop == 8
    assert sum(piece.records for piece in pieces) == 3


def test_a_second_aborted_transaction_of_a_producer_is_left_out_too() -> None:
    data = b"".join(
        [
            make_batch(0, [b"a"], producer=1, transactional=True),
            marker(1, 1),
            make_batch(2, [b"b"], producer=1, transactional=True),
            marker(3, 1),
            make_batch(4, [b"c"], producer=1, transactional=True),
            marker(5, 1),
        ]
    )
    assert offsets(pieces_of(data, aborted=[(1, 4), (1, 0)])) == [2]


def test_a_transaction_that_began_before_the_fetch_is_left_out() -> None:
    data = make_batch(10, [b"a"], producer=1, transactional=True) + marker(11, 1)
    assert offsets(pieces_of(data, 10, aborted=[(1, 3)])) == []


def test_gaps_that_compaction_left_are_covered_by_the_range() -> None:
    data = make_batch(0, [b"a", b"c"], deltas=[1, 6], last_delta=9) + make_batch(20, [b"d"])
    (piece,) = pieces_of(data)
    assert (piece.start, piece.stop, piece.records, piece.exact) == (0, 21, 3, True)
    assert offsets([piece]) == [1, 6, 20]


def test_the_number_of_records_is_not_claimed_where_a_compacted_batch_is_cut() -> None:
    (piece,) = pieces_of(make_batch(0, [b"a", b"c"], deltas=[1, 6], last_delta=9), 5)
    assert not piece.exact
    assert offsets([piece]) == [6]


def test_a_batch_that_compaction_emptied_is_passed_over() -> None:
    data = make_batch(0, [b"a"], deltas=[0], last_delta=4)
    emptied = bytearray(data[:61])
    emptied[8:12] = (61 - 12).to_bytes(4, "big")
    emptied[57:61] = bytes(4)
    (piece,) = pieces_of(bytes(emptied))
    assert (piece.start, piece.stop, piece.length) == (0, 5, 0)


def test_pieces_end_at_batches_and_tile_the_offsets() -> None:
    data = b"".join(make_batch(base, [b"x" * 100] * 10) for base in range(0, 100, 10))
    pieces = pieces_of(data, piece_bytes=2500)
    assert len(pieces) > 2
    assert pieces[0].start == 0
    assert pieces[-1].stop == 100
    assert all(a.stop == b.start for a, b in itertools.pairwise(pieces))


def test_bytes_are_not_copied_while_they_are_looked_at() -> None:
    data = make_batch(0, [b"x"] * 5) + make_batch(5, [b"y"] * 5)
    (piece,) = pieces_of(data)
    (view,) = piece.views
    assert view.obj is data


def test_a_damaged_record_is_refused() -> None:
    data = bytearray(make_batch(0, [b"abcdef"]))
    data[-3] ^= 1
    (piece,) = pieces_of(bytes(data))
    with pytest.raises(CorruptionError, match="checksum"):
        read(piece)


def test_bytes_that_begin_no_batch_are_refused() -> None:
    data = bytearray(make_batch(0, [b"x"]))
    data[8:12] = (5).to_bytes(4, "big")
    with pytest.raises(CorruptionError):
        list(headers(bytes(data)))


def test_the_old_message_formats_are_refused_with_what_helps() -> None:
    data = bytearray(make_batch(0, [b"x"]))
    data[16] = 1
    with pytest.raises(SourceError, match="lane='client'"):
        list(headers(bytes(data)))


@st.composite
def logs(draw) -> tuple[bytes, list[int], int]:
    """A log of batches with gaps, control batches and aborted ones; its live offsets, and its end."""
    data, live, at = b"", [], 0
    for _ in range(draw(st.integers(1, 8))):
        at += draw(st.integers(0, 3))
        kind = draw(st.sampled_from(["plain", "plain", "plain", "marker"]))
        if kind == "marker":
            data += marker(at, 77)
            at += 1
            continue
        span = draw(st.integers(1, 6))
        deltas = sorted(draw(st.sets(st.integers(0, span - 1), min_size=1)))
        data += make_batch(
            at,
            [b"v"] * len(deltas),
            deltas=deltas,
            last_delta=span - 1,
            codec=draw(st.sampled_from([0, 1, 2, 3, 4])),
        )
        live += [at + delta for delta in deltas]
        at += span
    return data, live, at


@settings(max_examples=150, deadline=None)
@given(logs(), st.data())
def test_any_cut_of_any_log_gives_each_record_of_the_range_once(log, data) -> None:
    payload, live, end = log
    position = data.draw(st.integers(0, end - 1))
    pieces = [
        stored(piece) for piece in pieces_of(payload, position, piece_bytes=data.draw(st.integers(1, 400)))
    ]
    assert not pieces or pieces[-1].stop == end
    for _ in range(data.draw(st.integers(0, 4))):
        number = data.draw(st.integers(0, len(pieces) - 1)) if pieces else 0
        if pieces and pieces[number].stop - pieces[number].start > 1:
            at = data.draw(st.integers(pieces[number].start + 1, pieces[number].stop - 1))
            pieces[number : number + 1] = pieces[number].split(at)
    for piece in pieces:
        found = [record.offset for record in read(piece)]
        assert found == [offset for offset in live if piece.start <= offset < piece.stop]
        if piece.exact:
            assert piece.records == len(found)
    assert offsets(pieces) == [offset for offset in live if offset >= position]
