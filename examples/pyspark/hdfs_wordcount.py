"""Word counts of the text files that appear in a directory.

    python -m aiostream_engine pyspark hdfs_wordcount.py /tmp/inbox
    spark-submit hdfs_wordcount.py /tmp/inbox
    mv /tmp/written/some.txt /tmp/inbox/                                    # in another terminal

A file is taken when it appears: write it elsewhere on the same file system and move it in. With Spark
the directory may be on HDFS; here it is one that this machine can see.
"""

import sys
from operator import add

from pyspark import SparkContext
from pyspark.streaming import StreamingContext


def main(directory: str) -> None:
    sc = SparkContext(appName="word count of files")
    ssc = StreamingContext(sc, 1)
    words = ssc.textFileStream(directory).flatMap(str.split)
    words.map(lambda word: (word, 1)).reduceByKey(add).pprint()
    ssc.start()
    ssc.awaitTermination()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: hdfs_wordcount.py DIRECTORY")
    main(sys.argv[1])
