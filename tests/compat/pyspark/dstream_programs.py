"""Stream programs that run under real PySpark and under the layer; imports neither."""

from __future__ import annotations

import operator
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any

INTERVAL_S = 0.2
DEADLINE_S = 400.0

Batch = list[list[Any]] | None  # partitions, None for an RDD without any


def plain(value: Any) -> Any:
    """Grouped values as sorted lists: their order is not promised."""
    if type(value).__name__ == "ResultIterable":
        return ["values", *sorted(map(plain, value), key=repr)]
    if isinstance(value, tuple):
        return tuple(map(plain, value))
    return [plain(item) for item in value] if isinstance(value, list) else value


def tag(name: str, part: list[Any]) -> tuple[str, list[Any]]:
    return name, part


class Run:
    """One StreamingContext, with what its streams gave batch by batch."""

    def __init__(self, env: Any, interval_s: float = INTERVAL_S) -> None:
        self.env = env
        self.interval_s = interval_s
        self.ssc = env.module("streaming").StreamingContext(env.sc, interval_s)
        self.directory = tempfile.TemporaryDirectory()
        env.sc.setCheckpointDir(self.directory.name)  # of the graph itself nothing is checkpointed
        self.results: dict[str, list[tuple[float, Any]]] = {}
        self._ordered: dict[str, bool] = {}
        self._batch: list[tuple[str, Any]] = []
        self._arrived = threading.Condition()

    def queue(self, batches: list[Batch], **options: Any) -> Any:
        return self.ssc.queueStream([self.rdd(batch) for batch in batches], **options)

    def rdd(self, batch: Batch) -> Any:
        if batch is None:
            return self.env.sc.emptyRDD()
        return self.env.sc.parallelize(batch, len(batch)).flatMap(lambda part: part)

    def watch(self, name: str, stream: Any, ordered: bool = True) -> None:
        """Note what ``stream`` gives: its partitions if ``ordered``, else its records, sorted."""
        self.results[name] = []
        self._ordered[name] = ordered
        stream.foreachRDD(lambda _, rdd: self._batch.append((name, rdd)))

    def note(self, name: str, stream: Any) -> None:
        """Collect what ``stream`` gives, in a job of its own."""
        self.results[name] = []

        def collect(moment: Any, rdd: Any) -> None:
            found = rdd.collect()
            with self._arrived:
                self.results[name].append((moment.timestamp(), found))
                self._arrived.notify_all()

        stream.foreachRDD(collect)

    def finish_batches(self, stream: Any) -> None:
        """With the output of ``stream``, the last, collect what the others gave: one job a batch."""
        self.results["last"] = []
        stream.foreachRDD(self._collect)

    def _collect(self, moment: Any, _: Any) -> None:
        batch, self._batch = self._batch, []
        tagged = [rdd.glom().map(partial(tag, name)) for name, rdd in batch if rdd.getNumPartitions()]
        parts: dict[str, list[Any]] = {name: [] for name, _ in batch}
        for name, part in self.env.sc.union(tagged).collect() if tagged else []:
            parts[name].append([plain(record) for record in part])
        with self._arrived:
            for name, found in parts.items():
                records = sorted((record for part in found for record in part), key=repr)
                self.results[name].append((moment.timestamp(), found if self._ordered[name] else records))
            self.results["last"].append((moment.timestamp(), []))
            self._arrived.notify_all()

    def run(self, batches: int) -> dict[str, list[tuple[int, Any]]]:
        """Start, wait for so many finished batches, stop; what streams gave by number of the batch."""
        self.ssc.start()
        try:
            self.wait(lambda: len(self.results["last"]) >= batches)
            self.told = self._error()  # a stop interrupts what runs, which Spark reports over it
        finally:
            self.ssc.stop(stopSparkContext=False)
            self.directory.cleanup()
        first = self.results["last"][0][0]
        return {name: self._numbered(found, first, batches) for name, found in self.results.items()}

    def wait(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + DEADLINE_S
        with self._arrived:
            while not condition():
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f"got { ({name: len(got) for name, got in self.results.items()}) }")
                self._arrived.wait(min(left, 0.5))
                if self.stops_on_error:
                    self.ssc.awaitTerminationOrTimeout(0)  # raises what went wrong

    stops_on_error = True

    def _error(self) -> str:
        try:
            self.ssc.awaitTerminationOrTimeout(0)
        except Exception as error:
            return "".join(traceback.format_exception(error))
        return "nothing"

    def _numbered(self, found: list[tuple[float, Any]], first: float, batches: int) -> list[tuple[int, Any]]:
        numbered = [(round((moment - first) / self.interval_s), content) for moment, content in found]
        return [(number, content) for number, content in numbered if number < batches]


