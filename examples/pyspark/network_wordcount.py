"""Word counts of each second, of lines from a TCP server.

Runs on either engine, unchanged:

    nc -lk 9999                                                             # in another terminal
    python -m aiostream_engine pyspark network_wordcount.py localhost 9999
    spark-submit network_wordcount.py localhost 9999
"""

import sys
from operator import add

from pyspark import SparkContext
from pyspark.streaming import StreamingContext


def main(host: str, port: int) -> None:
    sc = SparkContext(appName="network word count")
    ssc = StreamingContext(sc, 1)
    words = ssc.socketTextStream(host, port).flatMap(str.split)
    words.map(lambda word: (word, 1)).reduceByKey(add).pprint()
    ssc.start()
    ssc.awaitTermination()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: network_wordcount.py HOST PORT")
    main(sys.argv[1], int(sys.argv[2]))
