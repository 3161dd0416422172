from __future__ import annotations

import logging

import pytest

from aiostream_engine.observe.logs import RateLimiter, StructuredLogger, get_logger, neutralise

NAME = "aiostream_engine.test"


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.DEBUG, NAME)
    return get_logger(NAME)


def test_a_record_is_an_event_with_its_fields(log, caplog):
    log.info("batch done", batch=7, seconds=0.5, name="word count", state=None)
    (record,) = caplog.records
    assert record.getMessage() == 'batch done batch=7 seconds=0.5 name="word count" state=None'
    assert record.levelno == logging.INFO
    assert record.fields == {"batch": 7, "seconds": 0.5, "name": "word count", "state": None}


def test_each_level_has_its_method(log, caplog):
    for method in (log.debug, log.info, log.warning, log.error):
        method("x")
    assert [record.levelname for record in caplog.records] == ["DEBUG", "INFO", "WARNING", "ERROR"]


def test_a_record_names_the_line_that_wrote_it(log, caplog):
    log.warning("x")
    log.limited("key", logging.WARNING, "y")
    assert {record.filename for record in caplog.records} == {"test_logs.py"}


@pytest.mark.parametrize(
    "hostile", ["a\nERROR forged", "a\r\nb", "\x1b[31mred", "\x9b1m", "x\u2028y", "\u202egnp.exe"]
)
def test_text_of_the_stream_cannot_forge_lines_or_reach_the_terminal(log, caplog, hostile):
    """J4"""
    log.info(hostile, value=hostile, record=[hostile])
    text = caplog.records[0].getMessage()
    assert text.isprintable()
    assert len(text.splitlines()) == 1


def test_secrets_are_masked_in_event_fields_and_extra(log, caplog):
    """J9"""
    log.info(
        "to kafka://me:CANARY@host", password="CANARY", url="https://x:CANARY@y", deep={"token": "CANARY"}
    )
    assert "CANARY" not in caplog.records[0].getMessage()
    assert "CANARY" not in repr(caplog.records[0].__dict__)


def test_long_values_are_cut_with_a_mark():
    assert neutralise("x" * 5000, 10) == "x" * 10 + "… (5000 characters)"
    assert neutralise("short", 10) == "short"


def test_a_percent_sign_in_a_value_is_no_format(log, caplog):
    log.info("100% of %s", value="%d")
    assert caplog.records[0].getMessage() == "100% of %s value=%d"


def test_repeated_records_are_held_back_then_counted(caplog):
    """J17"""
    caplog.set_level(logging.DEBUG, NAME)
    now = [0.0]
    log = StructuredLogger(logging.getLogger(NAME), RateLimiter(2, 60, monotonic=lambda: now[0]))
    for _ in range(100_000):
        log.limited("bad-record", logging.WARNING, "bad record")
    assert len(caplog.records) == 2
    now[0] = 61.0
    log.limited("bad-record", logging.WARNING, "bad record")
    assert caplog.records[-1].getMessage() == "bad record suppressed=99998"
    assert log.limiter.suppressed_total == 99_998


def test_one_kind_of_record_does_not_hold_back_another():
    limiter = RateLimiter(1, 60, monotonic=lambda: 0.0)
    assert [limiter.allow(key) for key in ("a", "b", "a")] == [0, 0, None]


def test_the_memory_of_kinds_is_bounded():
    """J12"""
    limiter = RateLimiter(1, 60, monotonic=lambda: 0.0)
    for number in range(5000):
        limiter.allow(str(number))
    assert len(limiter._keys) <= 1024


def test_getting_a_logger_sets_nothing_up():
    before = (list(logging.root.handlers), logging.root.level)
    logger = get_logger("aiostream_engine.fresh").logger
    assert (logger.handlers, logger.level, logger.propagate) == ([], logging.NOTSET, True)
    assert (list(logging.root.handlers), logging.root.level) == before
