"""Count the words of generated text: lines of twelve words, out of fifty thousand.

With `--skew 0.3` that share of all words is `the`.
"""

from __future__ import annotations

from generated import MIB, arguments, held, number, rows, session, timed, uniform
from pyspark.sql import functions as f

WORDS, VOCABULARY = 12, 50_000
LINE_BYTES = WORDS * 7  # six characters or fewer, and what parts them


def main() -> None:
    """Make text, split it, count, and hold the sum against the number of words that were made."""
    given = arguments(__doc__)
    spark = session("labtool-wordcount")
    count = max(int(given.size * MIB / LINE_BYTES), 1)

    def word(place: f.Column) -> f.Column:
        unlike = f.concat(f.lit("w"), f.pmod(number(given.seed, f.col("id"), place), f.lit(VOCABULARY)))
        return f.when(uniform(given.seed + 1, f.col("id"), place) < given.skew, f.lit("the")).otherwise(unlike)

    words = f.concat_ws(" ", *(word(f.lit(place)) for place in range(WORDS)))
    lines = rows(spark, count, given.partitions).select(words.alias("line"))

    def work() -> dict:
        each = held(lines, given.input).select(f.explode(f.split("line", " ")).alias("word"))
        counts = each.groupBy("word").count()
        total, different, most = counts.agg(f.sum("count"), f.count("*"), f.max("count")).first()
        if total != count * WORDS:
            raise SystemExit(f"counted {total} words, where {count * WORDS} were made")
        return {"words": total, "different": different, "most": most}

    timed("wordcount", given, count, LINE_BYTES, work)
    spark.stop()


if __name__ == "__main__":
    main()
