"""The lab's key pair, and the host keys of its instances, known before the first connection.

A host's public keys are read from its console output, where cloud-init (and the local cloud) writes them between
two marks: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/connection-prereqs-general.html
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from labtool import config
from labtool.cloud import parallel, tags
from labtool.cloud.session import Session, error_code, told_clearly
from labtool.errors import CloudError, LabtoolError
from labtool.files import write_text
from labtool.ssh import Access
from labtool.topology import Host

SOCKET_FOLDER_MOST = 108 - 1 - len("/255.255.255.255") - len(".0123456789abcdef") - 1
"""A Unix socket's path ends at 108 characters (unix(7)); ssh adds a suffix while it connects."""
HOST_KEYS = "host-keys"
CONSOLE_PACE = (15.0, 80.0)
"""GetConsoleOutput a second, and at once: EC2 admits 20 and 100."""
KEYS = re.compile(r"-----BEGIN SSH HOST KEY KEYS-----(.*?)-----END SSH HOST KEY KEYS-----", re.DOTALL)
KEY = re.compile(r"((?:ssh|ecdsa)-[a-z0-9-]+) (AAAA[A-Za-z0-9+/=]+)")


def lab_folder(session: Session, lab: str) -> Path:
    """Return the folder of what this user keeps about a lab: key, host keys, launch journal, lock."""
    folder = _folder_of(session, lab)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def known(session: Session, lab: str) -> bool:
    """Tell whether this user has had the lab: something is kept about it, ended or not."""
    return _folder_of(session, lab).exists()


def _folder_of(session: Session, lab: str) -> Path:
    return config.home() / "labs" / f"{session.target.cloud}-{session.target.region}" / lab


def access(session: Session, lab: str) -> Access:
    """Return how to reach the hosts of `lab`."""
    folder = lab_folder(session, lab)
    short = hashlib.sha256(str(folder).encode()).hexdigest()[:8]
    control = config.cache() / "ssh" / short
    if len(str(control)) > SOCKET_FOLDER_MOST:
        control = Path(tempfile.gettempdir()) / f"labtool-{os.getuid()}" / short
        control.parent.mkdir(exist_ok=True, mode=0o700)
        if control.parent.stat().st_uid != os.getuid():
            raise LabtoolError(f"{control.parent} belongs to another user", "set XDG_CACHE_HOME to a short path")
    control.mkdir(parents=True, exist_ok=True, mode=0o700)
    return Access(folder / "id_ed25519", folder / "known_hosts", control, session.target.proxy_jump)


def pair_name(lab: str) -> str:
    """Return the name of the lab's key pair and security group."""
    return f"labtool-{lab}"


def ensure_key(session: Session, lab: str, expires: datetime | None = None) -> str:
    """Make the lab's key pair where it is missing and return its name.

    The private key never leaves this user's folder (mode 0600).
    """
    key = access(session, lab).key
    name = pair_name(lab)
    with told_clearly(f"reading key pair {name}"):
        found = session.ec2.describe_key_pairs(Filters=[{"Name": "key-name", "Values": [name]}], IncludePublicKey=True)[
            "KeyPairs"
        ]
    if found and key.exists():
        theirs = found[0].get("PublicKey", "").split()[:2]
        ours = key.with_suffix(".pub").read_text().split()[:2]
        if theirs and theirs[1:] != ours[1:]:
            raise CloudError(
                f"key pair {name} is not the one in {key}",
                "another user or machine made this lab; choose another name with --lab, or end it there",
            )
        return name
    if found:
        raise CloudError(
            f"lab {lab} was made elsewhere: its key pair {name} exists, but not its private key {key}",
            "copy the key here, choose another name with --lab, or end the lab with `labtool down`",
        )
    if not key.exists():
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(key)], check=True)
    belongs = {tags.LAB: lab} | ({tags.EXPIRES: tags.time_text(expires)} if expires else {})
    with told_clearly(f"importing key pair {name}"):
        try:
            session.ec2.import_key_pair(
                KeyName=name,
                PublicKeyMaterial=key.with_suffix(".pub").read_bytes(),
                TagSpecifications=[{"ResourceType": "key-pair", "Tags": tags.to_list(belongs)}],
            )
        except Exception as error:
            if error_code(error) != "InvalidKeyPair.Duplicate":
                raise
    return name


