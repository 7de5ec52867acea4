"""The instance metadata service (IMDS), versions 1 and 2: requests in, answers out, no sockets.

A host is told by its source address. A session token is the end of its life signed with a key of this cloud and
bound to the instance, so nothing of it is stored and it stays good when this process restarts.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import struct
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from moto.backends import get_backend

from labtool.files import write_bytes
from labtool.localcloud import metadata_tree
from labtool.localcloud.ec2_backend import LabEC2Backend
from labtool.localcloud.role_credentials import RoleCredentials

TOKEN_PATH = "/latest/api/token"  # noqa: S105 -- a path, no password
TTL_HEADER = "X-aws-ec2-metadata-token-ttl-seconds"
TOKEN_HEADER = "X-aws-ec2-metadata-token"  # noqa: S105 -- a header's name
LONGEST_TTL_S = 21_600
_SEEN = frozenset(("pending", "running", "stopping", "shutting-down"))


@dataclass(frozen=True)
class Answer:
    """What is sent back."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    hops: int | None = None  # the IP time to live of this answer; None is the machine's default


class Tokens:
    """Session tokens, signed with `key`."""

    def __init__(self, key: bytes, clock: Callable[[], float] = time.time) -> None:
        self._key, self._clock = key, clock

    def issue(self, instance_id: str, ttl_s: int) -> str:
        """Return a token that the instance may use for `ttl_s` seconds."""
        ends = struct.pack(">d", self._clock() + ttl_s)
        return base64.urlsafe_b64encode(ends + self._sign(instance_id, ends)).decode()

    def good(self, token: str, instance_id: str) -> bool:
        """Tell whether `token` is the instance's and its time not over."""
        try:
            raw = base64.urlsafe_b64decode(token.encode())
            ends: float = struct.unpack(">d", raw[:8])[0]
        except (ValueError, struct.error):
            return False
        return hmac.compare_digest(raw[8:], self._sign(instance_id, raw[:8])) and self._clock() < ends

    def _sign(self, instance_id: str, ends: bytes) -> bytes:
        return hmac.digest(self._key, ends + instance_id.encode(), hashlib.sha256)


def token_key(file: Path) -> bytes:
    """Return this cloud's key, made at its first start."""
    try:
        return file.read_bytes()
    except FileNotFoundError:
        key = os.urandom(32)
        write_bytes(file, key, 0o600)
        return key


class Metadata:
    """Answers for all instances of `ec2`, whose lock is `lock`."""

    def __init__(self, ec2: LabEC2Backend, lock: threading.RLock, tokens: Tokens, credentials: RoleCredentials) -> None:
        self._ec2, self._lock, self._tokens, self._credentials = ec2, lock, tokens, credentials

    def answer(self, method: str, target: str, headers: Mapping[str, str], source: str) -> Answer:
        """Answer one request of the host with address `source`; header names in any case."""
        given = {name.lower(): value for name, value in headers.items()}
        path = unquote(urlsplit(target).path)
        with self._lock:
            instance = self._instance(source)
            if instance is None:
                return _error(404)
            options = instance.metadata_options
            if options.http_endpoint == "disabled":
                return _error(403)
            if path.rstrip("/") == TOKEN_PATH:
                return self._token(method, given, instance)
            if method not in ("GET", "HEAD"):
                return _error(405)
            token = given.get(TOKEN_HEADER.lower())
            if token is None and options.http_tokens == "required":
                return _error(401)
            if token is not None and not self._tokens.good(token, instance.id):
                return _error(401)
            return self._read(path, instance)

    def _token(self, method: str, headers: Mapping[str, str], instance: Any) -> Answer:
        if method != "PUT":
            return Answer(405, _page(405), {"Allow": "OPTIONS, PUT"})
        if "x-forwarded-for" in headers:
            return _error(403)  # what an open proxy on the host would send
        ttl = headers.get(TTL_HEADER.lower(), "")
        if not (ttl.isascii() and ttl.isdigit()) or not 1 <= int(ttl) <= LONGEST_TTL_S:
            return _error(400)
        token = self._tokens.issue(instance.id, int(ttl))
        hops = int(instance.metadata_options.http_put_response_hop_limit)
        return Answer(200, token.encode(), {TTL_HEADER: ttl}, hops=hops)

    def _read(self, path: str, instance: Any) -> Answer:
        if path == "/":
            return _text("\n".join(metadata_tree.VERSIONS))
        version, _, rest = path.lstrip("/").partition("/")
        if version not in metadata_tree.VERSIONS:
            return _error(404)
        facts = self._facts(instance)
        if not rest:
            return _text("\n".join(["dynamic", "meta-data", *(["user-data"] if facts.user_data is not None else [])]))
        if rest == "user-data":
            return _error(404) if facts.user_data is None else Answer(200, facts.user_data, _OCTETS)
        found = metadata_tree.look_up(metadata_tree.root(facts), rest)
        return _error(404) if found is None else _text(found)

    def _instance(self, address: str) -> Any | None:
        return next(
            (i for i in self._ec2.all_instances() if i.private_ip == address and i.state in _SEEN),
            None,
        )

    def _facts(self, instance: Any) -> metadata_tree.Facts:
        key = self._ec2.key_pairs.get(instance.key_name) if instance.key_name else None
        public = None
        if key is not None:
            material = key.material_public
            public = (material.decode() if isinstance(material, bytes) else str(material)).strip() + "\n"
        zones = {zone.name: zone.zone_id for zone in self._ec2.describe_availability_zones()}
        shown = instance.metadata_options.instance_metadata_tags == "enabled"
        return metadata_tree.Facts(
            instance=instance,
            zone_id=zones.get(instance.availability_zone, ""),
            partition="aws",
            public_key=public,
            profile=self._profile(instance),
            user_data=base64.b64decode(str(instance.user_data)) if instance.user_data else None,
            tags={tag["key"]: tag["value"] for tag in instance.get_tags()} if shown else {},
        )

    def _profile(self, instance: Any) -> metadata_tree.Profile | None:
        association = self._ec2.iam_instance_profile_associations.get(instance.id)
        if association is None:
            return None
        # Asked for by name: what the association holds is how the profile was when it was associated.
        iam = get_backend("iam")[self._ec2.account_id]["aws"]
        name = association.iam_instance_profile.name
        profile = next((each for each in iam.get_instance_profiles() if each.name == name), None)
        if profile is None:
            return None
        role = next(iter(profile.roles), None)
        issued = self._credentials.of(instance.id, role.arn) if role is not None else None
        return metadata_tree.Profile(
            arn=profile.arn,
            id=profile.id,
            role=role.name if role is not None else None,
            credentials=issued.document() if issued is not None else None,
            updated=issued.made if issued is not None else profile.create_date,
        )


_OCTETS = {"Content-Type": "application/octet-stream"}
_TITLES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
}


def _text(text: str) -> Answer:
    return Answer(200, text.encode(), {"Content-Type": "text/plain"})


def _error(status: int) -> Answer:
    return Answer(status, _page(status), {"Content-Type": "text/html"})


def _page(status: int) -> bytes:
    title = f"{status} - {_TITLES[status]}"
    return (
        '<?xml version="1.0" encoding="iso-8859-1"?>\n<html xmlns="http://www.w3.org/1999/xhtml" xml:lang="en" '
        f'lang="en">\n <head>\n  <title>{title}</title>\n </head>\n <body>\n  <h1>{title}</h1>\n </body>\n</html>\n'
    ).encode()
