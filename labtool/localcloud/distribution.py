"""Which distribution this machine runs: the host image is made from the same one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from labtool.errors import LocalCloudError

_LOGIN = {"debian": "admin", "ubuntu": "ubuntu"}  # as in the images that Debian and Canonical publish on AWS
_OLDEST = {"debian": 12, "ubuntu": 22.04}


@dataclass(frozen=True)
class Distribution:
    """A distribution's release as /etc/os-release names it."""

    id: str
    version: str
    codename: str

    @property
    def image_name(self) -> str:
        """What labtool calls its image: debian-12, ubuntu-24.04."""
        return f"{self.id}-{self.version}"

    @property
    def login(self) -> str:
        """The login user of this distribution's images on AWS."""
        return _LOGIN[self.id]

    @property
    def public_parameter(self) -> str:
        """The public SSM parameter that holds the id of this release's AMI."""
        if self.id == "debian":
            return f"/aws/service/debian/release/{self.version}/latest/amd64"
        volume = "ebs-gp3" if float(self.version) >= 24.04 else "ebs-gp2"
        return f"/aws/service/canonical/ubuntu/server/{self.version}/stable/current/amd64/hvm/{volume}/ami-id"


def read(os_release: Path = Path("/etc/os-release")) -> Distribution:
    """Return this machine's distribution; `LocalCloudError` if no host image can be made from it."""
    fields = {
        key: value.strip().strip('"')
        for key, _, value in (line.partition("=") for line in os_release.read_text().splitlines())
    }
    name, version = fields.get("ID", ""), fields.get("VERSION_ID", "")
    oldest = _OLDEST.get(name)
    if oldest is None or not version or float(version) < oldest:
        raise LocalCloudError(
            f"the local cloud makes its hosts from Debian 12 or later, or Ubuntu 22.04 or later; "
            f"this machine runs {fields.get('PRETTY_NAME', name or 'something unknown')}",
            "use such a machine (a virtual one will do), or --cloud aws",
        )
    return Distribution(name, version, fields.get("VERSION_CODENAME", ""))
