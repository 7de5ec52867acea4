"""What long work tells about itself while it runs; the display that shows it is in `labtool.cli`."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Told what is happening; says who is being waited for."""

    def stage(self, name: str) -> None:
        """Start a stage of the work: launch, deploy, workload, collect, …."""

    def host(self, name: str, state: str, detail: str = "") -> None:
        """Tell the state of one host: requested, pending, running, ssh, ready, …."""

    def line(self, text: str) -> None:
        """Say one sentence that stays."""


class Silent:
    """Progress that nobody watches."""

    def stage(self, name: str) -> None:
        """Ignore it."""

    def host(self, name: str, state: str, detail: str = "") -> None:
        """Ignore it."""

    def line(self, text: str) -> None:
        """Ignore it."""
