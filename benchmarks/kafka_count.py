"""K1: how fast a topic of Kafka is counted, beside the client libraries and two stream processors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from common.benchmark import Benchmark, Metric, Options, Target, main
from common.contender import Contender
from common.kafka_topic import VALUE_BYTES, broker_with_topics

FAUST_SHARE = 50  # Faust gets so many times fewer records, and is timed on these
PASSES = 10


def setting(options: Options) -> tuple[Sequence[Contender], Any]:
    records = options.size(5_000_000, 200_000)
    few = records // FAUST_SHARE // 4 * 4
    broker = broker_with_topics({"count": records, "count-few": few})
    given = {"bootstrap": broker.bootstrap, "topic": "count", "records": records, "bytes": VALUE_BYTES}
    engine = {**given, "master": "local[2]", "interval_s": 0.2}
    contenders = [
        Contender(
            "engine",
            "aiostream_engine, local[2], decoded",
            "engine/kafka_count.py",
            None,
            "engine",
            {**engine, "how": "decoded"},
        ),
        Contender(
            "headers",
            "aiostream_engine, local[2], count() by headers",
            "engine/kafka_count.py",
            None,
            "engine",
            {**engine, "how": "headers"},
        ),
        Contender(
            "client",
            "aiostream_engine, local[2], lane='client'",
            "engine/kafka_count.py",
            None,
            "engine",
            {**engine, "how": "decoded", "lane": "client"},
            1,
        ),
        Contender("raw", "floor: fetch, look at headers", "floors/kafka_raw_fetch.py", None, "floor", given),
        Contender("getmany", "aiokafka, a getmany loop", "floors/kafka_getmany.py", None, "peer", given),
        Contender(
            "confluent",
            "confluent-kafka, consume(10000)",
            "peers/confluent/kafka_count.py",
            "confluent",
            "peer",
            given,
        ),
        Contender("quix", "Quix Streams", "peers/quix/kafka_count.py", "quix", "peer", given, 1),
        Contender(
            "faust",
            "Faust",
            "peers/faust/kafka_count.py",
            "faust",
            "peer",
            {**given, "topic": "count-few", "records": few},
            1,
            few,
        ),
    ]
    if not options.quick:
        soak = {**engine, "how": "decoded", "passes": PASSES}
        name = f"aiostream_engine, {PASSES} passes"
        contenders.append(Contender("soak", name, "engine/kafka_count.py", None, "engine", soak, 1))
    return contenders, records


BENCHMARK = Benchmark(
    "K1",
    "Count a Kafka topic of 100-byte values, 4 partitions, no compression",
    "from the start of a stream or consumer that begins at the earliest offset, over a backlog of all "
    "records, until all are counted; workers and broker run already. The broker shares the two cores. "
    "'decoded' makes each value a bytes object in a worker and adds up its length, which is more than "
    "the others do; the canary is a timer on the loop that fetches.",
    (
        Metric("records_per_s", "count", "records/s", more_is_better=True),
        Metric("canary_p99_ms", "canary p99", "ms"),
        Metric("queue_mb", "queue, most", "MB"),
        Metric("rss_mb", "driver, most", "MB"),
        Metric("rss_growth_percent", "growth of the driver", "%"),
    ),
    (
        Target("times a getmany loop", "engine", "records_per_s", 4.0, against="getmany"),
        Target("times confluent-kafka", "engine", "records_per_s", 8.0, against="confluent"),
        Target("times Quix Streams", "engine", "records_per_s", 10.0, against="quix"),
        Target("times Faust", "engine", "records_per_s", 100.0, against="faust"),
        Target("share of the raw fetch", "engine", "records_per_s", 0.5, against="raw"),
        Target("canary p99, ms", "engine", "canary_p99_ms", 20.0, at_least=False),
        Target("queue's bound (256 MB) and one fetch", "engine", "queue_mb", 290.0, at_least=False),
        Target("10 passes: growth of the driver, %", "soak", "rss_growth_percent", 10.0, at_least=False),
    ),
    setting,
)

if __name__ == "__main__":
    main(BENCHMARK)
