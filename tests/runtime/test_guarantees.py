"""What each pair of source and output promises across a lost driver."""

from __future__ import annotations

from typing import Any

import pytest

from aiostream_engine.runtime.guarantees import guarantee, guarantees_of
from aiostream_engine.sinks.base import IdempotentSink, PlainSink, Sink, TransactionalSink
from aiostream_engine.sources.base import EphemeralSource, ReceiverSource, ReplayableSource, Source
from aiostream_engine.testing import ScriptedReplayableSource
from aiostream_engine.types import Guarantee
from tests.stage import Stage

SINKS: list[type[Sink] | None] = [None, PlainSink, IdempotentSink, TransactionalSink]
SOURCES: list[type[Source]] = [EphemeralSource, ReceiverSource, ReplayableSource]


def of_class(base: type | None) -> Any:
    """An object of a contract's class; its methods are not needed."""
    if base is None:
        return None
    made = type("Some", (base,), {})
    made.__abstractmethods__ = frozenset()  # type: ignore[attr-defined]
    return made()


@pytest.mark.parametrize("sink", SINKS)
@pytest.mark.parametrize("source", SOURCES)
def test_without_a_checkpoint_directory_what_was_taken_is_lost_with_the_driver(source, sink):
    assert guarantee(of_class(source), of_class(sink)) is Guarantee.AT_MOST_ONCE


@pytest.mark.parametrize(
    ("sink", "expected"),
    [
        (None, Guarantee.AT_LEAST_ONCE),
        (PlainSink, Guarantee.AT_LEAST_ONCE),
        (IdempotentSink, Guarantee.EFFECTIVELY_ONCE),
        (TransactionalSink, Guarantee.EFFECTIVELY_ONCE),
    ],
)
@pytest.mark.parametrize("source", [ReceiverSource, ReplayableSource])
def test_with_a_checkpoint_directory_the_sink_decides(source, sink, expected):
    assert guarantee(of_class(source), of_class(sink), durable=True) is expected


def test_a_source_that_lives_in_this_process_dies_with_it():
    source, sink = of_class(EphemeralSource), of_class(IdempotentSink)
    assert guarantee(source, sink, durable=True) is Guarantee.AT_MOST_ONCE


def test_there_is_a_sentence_for_each_pair_that_the_graph_connects_and_for_no_other():
    stage = Stage((), ())
    replayable = stage.ssc.from_source(ScriptedReplayableSource([], name="log"))
    stage.streams[0].union(replayable).foreach_rdd(lambda rdd: None, name="both")
    stage.streams[1].foreach_rdd(lambda rdd: None, name="alone")
    sentences = guarantees_of(stage.ssc._inputs, stage.ssc._outputs)
    assert [sentence.split(":")[0] for sentence in sentences] == [
        "source input 0 (ephemeral) -> both (plain)",
        "source log (replayable) -> both (plain)",
        "source input 1 (ephemeral) -> alone (plain)",
    ]
