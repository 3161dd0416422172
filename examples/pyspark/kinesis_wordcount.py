"""Word counts of each second, of records from Amazon Kinesis. Needs Spark's Kinesis connector.

    spark-submit --packages org.apache.spark:spark-streaming-kinesis-asl_2.13:4.3.0 \
        kinesis_wordcount.py APPLICATION STREAM ENDPOINT_URL REGION

On aiostream_engine the import of pyspark.streaming.kinesis says what to do until there is a Kinesis
source.
"""

import sys
from operator import add

from pyspark import SparkContext
from pyspark.streaming import StreamingContext
from pyspark.streaming.kinesis import InitialPositionInStream, KinesisUtils

CHECKPOINT_INTERVAL_S = 2


def main(application: str, stream: str, endpoint: str, region: str) -> None:
    sc = SparkContext(appName=application)
    ssc = StreamingContext(sc, 1)
    records = KinesisUtils.createStream(
        ssc, application, stream, endpoint, region, InitialPositionInStream.LATEST, CHECKPOINT_INTERVAL_S
    )
    records.flatMap(str.split).map(lambda word: (word, 1)).reduceByKey(add).pprint()
    ssc.start()
    ssc.awaitTermination()


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit("usage: kinesis_wordcount.py APPLICATION STREAM ENDPOINT_URL REGION")
    main(*sys.argv[1:])