def find_pairs(session: Session, lab: str) -> list[dict[str, Any]]:
    """Return the lab's key pairs: one, or none."""
    with told_clearly("reading the key pairs"):
        answer = session.ec2.describe_key_pairs(Filters=[{"Name": f"tag:{tags.LAB}", "Values": [lab]}])
    return list(answer["KeyPairs"])


def need_key(session: Session, lab: str) -> Access:
    """Return the access to a lab that exists; say so where its private key is not here."""
    found = access(session, lab)
    if not found.key.exists():
        raise LabtoolError(
            f"the private key of lab {lab} is not on this machine ({found.key})",
            "copy it from where the lab was started",
        )
    return found


def host_keys(console: str) -> list[tuple[str, str]]:
    """Read (type, base64 key) pairs from a console's text; the last block wins (a host that booted twice)."""
    blocks = KEYS.findall(console)
    return KEY.findall(blocks[-1]) if blocks else []


def learned(session: Session, lab: str) -> dict[str, str]:
    """Return the host keys that are known already, by instance: the lines of a file each."""
    folder = _folder_of(session, lab) / HOST_KEYS
    return {file.name: file.read_text() for file in folder.glob("i-*")}


def learn(session: Session, lab: str, hosts: Iterable[Host], already: Mapping[str, str] | None = None) -> list[Host]:
    """Read the host keys of `hosts` that are not known yet and write known_hosts.

    `already`: what `learned` returned, if it was asked before. Returns the hosts whose console does not show their keys
    yet.
    """
    known = access(session, lab).known_hosts
    folder = known.with_name(HOST_KEYS)
    folder.mkdir(exist_ok=True, mode=0o700)
    hosts = list(hosts)
    keys = dict(learned(session, lab) if already is None else already)
    pace = session.pace("GetConsoleOutput", *CONSOLE_PACE)

    def read(host: Host) -> bool:
        pace.wait()
        text = "".join(f"{kind} {key}\n" for kind, key in host_keys(console_output(session, host.instance_id)))
        if text:
            write_text(folder / host.instance_id, text, mode=0o600)
            keys[host.instance_id] = text
        return bool(text)

    unknown = [host for host in hosts if host.instance_id not in keys]
    waiting = [host for host, shown in zip(unknown, parallel.each(read, unknown), strict=True) if not shown]
    lines = [f"{host.address} {line}" for host in hosts for line in keys.get(host.instance_id, "").splitlines()]
    # Hosts that this call did not name keep their lines.
    addresses = {host.address for host in hosts}
    before = known.read_text().splitlines() if known.exists() else []
    kept = [line for line in before if line.split(" ", 1)[0] not in addresses]
    if kept + lines != before:
        write_text(known, "".join(line + "\n" for line in kept + lines), mode=0o600)
    return waiting


def console_output(session: Session, instance_id: str) -> str:
    """Return the console's text so far; '' before there is any."""
    with told_clearly(f"reading the console of {instance_id}"):
        try:
            answer = session.ec2.get_console_output(InstanceId=instance_id, Latest=True)
        except Exception as error:
            # Instances that are not built on Nitro have no "latest" output.
            if error_code(error) == "InvalidInstanceID.NotFound":
                return ""  # new: not every server of EC2 knows it yet
            if error_code(error) not in {"UnsupportedOperation", "InvalidParameterCombination"}:
                raise
            answer = session.ec2.get_console_output(InstanceId=instance_id)
    text = answer.get("Output") or ""
    if text and "-----" not in text and " " not in text.strip():
        text = base64.b64decode(text).decode(errors="replace")
    return text


def forget(session: Session, lab: str) -> None:
    """Remove what this user keeps about a lab that is gone."""
    known = access(session, lab)
    shutil.rmtree(known.control, ignore_errors=True)
    for path in (known.key, known.key.with_suffix(".pub"), known.known_hosts):
        path.unlink(missing_ok=True)
    shutil.rmtree(known.known_hosts.with_name(HOST_KEYS), ignore_errors=True)
