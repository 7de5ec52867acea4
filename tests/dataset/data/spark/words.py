"""RDDs of Python: generated words are counted and sorted; with a second argument a last job fails."""

import random
import sys

from pyspark import SparkConf, SparkContext

sc = SparkContext(conf=SparkConf().setAppName("word-count"))
each = int(sys.argv[1])


def words(part):
    rng = random.Random(part)
    for _ in range(each):
        yield f"w{int(rng.paretovariate(0.6) % 5000)}"


def bad(word):
    if word == 5:
        raise ValueError("no word is bad")
    return word


counts = sc.parallelize(range(12), 12).flatMap(words).map(lambda word: (word, 1)).reduceByKey(lambda a, b: a + b, 6)
print(counts.sortBy(lambda pair: -pair[1], numPartitions=4).take(3))
if len(sys.argv) > 2:
    try:
        sc.parallelize(range(6), 3).map(bad).count()
    except Exception as error:
        print("failed as it should:", type(error).__name__)
sc.stop()
