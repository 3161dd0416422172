"""The happiest words of every five seconds: counts joined with a table of sentiments.

    nc -lk 9999                                                             # in another terminal
    python -m aiostream_engine pyspark network_wordjoinsentiments.py localhost 9999 sentiments.txt
    spark-submit network_wordjoinsentiments.py localhost 9999 sentiments.txt

Each line of the table is a word, a tab and a number, as in the AFINN lists; a small one is beside this
file.
"""

import sys
from operator import add

from pyspark import SparkContext
from pyspark.streaming import StreamingContext


def entry_of(line: str):
    word, _, number = line.partition("\t")
    return word, float(number or 0)


def print_happiest(rdd) -> None:
    happiest = rdd.take(5)
    print(f"Happiest words of the last 5 seconds ({rdd.count()} in all):")
    for happiness, word in happiest:
        print(f"{word} ({happiness:g})")
    sys.stdout.flush()


def main(host: str, port: int, table: str) -> None:
    sc = SparkContext(appName="happiest words")
    ssc = StreamingContext(sc, 5)
    sentiments = sc.textFile(table).map(entry_of).cache()
    pairs = ssc.socketTextStream(host, port).flatMap(str.split).map(lambda word: (word, 1))
    happiness = (
        pairs.reduceByKey(add)
        .transform(lambda counts: sentiments.join(counts))
        .map(lambda entry: (entry[1][0] * entry[1][1], entry[0]))
        .transform(lambda rdd: rdd.sortByKey(ascending=False))
    )
    happiness.foreachRDD(print_happiest)
    ssc.start()
    ssc.awaitTermination()


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("usage: network_wordjoinsentiments.py HOST PORT TABLE")
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