# -- every operator --------------------------------------------------------------------------------


def keyed(value: int) -> tuple[int, int]:
    return value % 3, value


def summed(new: list[int], old: int | None) -> int | None:
    total = (old or 0) + sum(new)
    return None if total % 7 == 0 and not new else total


def listed(value: Any) -> list[Any]:
    return [value]


def stateless(run: Run, a: Any, b: Any) -> dict[str, tuple[Any, bool]]:
    """A stream of every operator on single batches, and whether the places of its records are promised."""
    add = operator.add
    ka, kb = a.map(keyed), b.map(keyed)
    none = a.transform(lambda rdd: None)
    return {
        "map": (a.map(lambda x: x + 1), True),
        "flatMap": (a.flatMap(lambda x: [x] * (x % 3)), True),
        "filter": (a.filter(lambda x: x % 2), True),
        "mapPartitions": (a.mapPartitions(lambda part: [sum(part)]), True),
        "mapPartitionsWithIndex": (a.mapPartitionsWithIndex(lambda i, part: [(i, list(part))]), True),
        "glom": (a.glom(), True),
        "count": (a.count(), True),
        "reduce": (a.reduce(max), True),
        "countByValue": (a.map(lambda x: x % 4).countByValue(), True),
        "repartition": (a.repartition(2), False),
        "partitionBy": (ka.partitionBy(2), True),
        "mapValues": (ka.mapValues(str), True),
        "flatMapValues": (ka.flatMapValues(lambda x: range(x % 3)), True),
        "reduceByKey": (ka.reduceByKey(add, 1), True),
        "groupByKey": (ka.groupByKey(2), True),
        "combineByKey": (
            ka.combineByKey(lambda v: [v], lambda c, v: [*c, v], add, 1).mapValues(sorted),
            True,
        ),
        "union": (a.union(b), True),
        "ssc.union": (run.ssc.union(a, b, a), True),
        "cogroup": (ka.cogroup(kb, 1), True),
        "join": (ka.join(kb, 1), False),
        "leftOuterJoin": (ka.leftOuterJoin(kb, 1), False),
        "rightOuterJoin": (ka.rightOuterJoin(kb, 1), False),
        "fullOuterJoin": (ka.fullOuterJoin(kb, 1), False),
        "transform": (a.transform(lambda rdd: rdd.map(lambda x: -x)), True),
        "transformTime": (a.transform(lambda t, rdd: rdd.map(lambda x: (x, type(t).__name__))), True),
        "transformNone": (a.transform(lambda rdd: None if rdd.isEmpty() else rdd), True),
        "transformWith": (a.transformWith(lambda x, y: x.union(y.distinct(1)), b), False),
        "transformWithNone": (none.transformWith(lambda x, y: x.union(y), b), True),
        "transformWithNothing": (none.transformWith(lambda x, y: x.union(y), none), True),
        "ssc.transform": (run.ssc.transform([a, b], lambda rdds: rdds[1].union(rdds[0])), True),
        "sortByKey": (ka.transform(lambda rdd: rdd.sortByKey(numPartitions=1)), False),
    }


