"""Where a local cloud keeps its files: everything under `<state>/<name>/`, except what clouds share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from labtool.config import LocalSettings


@dataclass(frozen=True)
class InstanceFolder:
    """The folder of one instance."""

    path: Path

    @property
    def seed(self) -> Path:
        """Mounted read-only in the host: its keys, its user data."""
        return self.path / "seed"

    @property
    def out(self) -> Path:
        """Mounted in the host: how it shut down."""
        return self.path / "out"

    @property
    def shutdown(self) -> Path:
        """Written by the host at the end of a shutdown: `poweroff`, `reboot`, `halt` or `kexec`."""
        return self.out / "shutdown"

    @property
    def pid(self) -> Path:
        """The id of the host's systemd on the machine, where the engine writes it."""
        return self.path / "pid"

    @property
    def console(self) -> Path:
        """What the host's systemd printed, as the engine's log."""
        return self.path / "console.log"


@dataclass(frozen=True)
class Layout:
    """The files of one local cloud."""

    settings: LocalSettings

    @property
    def folder(self) -> Path:
        """Everything of this cloud; `stop` removes it."""
        return self.settings.state / self.settings.name

    @property
    def lock(self) -> Path:
        """Held while a cloud is started or stopped."""
        return self.settings.state / f"{self.settings.name}.lock"

    @property
    def log(self) -> Path:
        """The API process's log."""
        return self.folder / "cloud.log"

    @property
    def pid(self) -> Path:
        """The API process's id and its start time."""
        return self.folder / "cloud.pid"

    @property
    def settings_file(self) -> Path:
        """The settings that this cloud was started with."""
        return self.folder / "settings.json"

    @property
    def services(self) -> Path:
        """One pickle a service."""
        return self.folder / "services"

    @property
    def metrics(self) -> Path:
        """The CloudWatch store."""
        return self.folder / "cloudwatch.sqlite"

    @property
    def network(self) -> Path:
        """What was changed on the machine for the lab's network, to be undone."""
        return self.folder / "network.json"

    @property
    def metadata_key(self) -> Path:
        """The key that signs the metadata service's session tokens."""
        return self.folder / "metadata.key"

    @property
    def proc(self) -> Path:
        """Parent of lxcfs's mount point; a shared mount, so that a new lxcfs appears in running hosts."""
        return self.folder / "lxcfs"

    @property
    def packages(self) -> Path:
        """Debian packages fetched for hosts; shared by all clouds and kept."""
        return self.settings.state / "packages"

    def instance(self, instance_id: str) -> InstanceFolder:
        """Return an instance's folder (it may not exist)."""
        return InstanceFolder(self.folder / "instances" / instance_id)
