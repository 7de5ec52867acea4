"""What is about to be asked of the cloud, written down first: whatever happens then, it can be found again.

The file `launch.json` in the lab's folder. It stays after the launch: what was made a moment ago may be unknown to
the API's next answer, and a command that trusted that answer would launch it a second time.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from labtool.cloud import clock, tags
from labtool.files import write_json

SETTLED = timedelta(seconds=60)
"""What the API does not show this long after it was made has not been made. EC2 promises no bound: it says that
changes are seen "eventually", and its own guide waits up to minutes; a security group holds the rest (`end.down`)."""
FILE = "launch.json"


@dataclass
class Call:
    """One RunInstances: its parameters, and the instances it made once that is known."""

    request: dict[str, Any]
    asked: datetime
    ids: list[str] = field(default_factory=list)

    @property
    def hosts(self) -> set[str]:
        """The names of the hosts it asks for."""
        common = self.tags
        return {f"{common[tags.GROUP]}-{index}" for index in tags.parse_indexes(common[tags.INDEXES])}

    @property
    def tags(self) -> dict[str, str]:
        """The tags it gives its instances."""
        return tags.to_map(self.request["TagSpecifications"][0]["Tags"])


class Journal:
    """The launches of one lab made from this machine. Safe to be told things from several threads."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._lock = threading.Lock()
        self.calls: list[Call] = []
        self.touched: datetime | None = None  # when something was last about to be made
        self.groups: set[str] = set()  # ids of security groups
        self.placements: set[str] = set()  # names of placement groups
        self.buckets: set[str] = set()  # their names
        self._read()

    @property
    def exists(self) -> bool:
        """True when this machine has launched something for the lab, or was about to."""
        return self.touched is not None

    @property
    def ids(self) -> set[str]:
        """The instances that are known to have been made."""
        return {identity for call in self.calls for identity in call.ids}

    @property
    def open(self) -> list[Call]:
        """The calls of which it is not known what became of them."""
        return [call for call in self.calls if not call.ids]

    @property
    def unsure(self) -> bool:
        """True when a security group may have been made that nobody knows.

        Of all that is made it alone has a name that AWS chooses, and every instance is in it: EC2 does not let it go
        before them, known or not.
        """
        return self.exists and not self.groups

    def settled(self) -> bool:
        """Tell whether the API shows all that was made by now."""
        return self.touched is None or clock.now() >= self.touched + SETTLED

    def begin(self) -> None:
        """Note that things are about to be made; what was made long ago is forgotten."""
        with self._lock:
            self.calls = [call for call in self.calls if clock.now() < call.asked + 5 * SETTLED or not call.ids]
            self._write()

    def uses(self, *, group: str | None = None, placement: str | None = None, bucket: str | None = None) -> None:
        """Note a security group that the lab has, or a placement group or bucket that is about to be made."""
        with self._lock:
            self.groups |= {group} if group else set()
            self.placements |= {placement} if placement else set()
            self.buckets |= {bucket} if bucket else set()
            self._write()

    def asking(self, request: Mapping[str, Any]) -> Call:
        """Note a RunInstances that is about to be sent."""
        call = Call(dict(request), clock.now())
        with self._lock:
            self.calls.append(call)
            self._write()
        return call

    def made(self, call: Call, ids: Iterable[str]) -> None:
        """Note the instances that a call has made."""
        with self._lock:
            call.ids = list(ids)
            self._write()

    def drop(self, call: Call) -> None:
        """Forget a call that was refused, and so has made nothing."""
        with self._lock:
            self.calls.remove(call)
            self._write()

    def forget(self) -> None:
        """Forget everything: the lab is gone."""
        with self._lock:
            self.calls, self.touched = [], None
            self.groups, self.placements, self.buckets = set(), set(), set()
            self._path.unlink(missing_ok=True)

    def _write(self) -> None:
        self.touched = clock.now()
        calls = [{"request": c.request, "asked": tags.time_text(c.asked), "ids": c.ids} for c in self.calls]
        write_json(
            self._path,
            {
                "touched": tags.time_text(self.touched),
                "groups": sorted(self.groups),
                "placements": sorted(self.placements),
                "buckets": sorted(self.buckets),
                "calls": calls,
            },
        )

    def _read(self) -> None:
        try:
            data = json.loads(self._path.read_text())
            self.touched = tags.parse_time(data["touched"])
            self.groups, self.placements = set(data["groups"]), set(data["placements"])
            self.buckets = set(data.get("buckets", ()))  # a lab of an earlier version has none
            self.calls = [
                Call(each["request"], tags.parse_time(each["asked"]) or clock.now(), list(each["ids"]))
                for each in data["calls"]
            ]
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError):
            # Cut short or of another version: something may have been made, and down looks for a while.
            self.touched, self.calls = clock.now(), []
