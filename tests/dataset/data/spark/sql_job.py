"""DataFrames alone, no Python workers: generated sales are written, read, shuffled by a skewed key, and sorted."""

import sys

from pyspark.sql import SparkSession, functions

out, many = sys.argv[1], int(sys.argv[2])
spark = SparkSession.builder.appName("skewed-sales").getOrCreate()
shop = functions.when(functions.rand(7) < 0.6, functions.lit(0)).otherwise((functions.rand(8) * 2000).cast("int"))
sales = spark.range(0, many, 1, 8).select(
    shop.alias("shop"), (functions.rand(9) * 1000).alias("amount"), functions.expr("repeat(uuid(), 2)").alias("note")
)
sales.write.mode("overwrite").parquet(f"{out}/sales")
read = spark.read.parquet(f"{out}/sales")
spark.sparkContext.setJobDescription("median by shop")
by_shop = read.repartition(12, "shop").sortWithinPartitions("note").groupBy("shop")
medians = by_shop.agg(functions.count("*"), functions.expr("percentile(amount, 0.5)"), functions.max("note"))
medians.write.mode("overwrite").parquet(f"{out}/medians")
spark.sparkContext.setJobDescription("sort")
read.orderBy("note").select(functions.sum("amount")).collect()
spark.stop()
