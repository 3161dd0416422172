"""A word count that goes on after it was killed; counts are appended to a file.

    nc -lk 9999                                                             # in another terminal
    python -m aiostream_engine pyspark recoverable_network_wordcount.py localhost 9999 /tmp/cp /tmp/out
    spark-submit recoverable_network_wordcount.py localhost 9999 /tmp/cp /tmp/out

Some words are left out and counted by an accumulator. Broadcast variables and accumulators do not
survive a restart, so both are made again when they are asked for.
"""

import sys
from operator import add

from pyspark import SparkContext
from pyspark.streaming import StreamingContext


def left_out(sc):
    """The broadcast set of words to leave out, made once in a process."""
    return made_once("LEFT_OUT", lambda: sc.broadcast({"a", "b", "c"}))


def dropped(sc):
    """The accumulator of words that were left out, made once in a process."""
    return made_once("DROPPED", lambda: sc.accumulator(0))


def made_once(name, make):
    # By name: Spark writes what a function refers to into its checkpoint, where these are of no use.
    known = globals()
    if name not in known:
        known[name] = make()
    return known[name]


def build(host: str, port: int, output: str) -> StreamingContext:
    sc = SparkContext.getOrCreate()
    ssc = StreamingContext(sc, 1)

    def append(time, rdd):
        words, counter = left_out(rdd.context), dropped(rdd.context)

        def is_kept(pair):
            if pair[0] in words.value:
                counter.add(pair[1])
                return False
            return True

        counts = sorted(rdd.filter(is_kept).collect())
        line = f"Counts at time {time} {counts}"
        print(line)
        print(f"Dropped {counter.value} word(s) in all", flush=True)
        with open(output, "a") as file:
            file.write(line + "\n")

    pairs = ssc.socketTextStream(host, port).flatMap(str.split).map(lambda word: (word, 1))
    pairs.reduceByKey(add).foreachRDD(append)
    return ssc


def main(host: str, port: int, checkpoint: str, output: str) -> None:
    ssc = StreamingContext.getOrCreate(checkpoint, lambda: build(host, port, output))
    ssc.start()
    ssc.awaitTermination()


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit("usage: recoverable_network_wordcount.py HOST PORT CHECKPOINT_DIRECTORY OUTPUT_FILE")
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4])
