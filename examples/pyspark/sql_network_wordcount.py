"""Word counts of each second by SQL, of lines from a TCP server. Needs Spark SQL.

    nc -lk 9999                                                             # in another terminal
    spark-submit sql_network_wordcount.py localhost 9999

On aiostream_engine the import of pyspark.sql says what to do until there is SQL:

    python -m aiostream_engine pyspark sql_network_wordcount.py localhost 9999
"""

import sys

from pyspark import SparkContext
from pyspark.sql import Row, SparkSession
from pyspark.streaming import StreamingContext


def count_by_sql(time, rdd) -> None:
    print(f"========= {time} =========")
    if rdd.isEmpty():
        return
    spark = SparkSession.builder.config(conf=rdd.context.getConf()).getOrCreate()
    spark.createDataFrame(rdd.map(lambda word: Row(word=word))).createOrReplaceTempView("words")
    spark.sql("SELECT word, count(*) AS total FROM words GROUP BY word ORDER BY total DESC").show()


def main(host: str, port: int) -> None:
    sc = SparkContext(appName="word count by SQL")
    ssc = StreamingContext(sc, 1)
    ssc.socketTextStream(host, port).flatMap(str.split).foreachRDD(count_by_sql)
    ssc.start()
    ssc.awaitTermination()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: sql_network_wordcount.py HOST PORT")
    main(sys.argv[1], int(sys.argv[2]))
