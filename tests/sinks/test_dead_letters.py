from __future__ import annotations

import json
import subprocess
import sys

import pytest

from aiostream_engine.sinks.dead_letters import dead_letter_entry, record_of_entry
from aiostream_engine.types import DeadLetter


def letter(record, **changes):
    return DeadLetter("parse", 1_700_000_000_500, 3, record, "ValueError", "no", "Traceback…", 2)._replace(
        **changes
    )


def through_json(record):
    return record_of_entry(json.loads(json.dumps(dead_letter_entry(letter(record)))))


def test_an_entry_says_what_where_and_why():
    """F14"""
    assert dead_letter_entry(letter("12;x")) == {
        "step": "parse",
        "batch": 1_700_000_000_500,
        "partition": 3,
        "attempts": 2,
        "error_type": "ValueError",
        "message": "no",
        "record": {"text": "12;x"},
        "traceback": "Traceback…",
    }


@pytest.mark.parametrize(
    ("record", "line"),
    [
        ("é x", "é x".encode()),
        ("bad \udcff text", b"bad \xff text"),
        (b"\x00\xff", b"\x00\xff"),
        ({"a": [1, None, 2.5, True]}, b'{"a":[1,null,2.5,true]}'),
        ([], b"[]"),
        (None, b"null"),
    ],
)
def test_text_bytes_and_plain_data_come_back_as_they_were(record, line):
    """F14"""
    assert through_json(record) == line


@pytest.mark.parametrize(
    "record", ["two\nlines", b"two\nlines", (1, 2), {1: 2}, float("nan"), {1, 2}, object(), [[1, (2,)]]]
)
def test_a_record_that_would_come_back_as_another_is_not_sent_again(record):
    assert through_json(record) is None


def test_long_texts_are_cut_and_the_record_is_not():
    """F14: bounded, and still complete enough to be sent again."""
    entry = dead_letter_entry(letter("r" * 9000, message="m" * 9000, traceback="t" * 9000 + "end"))
    assert len(entry["message"]) == len(entry["traceback"]) == 4000
    assert entry["traceback"].endswith("end")
    assert record_of_entry(entry) == b"r" * 9000
    assert len(dead_letter_entry(letter(frozenset(["x" * 9000])))["record"]["repr"]) == 4000


@pytest.mark.parametrize(
    "record", ["x", {}, {"pickle": "x"}, {"text": 5}, {"base64": "%%"}, {"text": "a", "json": 1}]
)
def test_a_record_that_is_kept_in_no_known_way_is_refused(record):
    with pytest.raises(ValueError, match="dead letter"):
        record_of_entry({"record": record})


@pytest.mark.parametrize("entry", [5, {}])
def test_what_is_no_entry_is_refused(entry):
    with pytest.raises(ValueError, match="dead letter"):
        record_of_entry(entry)


def test_a_worker_that_loads_it_loads_no_event_loop():
    code = "import sys, aiostream_engine.sinks.dead_letters; sys.exit('asyncio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
