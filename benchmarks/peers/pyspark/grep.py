"""Lines that hold a word, counted, from files that appear in a watched directory, on Spark DStreams."""

from __future__ import annotations

import threading
import time
from typing import Any

import pyspark
from common.feeding import WatchedDirectory, round_metrics, seconds_to_move
from common.program import parameters, report, stopwatch
from session import spark_context, streaming_context

given = parameters()


class Totals:
    """Adds up matches until all were seen."""

    def __init__(self) -> None:
        self.matches = 0
        self.processing_s = 0.0
        self.batch_s = 0.0
        self.changed = threading.Condition()

    def add(self, batch_time: Any, rdd: Any) -> None:
        started = stopwatch()
        matches = rdd.count()
        with self.changed:
            self.matches += matches
            self.processing_s += (stopwatch() - started) if matches else 0.0
            self.batch_s = batch_time.timestamp()
            self.changed.notify_all()

    def wait_for(self, matches: int) -> None:
        with self.changed:
            self.changed.wait_for(lambda: self.matches >= matches)

    def wait_until_idle(self) -> None:
        """Empty batches that queued up behind a long one must not delay the next round."""
        with self.changed:
            self.changed.wait_for(lambda: self.batch_s > time.time() - 2.5 * given["interval_s"])


def one_round(number: int, directory: WatchedDirectory, totals: Totals) -> tuple[float, float]:
    move_in = directory.stage(given["files"], f"round-{number}")
    totals.wait_until_idle()
    totals.matches, totals.processing_s = 0, 0.0
    time.sleep(seconds_to_move(given["interval_s"]))
    started = stopwatch()
    move_in()
    totals.wait_for(given["matches"])
    return stopwatch() - started, totals.processing_s


def main() -> None:
    directory = WatchedDirectory(given["scratch"])
    totals = Totals()
    ssc = streaming_context(spark_context(), given["interval_s"])
    ssc.textFileStream(directory.path).filter(lambda line: "ERROR" in line).foreachRDD(totals.add)
    ssc.start()
    directory.stage(given["files"], "warm-up")()
    totals.wait_for(given["matches"])
    rounds = [one_round(number, directory, totals) for number in range(given["rounds"])]
    report(
        answer=totals.matches,
        version=pyspark.__version__,
        metrics=round_metrics(given["lines"], rounds, unit="records"),
    )


main()
