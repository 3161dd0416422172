"""Batches from a list of RDDs, one a second: how to try out or test a stream without any source.

python -m aiostream_engine pyspark queue_stream.py
spark-submit queue_stream.py
"""

import time
from operator import add

from pyspark import SparkContext
from pyspark.streaming import StreamingContext

BATCHES = 3


def main() -> None:
    sc = SparkContext(appName="queue stream")
    ssc = StreamingContext(sc, 1)
    numbers = ssc.queueStream([sc.parallelize(range(1, 1001), 10) for _ in range(BATCHES)])
    numbers.map(lambda number: (number % 10, 1)).reduceByKey(add).pprint()
    ssc.start()
    time.sleep(BATCHES + 1)
    ssc.stop(stopSparkContext=True, stopGraceFully=True)


if __name__ == "__main__":
    main()
