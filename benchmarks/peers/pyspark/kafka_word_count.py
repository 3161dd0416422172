"""Running counts of JSON words with Spark Structured Streaming: runs until it is ended.

It writes the changed counts of each micro-batch, not one for each record, which is less to write.
"""

from __future__ import annotations

from common.program import parameters
from pyspark.sql import SparkSession
from pyspark.sql import functions as f

given = parameters()
spark = (
    SparkSession.builder.master("local[2]")
    .config("spark.jars", given["jars"])
    .config("spark.sql.shuffle.partitions", str(given["partitions"]))
    .config("spark.ui.enabled", "false")
    .getOrCreate()
)
spark.sparkContext.setLogLevel("ERROR")
words = (
    spark.readStream.format("kafka")
    .option("kafka.bootstrap.servers", given["bootstrap"])
    .option("subscribe", given["topic"])
    .option("startingOffsets", "earliest")
    .load()
    .select(f.get_json_object(f.col("value").cast("string"), "$.word").alias("word"))
)
counts = words.groupBy("word").count()
entries = counts.select(f.col("word").alias("key"), f.to_json(f.struct("word", "count")).alias("value"))
print("READY", flush=True)
query = (
    entries.writeStream.format("kafka")
    .outputMode("update")
    .option("kafka.bootstrap.servers", given["bootstrap"])
    .option("topic", given["target"])
    .option("checkpointLocation", f"{given['scratch']}/checkpoint")
    .start()
)
query.awaitTermination()
