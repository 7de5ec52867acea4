"""`python -m labtool.cloud.publish TARGET LAB ARCHIVE SHA512`: what the role `artifact` runs to give hosts a URL.

Prints the URL. It fails with one line on stderr, after which the role sends the archive over SSH.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from labtool.cloud import bucket, find, keys, tags
from labtool.cloud.journal import Journal
from labtool.cloud.session import Session, Target, told_clearly
from labtool.errors import LabtoolError


def command(session: Session, lab: str) -> list[str]:
    """Return the words that the role is given; on AWS they hold no secret."""
    return [sys.executable, "-m", "labtool.cloud.publish", json.dumps(asdict(session.target)), lab]


def publish(session: Session, lab: str, archive: Path, sha512: str) -> str:
    """Put an archive into the lab's bucket, made if there is none, and return a URL for the hosts."""
    home = bucket.of_lab(session, lab)
    # Written down first, here and on the hosts: whatever happens then, `labtool down` looks for it from anywhere.
    Journal(keys.lab_folder(session, lab)).uses(bucket=home.name)
    _tag_hosts(session, lab, home)
    bucket.ensure(session, lab, home)
    return bucket.url(session, home, bucket.put(session, home, archive, sha512))


def _tag_hosts(session: Session, lab: str, home: bucket.Bucket) -> None:
    found = find.describe(
        session,
        [{"Name": f"tag:{tags.LAB}", "Values": [lab]}, {"Name": "instance-state-name", "Values": list(find.ALIVE)}],
    )
    without = [i["InstanceId"] for i in found if tags.to_map(i.get("Tags")).get(tags.BUCKET) != home.name]
    if without:
        with told_clearly("tagging the hosts with their bucket"):
            session.ec2.create_tags(Resources=without, Tags=tags.to_list({tags.BUCKET: home.name}))


def main(words: Sequence[str]) -> int:
    """Run as a program."""
    target, lab, archive, sha512 = words
    try:
        print(publish(Session(Target(**json.loads(target))), lab, Path(archive), sha512))
    except LabtoolError as error:
        print(error.message, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
