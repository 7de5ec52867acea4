"""The host image: made once from the machine's own distribution, named by the hash of its recipe."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files as package_files
from pathlib import Path

from labtool.config import LocalSettings
from labtool.errors import LocalCloudError
from labtool.localcloud import distribution, inherit
from labtool.localcloud.distribution import Distribution
from labtool.localcloud.engine import CLOUD_LABEL, Engine
from labtool.localcloud.inherit import HostFile

BASE_PACKAGES = (
    "bzip2",
    "ca-certificates",
    "curl",
    "dbus",
    "iproute2",
    "iputils-ping",
    "less",
    "libnss-myhostname",
    "netbase",
    "openssh-server",
    "procps",
    "psmisc",
    "python3",
    "python3-apt",
    "rsync",
    "sudo",
    "sysstat",
    "systemd",
    "systemd-sysv",
    "unzip",
    "xz-utils",
    "zstd",
)
# Units that only make noise in a measured host, or that have no meaning in a container.
_MASKED = (
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "console-getty.service",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "fstrim.timer",
    "getty.target",
    "motd-news.timer",
    "ssh.socket",
    "systemd-firstboot.service",
    "systemd-networkd-wait-online.service",
    "systemd-udevd.service",
)
# A sample each ten minutes is of no use to a measurement, and is work in the middle of one.
_DISABLED = ("sysstat.service", "sysstat-collect.timer", "sysstat-summary.timer")
_ENABLED = ("ssh.service", "labtool-first-boot.service", "labtool-user-data.service")


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what the image holds."""

    distribution: Distribution
    packages: tuple[str, ...]
    files: tuple[HostFile, ...]  # the machine's settings and our own

    @property
    def hash(self) -> str:
        """12 hexadecimal digits that change when the image would."""
        digest = hashlib.sha256()
        digest.update(repr((self.distribution, self.packages, _MASKED, _ENABLED, _finish(self))).encode())
        for file in self.files:
            digest.update(repr((file.path, file.mode)).encode() + file.content)
        return digest.hexdigest()[:12]

    @property
    def tag(self) -> str:
        """The image's name in the engine."""
        return f"localhost/labtool-host:{self.hash}"


def recipe(settings: LocalSettings) -> Recipe:
    """Return the recipe for this machine; `LocalCloudError` on a distribution we cannot build."""
    system = distribution.read()
    packages = tuple(sorted({*BASE_PACKAGES, *settings.image_packages}))
    inherited = inherit.host_files(system)
    if not any(file.path.startswith("/etc/apt/sources.list") for file in inherited):
        raise LocalCloudError(
            f"this machine has no apt source of {system.id} {system.codename} over http or https",
            "add one to /etc/apt/sources.list, then run `sudo apt-get update`",
        )
    return Recipe(system, packages, (*inherited, *_own_files(system)))


