"""Word count over files that appear in a watched directory, on Spark DStreams."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import Any

import pyspark
from common.feeding import WatchedDirectory, round_metrics, seconds_to_move
from common.program import digest_counts, parameters, report, stopwatch
from session import Delays, spark_context, streaming_context

given = parameters()


class Totals:
    """Adds up batches until all words were seen."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.words = 0
        self.batch_s = 0.0
        self.batches_ms: list[int] = []  # those that held words
        self.changed = threading.Condition()

    def add(self, batch_time: Any, rdd: Any) -> None:
        pairs = rdd.collect()
        with self.changed:
            for word, count in pairs:
                self.counts[word] += count
                self.words += count
            self.batch_s = batch_time.timestamp()
            if pairs:
                self.batches_ms.append(round(self.batch_s * 1e3))
            self.changed.notify_all()

    def wait_for(self, words: int) -> None:
        with self.changed:
            self.changed.wait_for(lambda: self.words >= words)

    def wait_until_idle(self) -> None:
        """Empty batches that queued up behind a long one must not delay the next round."""
        with self.changed:
            self.changed.wait_for(lambda: self.batch_s > time.time() - 2.5 * given["interval_s"])


def counts_of(lines: Any) -> Any:
    if given["built_in"]:
        return lines.flatMap(str.split).countByValue()
    return (
        lines.flatMap(lambda line: line.split()).map(lambda word: (word, 1)).reduceByKey(lambda a, b: a + b)
    )


def one_round(
    number: int, directory: WatchedDirectory, totals: Totals, delays: Delays
) -> tuple[float, float]:
    """Seconds from moving the files in to the last count, and seconds of processing in them."""
    move_in = directory.stage(given["files"], f"round-{number}")
    totals.wait_until_idle()
    totals.counts.clear()
    totals.batches_ms.clear()
    totals.words = 0
    time.sleep(seconds_to_move(given["interval_s"]))
    started = stopwatch()
    move_in()
    totals.wait_for(given["words"])
    seconds = stopwatch() - started
    while not all(batch in delays.processing_s_of for batch in totals.batches_ms):
        time.sleep(0.01)
    return seconds, sum(delays.processing_s_of[batch] for batch in totals.batches_ms)


def main() -> None:
    directory = WatchedDirectory(given["scratch"])
    totals = Totals()
    context = spark_context()
    ssc = streaming_context(context, given["interval_s"])
    counts_of(ssc.textFileStream(directory.path)).foreachRDD(totals.add)
    delays = Delays()
    ssc.addStreamingListener(delays)
    ssc.start()
    directory.stage(given["files"][:1], "warm-up")()
    totals.wait_for(given["words_of_first_file"])
    rounds = [one_round(number, directory, totals, delays) for number in range(given["rounds"])]
    report(
        answer=digest_counts(totals.counts),
        version=pyspark.__version__,
        metrics=round_metrics(given["words"], rounds),
    )


main()