def stateful(run: Run, a: Any, initial: list[tuple[int, int]]) -> dict[str, tuple[Any, bool]]:
    """Windows and states, likewise."""
    add, sub = operator.add, operator.sub
    ka = a.map(keyed)
    window, slide = 3 * run.interval_s, 2 * run.interval_s
    long, one = 5 * run.interval_s, run.interval_s
    # In one function: PySpark folds steps, and gives the None of one to the next, which it breaks.
    some = a.transform(lambda rdd: None if rdd.isEmpty() else rdd.map(keyed))
    return {
        "window": (a.window(window), True),
        "windowSlide": (a.window(window, slide), True),
        "windowGaps": (a.window(one, slide), True),
        "windowOfWindow": (a.window(slide, slide).window(2 * slide, slide), True),
        "windowCount": (a.window(window, slide).count(), True),
        "windowNone": (a.transform(lambda rdd: None).window(window, one).count(), True),
        "reduceByWindow": (a.reduceByWindow(add, None, window, slide), True),
        "reduceByWindowInverse": (a.reduceByWindow(add, sub, long, one), True),
        "countByWindow": (a.countByWindow(long, one), True),
        "countByWindowShort": (a.countByWindow(window, one), True),
        "countByValueAndWindow": (a.map(lambda x: x % 4).countByValueAndWindow(long, one, 1), False),
        "groupByKeyAndWindow": (ka.groupByKeyAndWindow(long, one, 1), False),
        "groupByKeyAndWindowShort": (ka.groupByKeyAndWindow(window, slide, 1), False),
        "reduceByKeyAndWindow": (ka.reduceByKeyAndWindow(add, None, window, slide, 1), True),
        "reduceByKeyAndWindowInverse": (ka.reduceByKeyAndWindow(add, sub, long, one, 2), False),
        "reduceByKeyAndWindowFiltered": (
            ka.reduceByKeyAndWindow(add, sub, long, one, 1, lambda pair: pair[1] % 5 != 0),
            False,
        ),
        "reduceByKeyAndWindowFilterAlone": (
            ka.reduceByKeyAndWindow(add, None, window, slide, 1, lambda pair: pair[1] > 5),
            True,
        ),
        "updateStateByKey": (ka.updateStateByKey(summed, 2), False),
        "updateStateByKeyInitial": (ka.updateStateByKey(summed, 1, initial), False),
        "updateStateByKeyNone": (some.updateStateByKey(summed, 1, initial), False),
        "stateThenMap": (ka.updateStateByKey(summed, 1).map(lambda pair: pair[1]).reduce(add), True),
    }


def on_single_batches(env: Any, a: list[Batch], b: list[Batch], batches: int) -> dict[str, Any]:
    """What every operator on single batches gives in each batch."""
    run = Run(env)
    for name, (stream, ordered) in stateless(run, run.queue(a), run.queue(b)).items():
        run.watch(name, stream, ordered)
    run.watch("queueAtOnce", run.queue(b, oneAtATime=False))
    run.watch("queueDefault", run.queue(a[:1], default=env.sc.parallelize([7, 8, 9], 2)).count())
    run.finish_batches(run.queue([[[0]]]))
    return run.run(batches)


def on_many_batches(env: Any, a: list[Batch], initial: Any, batches: int) -> dict[str, Any]:
    """What windows and states give in each batch."""
    run = Run(env)
    state = env.sc.parallelize(initial, 2) if initial else initial
    for name, (stream, ordered) in stateful(run, run.queue(a), state).items():
        run.watch(name, stream, ordered)
    run.finish_batches(run.queue([[[0]]]))
    return run.run(batches)


# -- failures --------------------------------------------------------------------------------------


def unlucky(value: int) -> int:
    if value == 13:
        raise LookupError(f"unlucky {value}")
    return value


def failing(env: Any, where: str) -> dict[str, Any]:
    """Which batches the outputs before, at and after a failure get, and what the waiter is told."""
    run = Run(env)
    run.stops_on_error = False
    numbers = run.queue([[[1]], [[13]], [[3]]])
    run.note("before", numbers)
    fails = {
        "worker": lambda: run.note("failing", numbers.map(unlucky)),
        "transform": lambda: run.note("failing", numbers.transform(checked)),
        "callback": lambda: numbers.foreachRDD(lambda rdd: unlucky(rdd.sum()) and None),
    }
    fails[where]()
    run.note("last", numbers)
    found = run.run(4 if where != "transform" else 3)
    return {
        **found,
        "told": [(0, all(word in run.told for word in ("LookupError: unlucky 13", "in unlucky")))],
    }


def checked(rdd: Any) -> Any:
    unlucky(rdd.fold(0, operator.add))
    return rdd
