"""K3: running counts of JSON words from a Kafka topic to another, beside three stream processors."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.benchmark import Benchmark, Metric, Options, Target, main
from common.contender import BENCHMARKS, PEERS, Contender
from common.kafka_topic import broker_with_topics
from common.kafka_words import PARTITIONS, fill_words

RUNNER = "common/kafka_word_count_run.py"
AGE_RUNNER = "common/kafka_word_latency_run.py"
# Of the version before Spark's own, as long as that is the newest one in Maven's central repository.
SPARK_PACKAGE = ("org.apache.spark", "spark-sql-kafka-0-10_2.13", "4.2.0")
FEWER = {"quix": 10, "faust": 50}  # so many times fewer records for the slow

_POM = """<project><modelVersion>4.0.0</modelVersion><groupId>local</groupId><artifactId>jars</artifactId>
<version>1</version><dependencies><dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version>
</dependency></dependencies></project>"""


def spark_jars() -> str:
    """The jars of Spark's Kafka package, fetched once by Maven; nothing without Maven or Spark."""
    home = PEERS / "spark-kafka-jars"
    if shutil.which("mvn") is None or not (PEERS / "pyspark" / "installed.txt").exists():
        return ""
    if not (home / "done.txt").exists():
        home.mkdir(parents=True, exist_ok=True)
        (home / "pom.xml").write_text(_POM.format(*SPARK_PACKAGE))
        command = ["mvn", "-q", "-B", "dependency:copy-dependencies", f"-DoutputDirectory={home}"]
        command += [
            "-DincludeScope=runtime",
            "-DincludeGroupIds=org.apache.spark,org.apache.kafka,org.apache.commons",
        ]
        if subprocess.run(command, cwd=home, check=False).returncode != 0:
            return ""
        (home / "done.txt").write_text("")
    return ",".join(str(path) for path in sorted(home.glob("*.jar")))


def peer(key: str, name: str, environment: str, given: Mapping[str, Any], answer: str) -> Contender:
    python = PEERS / environment / "bin" / "python"
    program = BENCHMARKS / "peers" / environment / "kafka_word_count.py"
    installed = (PEERS / environment / "installed.txt").exists()
    version = (PEERS / environment / "installed.txt").read_text().partition("==")[2] if installed else ""
    parameters = {**given, "interpreter": str(python), "program": str(program), "version": version}
    # Watched by our own interpreter; the peer's is only looked for.
    return Contender(key, name, RUNNER, None if installed else environment, "peer", parameters, 1, answer)


def setting(options: Options) -> tuple[Sequence[Contender], Any]:
    records = options.size(1_000_000, 50_000)
    broker = broker_with_topics({})
    sizes = {"words": records, **{f"words-{key}": records // share for key, share in FEWER.items()}}
    digests = {
        topic: asyncio.run(fill_words(broker.bootstrap, topic, count)) for topic, count in sizes.items()
    }

    def given(topic: str) -> dict[str, Any]:
        bound = {"bootstrap": broker.bootstrap, "partitions": PARTITIONS, "timeout_s": options.timeout_s}
        return {**bound, "topic": topic, "records": sizes[topic]}

    ours = {
        **given("words"),
        "interpreter": sys.executable,
        "program": str(Path(BENCHMARKS) / "engine" / "kafka_word_count.py"),
        "version": "",
        "master": "local[2]",
        "interval_s": 0.5,
    }
    contenders = [
        Contender("engine", "aiostream_engine", RUNNER, None, "engine", {**ours, "once": False}),
        Contender(
            "changed",
            "aiostream_engine, changed counts",
            RUNNER,
            None,
            "engine",
            {**ours, "once": False, "changed": True},
        ),
        Contender(
            "once",
            "aiostream_engine, exactly once",
            RUNNER,
            None,
            "engine",
            {**ours, "once": True},
            on_disk=True,
        ),
        peer("quix", "Quix Streams", "quix", given("words-quix"), digests["words-quix"]),
        peer("faust", "Faust", "faust", given("words-faust"), digests["words-faust"]),
    ]
    contenders += [
        Contender(
            f"age-{interval_ms}",
            f"aiostream_engine, interval of {interval_ms} ms",
            AGE_RUNNER,
            None,
            "engine",
            {**ours, "once": False, "interval_s": interval_ms / 1000, "seconds": 3 if options.quick else 15},
        )
        for interval_ms in (20, 100)
    ]
    jars = spark_jars()
    if jars:
        spark = {**given("words"), "jars": jars}
        name = "Spark Structured Streaming"
        contenders.append(peer("spark", name, "pyspark", spark, digests["words"]))
    return contenders, digests["words"]


BENCHMARK = Benchmark(
    "K3",
    "Running counts of JSON words, topic to topic, 4 partitions",
    "from when a program is ready to begin to read a backlog until the last count is in the topic; what a "
    "consumer of committed records reads there must then add up to all records. Programs write a count "
    "for each record; where changed counts are named, and in Spark, those that changed in a micro-batch. "
    "The broker shares the two cores. Ages: of one word in 5 ms, from its sending until its count is read, "
    "at shares of the rate in the same row; what sends the load has the cores with them too.",
    (
        Metric("records_per_s", "count", "records/s", more_is_better=True),
        Metric("p50_25_ms", "p50 at 25 %", "ms"),
        Metric("p99_25_ms", "p99 at 25 %", "ms"),
        Metric("p50_50_ms", "p50 at 50 %", "ms"),
        Metric("p99_50_ms", "p99 at 50 %", "ms"),
        Metric("p50_75_ms", "p50 at 75 %", "ms"),
        Metric("p99_75_ms", "p99 at 75 %", "ms"),
    ),
    (
        Target("times Quix Streams", "engine", "records_per_s", 5.0, against="quix"),
        Target("times Faust", "engine", "records_per_s", 50.0, against="faust"),
        Target(
            "times Spark Structured Streaming, both with changed counts",
            "changed",
            "records_per_s",
            3.0,
            against="spark",
        ),
    ),
    setting,
)

if __name__ == "__main__":
    main(BENCHMARK)
