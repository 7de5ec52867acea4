"""Which of several test processes this is (`pytest -n 2`): 0, 1, …; each has local clouds of its own."""

from __future__ import annotations

import os

NUMBER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
