"""A thousand labs that fail: brought up, grown and ended while calls fail and labtool dies, against the fake of AWS.

    python benchmarks/faults.py [--stories 1000] [--first 0]

Each story is made up from its number: an API that knows things up to half a minute late, throttles, has zones without
room; calls that time out before or after they were carried out, crashes and ^C between any two calls; up to three
`up` and two `down`, then a last `down` that meets no fault. After it nothing may be left, and no two hosts may ever
have had one name. The target is 0 of both. Time is virtual; a story takes a quarter of a second.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "cloud"))
os.environ["AWS_EC2_METADATA_DISABLED"] = "true"

from fake import Account, install, story


def main() -> None:
    """Tell the stories and print what came of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stories", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="number of the first one")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    account, faults, wrong, calls, commands, virtual = Account(), Counter[str](), [], 0, 0, 0.0
    began = time.perf_counter()
    for number in range(given.first, given.first + given.stories):
        told = story.tell(account, story.random_story(random.Random(number)), setattr, install)
        faults += told.faults
        calls, commands, virtual = calls + told.calls, commands + len(told.outcomes), virtual + told.seconds
        wrong += [f"story {number}: {each}" for each in told.wrong]
        if sys.stderr.isatty():
            print(f"\r{number + 1 - given.first} stories, {len(wrong)} wrong", end="", file=sys.stderr)
    result = {
        "stories": given.stories,
        "commands": commands,
        "calls": calls,
        "faults": sum(faults.values()),
        "wrong": len(wrong),
        "virtual_hours": round(virtual / 3600, 1),
        "seconds": round(time.perf_counter() - began, 1),
    }
    for each in wrong:
        print(each, file=sys.stderr)
    if given.json:
        print(json.dumps(result | {"by_kind": dict(faults)}))
    else:
        print(
            f"{given.stories} labs, {commands} commands, {calls} calls, {result['faults']} faults met "
            f"({', '.join(f'{count} {kind}' for kind, count in faults.most_common())})\n"
            f"{len(wrong)} instances, volumes, groups or keys left or hosts twice (target 0); "
            f"{result['virtual_hours']} hours of theirs in {result['seconds']} s"
        )
    raise SystemExit(bool(wrong))


if __name__ == "__main__":
    main()
