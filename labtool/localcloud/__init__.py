"""The embedded cloud: API server, engine, host image, reconcile, metrics.

The command line calls these functions and knows nothing else of it; after `start` everything goes by the AWS API
at `Endpoint.url`, as it would on AWS.
"""

from __future__ import annotations

from labtool.localcloud.capacity import checks as room_for
from labtool.localcloud.check import Check
from labtool.localcloud.lifecycle import Endpoint, Status, exists, prepare, start, status, stop
from labtool.localcloud.requirements import checks

__all__ = ["Check", "Endpoint", "Status", "checks", "exists", "prepare", "room_for", "start", "status", "stop"]
