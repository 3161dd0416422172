"""Counts of all words since the start, from lines of a TCP server; two words begin with a count.

nc -lk 9999                                                             # in another terminal
python -m aiostream_engine pyspark stateful_network_wordcount.py localhost 9999 /tmp/counts
spark-submit stateful_network_wordcount.py localhost 9999 /tmp/counts
"""

import sys

from pyspark import SparkContext
from pyspark.streaming import StreamingContext


def add_up(new_counts, total):
    return sum(new_counts, total or 0)


def main(host: str, port: int, checkpoint: str) -> None:
    sc = SparkContext(appName="stateful word count")
    ssc = StreamingContext(sc, 1)
    ssc.checkpoint(checkpoint)  # state needs it
    known = sc.parallelize([("hello", 1), ("world", 1)])
    pairs = ssc.socketTextStream(host, port).flatMap(str.split).map(lambda word: (word, 1))
    pairs.updateStateByKey(add_up, initialRDD=known).pprint()
    ssc.start()
    ssc.awaitTermination()


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("usage: stateful_network_wordcount.py HOST PORT CHECKPOINT_DIRECTORY")
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
