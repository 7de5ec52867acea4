"""What the updates of the last minute say, kept by the driver of decide.py: plain Python."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple


class Sum(NamedTuple):
    """What a batch's updates say of one decision for one group."""

    group: str
    decision: str
    reward: float
    updates: int


class Window:
    """The sums of the last `length_s` seconds, by when their updates were made."""

    def __init__(self, length_s: float) -> None:
        self.length_s = length_s
        self.kept: deque[tuple[float, Sum]] = deque()

    def take(self, made: float, sums: Iterable[Sum]) -> None:
        """Add the sums of updates that were made until `made`, and forget what is too old."""
        self.kept.extend((made, each) for each in sums)
        while self.kept and self.kept[0][0] <= made - self.length_s:
            self.kept.popleft()

    def decisions(self, groups: Iterable[str]) -> list[dict[str, object]]:
        """Return the best decision of each of these groups, of those that have updates in the window.

        That is the one with the highest mean reward; of equal ones the one with more updates.
        """
        found = []
        for group in sorted(set(groups)):
            totals: dict[str, tuple[float, int]] = {}
            for _, each in self.kept:
                if each.group == group:
                    reward, updates = totals.get(each.decision, (0.0, 0))
                    totals[each.decision] = (reward + each.reward, updates + each.updates)
            if not totals:
                continue
            best = max(totals, key=lambda one: (totals[one][0] / totals[one][1], totals[one][1], one))
            reward, updates = totals[best]
            found.append({"group": group, "decision": best, "mean": reward / updates, "updates": updates})
        return found
