"""The setting that P1 and P2 share: the same files, the same rounds, everybody beside everybody."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .benchmark import Metric, Options
from .contender import Contender
from .data import zipf_words

__all__ = ["INCLUDED", "METRICS", "word_count_setting"]

METRICS = (
    Metric("words_per_s", "steady", "words/s", more_is_better=True),
    Metric("processing_words_per_s", "in processing", "words/s", more_is_better=True),
    Metric("first_words_per_s", "first round", "words/s", more_is_better=True),
)
INCLUDED = (
    "from moving 8 files into the watched directory, 0.1 s before a tick of the 1 s interval, until all "
    "counts are in the driver: listing, reading, shuffle, collecting. Process start and warm-up are not. "
    "Steady is the median of the rounds after the first; 'in processing' holds only the time of the batches. "
    "Bytewax, Pathway, Streamz and the loops run once over the files, without a directory to watch."
)


def word_count_setting(options: Options, *, built_in: bool) -> tuple[Sequence[Contender], Any]:
    """Contenders over the Zipf text, and the digest of the right counts."""
    dataset = zipf_words(options.size(2_000_000, 100_000))
    files = [str(path) for path in dataset.files]
    parameters = {
        "files": files,
        "directory": str(dataset.directory),
        "words": dataset.facts["words"],
        "words_of_first_file": _words_of(files[0]),
        "built_in": built_in,
        "interval_s": 1.0,
        "rounds": 2 if options.quick else 4,
        "source_batch": 1_000,
        "master": "local[2]",
    }
    ours = Contender(
        "engine", "aiostream_engine, local[2]", "engine/word_count.py", None, "engine", parameters
    )
    spark = Contender(
        "pyspark", "PySpark DStreams, local[2]", "peers/pyspark/word_count.py", "pyspark", "peer", parameters
    )
    floors = [
        Contender(
            "floor",
            "floor: two processes by hand",
            "floors/word_count_two_processes.py",
            None,
            "floor",
            parameters,
        ),
        Contender("loop", "floor: one loop", "floors/word_count_loop.py", None, "floor", parameters),
    ]
    columnar = Contender(
        "columnar",
        "Polars expressions, 2 threads",
        "peers/columnar/word_count.py",
        "columnar",
        "peer",
        parameters,
    )
    if built_in:
        return [ours, spark, *floors, columnar], dataset.facts["answer"]
    others = [
        Contender(
            "bytewax", "Bytewax, one worker", "peers/bytewax/word_count.py", "bytewax", "peer", parameters, 2
        ),
        Contender(
            "pathway",
            "Pathway, 2 threads (own count)",
            "peers/pathway/word_count.py",
            "pathway",
            "peer",
            parameters,
            2,
        ),
        Contender("streamz", "Streamz", "peers/streamz/word_count.py", "streamz", "peer", parameters, 1),
    ]
    return [ours, spark, *floors, *others, columnar], dataset.facts["answer"]


def _words_of(path: str) -> int:
    return len(Path(path).read_bytes().split())
