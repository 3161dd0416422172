"""The most frequent words of the last ten seconds, every two, from lines of a TCP server.

nc -lk 9999                                                             # in another terminal
python -m aiostream_engine pyspark windowed_network_wordcount.py localhost 9999 /tmp/windows
spark-submit windowed_network_wordcount.py localhost 9999 /tmp/windows
"""

import sys
from operator import add, sub

from pyspark import SparkContext
from pyspark.streaming import StreamingContext

WINDOW_S, SLIDE_S = 10, 2


def main(host: str, port: int, checkpoint: str) -> None:
    sc = SparkContext(appName="windowed word count")
    ssc = StreamingContext(sc, 1)
    ssc.checkpoint(checkpoint)  # taking out what leaves a window needs the window before
    pairs = ssc.socketTextStream(host, port).flatMap(str.split).map(lambda word: (word, 1))
    counts = pairs.reduceByKeyAndWindow(add, sub, WINDOW_S, SLIDE_S, filterFunc=lambda pair: pair[1] > 0)
    counts.transform(lambda rdd: rdd.sortBy(lambda pair: (-pair[1], pair[0]))).pprint(5)
    ssc.start()
    ssc.awaitTermination()


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("usage: windowed_network_wordcount.py HOST PORT CHECKPOINT_DIRECTORY")
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