def ensure(
    settings: LocalSettings, engine: Engine, progress: Callable[[str], None], wanted: Recipe | None = None
) -> str:
    """Build the image if the engine does not have it, drop those of older recipes; return its tag."""
    wanted = wanted or recipe(settings)
    if engine.image_exists(wanted.tag):
        return wanted.tag
    with (_work_folder(settings) / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("waiting: another command builds a host image")
            fcntl.flock(lock, fcntl.LOCK_EX)
        if not engine.image_exists(wanted.tag):
            _build(settings, engine, progress, wanted)
    return wanted.tag


def _build(settings: LocalSettings, engine: Engine, progress: Callable[[str], None], wanted: Recipe) -> None:
    started = time.monotonic()
    for left in _work_folder(settings).glob("image-*"):  # by a build that was killed
        shutil.rmtree(left, ignore_errors=True)
    progress(f"building the host image from {wanted.distribution.image_name} packages (about a minute, once)")
    with tempfile.TemporaryDirectory(prefix="image-", dir=_work_folder(settings)) as work:
        archive = _bootstrap(wanted, Path(work), settings)
        progress(f"importing the host image ({archive.stat().st_size >> 20} MiB)")
        engine.import_image(archive, wanted.tag, {"labtool.image": wanted.hash, CLOUD_LABEL: settings.name})
    for tag in engine.images(settings.name):
        if tag != wanted.tag:
            engine.remove_image(tag)  # of an older recipe; stays while a host uses it
    progress(f"host image ready in {time.monotonic() - started:.0f} s: {wanted.tag}")


def _work_folder(settings: LocalSettings) -> Path:
    folder = settings.state / "image"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _own_files(system: Distribution) -> tuple[HostFile, ...]:
    source = package_files("labtool.localcloud") / "hostimage"

    def read(name: str) -> bytes:
        return (source / name).read_bytes()

    programs = ("labtool-first-boot", "labtool-user-data", "labtool-cloud-config", "apt-proxy")
    units = ("labtool-first-boot.service", "labtool-user-data.service")
    login = system.login
    sudoers = f"Defaults env_file=/etc/environment\n{login} ALL=(ALL) NOPASSWD:ALL\n"
    apt = (
        'Acquire::http::Proxy-Auto-Detect "/usr/lib/labtool/apt-proxy";\n'
        'Acquire::Languages "none";\nAPT::Install-Recommends "true";\nAPT::Periodic::Enable "0";\n'
    )
    return (
        *(HostFile(f"/usr/lib/labtool/{name}", read(name), 0o755) for name in programs),
        *(HostFile(f"/etc/systemd/system/{name}", read(name)) for name in units),
        HostFile("/usr/lib/systemd/system-shutdown/labtool", read("labtool-shutdown"), 0o755),
        HostFile("/usr/lib/systemd/system-environment-generators/50-labtool", read("labtool-environment"), 0o755),
        HostFile("/usr/lib/labtool/login", login.encode() + b"\n"),
        HostFile("/etc/ssh/sshd_config.d/10-labtool.conf", read("sshd.conf")),
        HostFile("/etc/systemd/journald.conf.d/10-labtool.conf", read("journald.conf")),
        HostFile("/etc/apt/apt.conf.d/90labtool", apt.encode()),
        HostFile(f"/etc/sudoers.d/90-{login}", sudoers.encode(), 0o440),
        HostFile("/etc/default/locale", b"LANG=C.UTF-8\n"),
        HostFile("/etc/hosts", b"127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"),
    )


def _finish(wanted: Recipe) -> str:
    """Return the shell script that turns the unpacked packages (in `$1`) into the image."""
    login = wanted.distribution.login
    lines = [
        "set -eu",
        'root="$1"',
        f'chroot "$root" useradd --create-home --shell /bin/bash --groups sudo,systemd-journal,adm {login}',
        'chroot "$root" update-ca-certificates >/dev/null 2>&1',
        # mmdebstrap's copies of the sources; ours are there under their own names.
        'rm -f "$root"/etc/apt/sources.list.d/0000*',
        'rm -f "$root"/etc/ssh/ssh_host_* "$root"/etc/machine-id "$root"/var/lib/dbus/machine-id',
        # An empty file is filled at boot: each host has an id of its own.
        ': >"$root"/etc/machine-id',
        'mkdir -p "$root"/var/lib/labtool/seed "$root"/var/lib/labtool/out "$root"/var/log/journal',
        'ln -sf /usr/share/zoneinfo/UTC "$root"/etc/localtime',
        'ln -sf /lib/systemd/system/multi-user.target "$root"/etc/systemd/system/default.target',
        *(f'ln -sf /dev/null "$root"/etc/systemd/system/{unit}' for unit in _MASKED),
        f'systemctl --root="$root" --quiet enable {" ".join(_ENABLED)}',
        f'systemctl --root="$root" --quiet disable {" ".join(_DISABLED)}',
        # The package lists stay: apt-get install works in a new host without an update first.
        'rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/log/apt/* "$root"/tmp/*',
    ]
    return "\n".join(lines) + "\n"


def _bootstrap(wanted: Recipe, work: Path, settings: LocalSettings) -> Path:
    """Run mmdebstrap in `work`; return the root filesystem's tar archive."""
    if shutil.which("mmdebstrap") is None:
        raise LocalCloudError("mmdebstrap is not installed", "sudo apt-get install mmdebstrap")
    overlay = work / "files"
    for file in wanted.files:
        target = overlay / file.path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.content)
        target.chmod(file.mode)
    for folder in [overlay, *(path for path in overlay.rglob("*") if path.is_dir())]:
        folder.chmod(stat.S_IRWXU | stat.S_IRGRP | stat.S_IXGRP | stat.S_IROTH | stat.S_IXOTH)
    finish = work / "finish"
    finish.write_text(_finish(wanted))
    copy = work / "copy"
    # --no-overwrite-dir: a folder that a package made keeps its owner and mode.
    copy.write_text(f'set -eu\ntar -C "{overlay}" --owner=0 --group=0 -c . | tar -C "$1" -xp --no-overwrite-dir\n')
    archive = work / "root.tar"
    log = settings.state / "image" / "build.log"
    command = mmdebstrap_command(wanted, overlay, copy, finish, archive)
    with log.open("w") as output:
        output.write(json.dumps(command) + "\n")
        output.flush()
        done = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=False)
    if done.returncode != 0:
        said = log.read_text(errors="replace")
        if os.strerror(errno.ENOSPC) in said:
            raise LocalCloudError(
                f"the host image could not be built: no space is left below {work} or the system's temporary folder",
                "free 4 GiB there (`df -h`), or set local.state to a folder on another disk",
            )
        last = [line for line in said.splitlines() if line.startswith("E:")][:2]
        raise LocalCloudError(
            f"the host image could not be built: {'; '.join(last) or f'mmdebstrap ended with {done.returncode}'}",
            f"see {log}; if packages were not found, run `sudo apt-get update` and check the machine's apt sources",
        )
    return archive


def mmdebstrap_command(wanted: Recipe, overlay: Path, copy: Path, finish: Path, archive: Path) -> list[str]:
    """Return the command that makes the root filesystem (no root needed to read it: that is the dry run)."""
    options = sorted(overlay.glob("etc/apt/apt.conf.d/80*"))
    sources = [overlay / "etc/apt/sources.list", *sorted(overlay.glob("etc/apt/sources.list.d/*.sources"))]
    return [
        "mmdebstrap",
        "--mode=root",
        "--variant=minbase",
        "--format=tar",
        f"--include={','.join(wanted.packages)}",
        *(f"--aptopt={file}" for file in options),
        "--aptopt=Acquire::Languages none",
        "--dpkgopt=path-exclude=/usr/share/man/*",
        "--dpkgopt=path-exclude=/usr/share/doc/*",
        "--dpkgopt=path-exclude=/usr/share/locale/*",
        "--dpkgopt=path-exclude=/usr/share/info/*",
        "--skip=cleanup/apt",
        # Java's packages want to link their manual pages into this folder.
        '--setup-hook=mkdir -p "$1"/usr/share/man/man1 "$1"/etc/apt/auth.conf.d',
        f'--setup-hook=cp {overlay}/etc/apt/auth.conf.d/* "$1"/etc/apt/auth.conf.d/ 2>/dev/null || true',
        f'--customize-hook=sh {copy} "$1"',
        f'--customize-hook=sh {finish} "$1"',
        wanted.distribution.codename,
        str(archive),
        *(str(file) for file in sources if file.is_file()),
    ]
